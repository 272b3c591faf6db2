//! The sessions of agents, found where they keep them or in a folder that is named.

mod common;

use common::{fixture, json_of, stderr, stdout, thread_budget};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const GARDEN: &str = "5b0c9f1e-3d1a-4a86-9a53-0d6f6a1b2c3d";
const CONTINUED: &str = "77777777-3d1a-4a86-9a53-0d6f6a1b2c3d";
const LIBRARY: &str = "019f0000-0000-7000-8000-000000000001";

fn at_home() -> assert_cmd::Command {
    let mut command = thread_budget();
    command
        .arg("replay")
        .env("CLAUDE_CONFIG_DIR", fixture("home/claude"))
        .env("CODEX_HOME", fixture("home/codex"));
    command
}

/// A thread of the summary.
fn thread<'a>(summary: &'a Value, id: &str) -> &'a Value {
    let threads = summary["top"].as_array().expect("a list");
    threads
        .iter()
        .find(|thread| thread["thread_id"] == id)
        .unwrap_or_else(|| panic!("no {id} in {summary:#}"))
}

#[test]
fn sessions_are_found_and_their_sub_agents_are_below_them() {
    let output = at_home().args(["--output=json", "--max-tokens=3000"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let summary = json_of(&output);
    // What a session was continued from, what was asked aside, and a fork's history count once.
    assert_eq!((&summary["requests"], &summary["skipped"]), (&json!(8), &json!(1)));
    assert_eq!(summary["threads"], 5);
    assert_eq!(thread(&summary, GARDEN)["total_tokens"], 2_617 + 95 + 75 + 6);
    assert_eq!(thread(&summary, &format!("{GARDEN}/a1b2c3d4e5f60718a"))["parent"], GARDEN);
    assert_eq!(thread(&summary, CONTINUED)["total_tokens"], 2_050 + 7);
    let library = thread(&summary, LIBRARY);
    assert_eq!(library["total_tokens"], 2_630 + 3_040);
    assert_eq!(library["project"], "/home/ada/library");
    assert_eq!(library["refused"], json!({"request": 3, "time": "2026-03-02 11:01:05"}));
    assert_eq!(library["warned"][0]["time"], "2026-03-02 11:00:09");
    assert_eq!(
        summary["sessions"],
        json!({"number": 3, "median_tokens": 2_793, "p90_tokens": 5_670, "largest_tokens": 5_670})
    );
    let agents: Vec<&Value> =
        summary["found"].as_array().into_iter().flatten().map(|place| &place["agent"]).collect();
    assert_eq!(agents, ["Claude Code", "Codex"]);
    let skipped = format!("{CONTINUED}.jsonl:6: not JSON (EOF");
    assert!(stderr(&output).contains(&skipped), "{}", stderr(&output));
}

#[test]
fn enforcing_keeps_sessions_within_their_limit() {
    let output =
        at_home().args(["--output=json", "--max-tokens=3000", "--enforce"]).output().expect("it runs");
    let summary = json_of(&output);
    assert_eq!(
        (&summary["requests"], &summary["recorded"], &summary["refused"]),
        (&json!(8), &json!(7), &json!(1))
    );
    assert_eq!(thread(&summary, LIBRARY)["total_tokens"], 2_630);
}

#[test]
fn what_was_found_is_told() {
    let text = stdout(&at_home().args(["--max-tokens=3000"]).output().expect("it runs"));
    for expected in [
        "Claude Code 2 sessions in 3 files, ",
        "Codex 1 session in 2 files, ",
        "Claude Code, Codex replayed in ",
        "Half of the sessions use at most 2,793 tokens, 9 of 10 at most 5,670, the largest 5,670",
        "3 requests; warned of 75 % at request 2 (2026-03-02 11:00:09); warned of 90, 95 % at request 3 \
         (2026-03-02 11:01:05); refused at request 3 (2026-03-02 11:01:05), in /home/ada/library\n",
        "  …/a1b2c3d4e5f60718a",
    ] {
        assert!(text.contains(expected), "{expected} is missing: {text}");
    }
    assert!(!text.contains("Note:"), "warnings of old sessions are of no use to anybody: {text}");
}

#[test]
fn a_folder_may_be_named_and_sessions_chosen() {
    let home = fixture("home");
    for (arguments, requests) in [
        (&["--sessions", &*home][..], 8),
        (&["--sessions", &home, "--project", "library"], 3),
        (&["--sessions", &home, "--project", "nothing"], 0),
        (&["--sessions", &home, "--since", "2026-03-02T10:15"], 4),
        (&["--sessions", &home, "--since", "2026-03-02 11:00:09"], 2),
        (&["--since", "2026-03-02", "--project", "garden"], 5),
    ] {
        let output = at_home().args(arguments).arg("--output=json").output().expect("it runs");
        assert_eq!(json_of(&output)["requests"], requests, "{arguments:?} {}", stderr(&output));
    }
}

/// Sub-agents' files in the folder of their session, as Claude Code had them before 2.1.
#[test]
fn sub_agents_may_be_beside_their_session() {
    let folder = tempfile::tempdir().expect("a folder");
    let answer = |at: &str, id: &str, agent: Option<&str>| {
        json!({"type": "assistant", "sessionId": "s", "agentId": agent, "isSidechain": agent.is_some(), "requestId": id,
            "timestamp": at, "message": {"id": id, "model": "m", "usage": {"input_tokens": 90, "output_tokens": 10}}})
        .to_string()
    };
    let write = |name: &str, lines: [String; 2]| {
        fs::write(folder.path().join(name), lines.join("\n")).expect("it can be written");
    };
    write("s.jsonl", [answer("2026-03-02T10:00:01Z", "a", None), answer("2026-03-02T10:00:04Z", "d", None)]);
    let agent = Some("x");
    write(
        "agent-x.jsonl",
        [answer("2026-03-02T10:00:02Z", "b", agent), answer("2026-03-02T10:00:03Z", "c", agent)],
    );
    let output = thread_budget()
        .args([
            "replay",
            "--output=json",
            "--max-tokens=300",
            "--sessions",
            &folder.path().display().to_string(),
        ])
        .output()
        .expect("it runs");
    let summary = json_of(&output);
    assert_eq!(summary["found"][0]["sessions"], 1, "{}", stderr(&output));
    assert_eq!(thread(&summary, "s/x")["parent"], "s");
    // By then the sub-agent had used its part.
    assert_eq!(thread(&summary, "s")["refused"], json!({"request": 4, "time": "2026-03-02 10:00:04"}));
}

#[test]
fn without_sessions_there_is_the_sample_and_only_then() {
    let output = thread_budget().arg("replay").output().expect("it runs");
    assert!(stdout(&output).contains("built-in synthetic sample replayed"), "{}", stdout(&output));
    assert!(stdout(&output).contains("no sessions of Claude Code, Codex or OpenCode are on this machine"));
    let empty = tempfile::tempdir().expect("a folder");
    let empty = empty.path().display().to_string();
    for (arguments, problem) in [
        (&["--sessions", &*empty][..], "no sessions in "),
        (&["--sessions", "/no/such/folder"], "cannot read /no/such/folder: "),
        (&["--since", "7d"], "no sessions since then"),
        (&["--since", "soon"], "expected a date such as 2026-11-25"),
        (&["--sessions", &empty, "file.jsonl"], "cannot be used with"),
    ] {
        let output = thread_budget().arg("replay").args(arguments).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(problem), "{arguments:?}: {}", stderr(&output));
    }
}

/// OpenCode's tables, as far as they are read.
fn opencode(path: &Path) {
    let database = Connection::open(path).expect("a database");
    let answer = |tokens: Value| {
        json!({"role": "assistant", "modelID": "gpt-5.2", "providerID": "openai", "cost": 0, "tokens": tokens,
            "path": {"cwd": "/home/ada/attic", "root": "/"}, "time": {"created": 1_772_456_400_000_i64}})
        .to_string()
    };
    database
        .execute_batch(
            "CREATE TABLE session (id TEXT PRIMARY KEY, parent_id TEXT, time_created INTEGER, time_updated INTEGER);
             CREATE TABLE message (id TEXT PRIMARY KEY, session_id TEXT, time_created INTEGER, data TEXT);
             INSERT INTO session VALUES ('ses_a', NULL, 1772456400000, 1772456400000),
                 ('ses_b', 'ses_a', 1772456400001, 1772456400001), ('ses_c', 'ses_c', 1, 1);
             INSERT INTO message VALUES ('msg_0', 'ses_a', 0, '{\"role\":\"user\"}'), ('msg_x', 'ses_a', 0, 'no JSON')",
        )
        .expect("tables");
    for (id, session, tokens) in [
        (
            "msg_1",
            "ses_a",
            json!({"total": 12_062, "input": 7_200, "output": 52, "reasoning": 10, "cache": {"read": 4_800, "write": 0}}),
        ),
        (
            "msg_2",
            "ses_b",
            json!({"input": 90, "output": 8, "reasoning": 0, "cache": {"read": 0, "write": 7}}),
        ),
        (
            "msg_3",
            "ses_b",
            json!({"input": 0, "output": 0, "reasoning": 0, "cache": {"read": 0, "write": 0}}),
        ),
    ] {
        let row = (id, session, 1_i64, answer(tokens));
        database.execute("INSERT INTO message VALUES (?1, ?2, ?3, ?4)", row).expect("a row");
    }
}

#[test]
fn sessions_of_opencode_are_in_its_database() {
    let data = tempfile::tempdir().expect("a folder");
    fs::create_dir(data.path().join("opencode")).expect("a folder");
    let database = data.path().join("opencode/opencode.db");
    opencode(&database);
    let before = fs::read(&database).expect("it is there");
    let replay =
        || thread_budget().args(["replay", "--output=json"]).env("XDG_DATA_HOME", data.path()).output();
    let output = replay().expect("it runs");
    let summary = json_of(&output);
    assert_eq!(summary["requests"], 2, "{}", stderr(&output));
    assert_eq!(thread(&summary, "ses_a")["total_tokens"], 12_062 + 105);
    assert_eq!(thread(&summary, "ses_b")["parent"], "ses_a");
    assert_eq!(thread(&summary, "ses_b")["project"], "/home/ada/attic");
    assert_eq!(summary["found"][0]["agent"], "OpenCode");
    assert_eq!(fs::read(&database).expect("it is there"), before, "nothing was changed");

    fs::write(&database, "no database").expect("it can be written");
    let output = replay().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("opencode.db: file is not a database"), "{}", stderr(&output));
}

#[test]
fn the_page_holds_all_it_needs_and_ids_are_text_on_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("report.html");
    let evil = json!({"thread_id": "<script>alert(1)</script>\"'&\u{1b}", "prompt_tokens": 90_000, "completion_tokens": 0});
    let output = thread_budget()
        .args(["replay", "-", "--html", &page.display().to_string()])
        .write_stdin(evil.to_string())
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = fs::read_to_string(&page).expect("it was written");
    assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;\\u{1b}"), "{text}");
    for forbidden in ["<script", "<link", "<img", "http:", "https:", "url(", "@import", "\u{1b}"] {
        assert!(!text.contains(forbidden), "{forbidden}");
    }
    assert!(text.contains("default-src 'none'"));
    assert!(text.contains("aria-valuetext=\"90.0 % used, 90,000 of 100,000 tokens\""));
    assert!(text.contains("1 request; warned of 75, 90 % at request 1"));

    let at_home = at_home().args(["--html", &page.display().to_string(), "--max-tokens=3000"]).output();
    assert!(stdout(&at_home.expect("it runs")).contains("the report is in "));
    let text = fs::read_to_string(&page).expect("it was written");
    assert!(text.contains("Codex: 1 session in 2 files"), "{text}");
    let nowhere = thread_budget().args(["replay", "--html", "/no/such/folder/report.html"]).output();
    let nowhere = nowhere.expect("it runs");
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(stderr(&nowhere).contains("cannot write /no/such/folder/report.html: "), "{}", stderr(&nowhere));
}
