//! `replay --db` and `db` as a user calls them: killed, interrupted, run again, and on files that are not
//! what they should be.

mod common;

use common::{fixture, json_of, stderr, stdout, thread_budget};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;
use thread_budget_host::{BudgetWarning, HoldTerms, Registry};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// A child that can be stopped in the middle, its output in files.
fn spawn(args: &[&str], out: &Path, err: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_thread-budget"))
        .args(args)
        .stdout(File::create(out).expect("a file"))
        .stderr(File::create(err).expect("a file"))
        .spawn()
        .expect("it starts")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Every thread crosses every threshold, at times of its own.
fn long_recording(path: &Path) {
    let mut text = String::new();
    for number in 0..150_000_u64 {
        let (thread, tokens) = (number * 7 % 5_000, 3_000 + number * 31 % 1_500);
        writeln!(text, r#"{{"thread_id":"t-{thread}","prompt_tokens":{tokens},"completion_tokens":7}}"#)
            .expect("a String takes all");
    }
    fs::write(path, text).expect("it can be written");
}

/// All threads but when they were born, which comes from the clock.
fn export(database: &Path) -> Vec<String> {
    let output = thread_budget().args(["db", "export", text(database)]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let without_birth = |line: &str| {
        let mut thread: Value = serde_json::from_str(line).expect("JSON");
        thread.as_object_mut().expect("an object").remove("birth");
        thread.to_string()
    };
    let mut lines: Vec<String> = stdout(&output).lines().map(without_birth).collect();
    lines.sort();
    lines
}

/// The warnings of a run, which end with a blank line or where it was stopped.
fn warnings(printed: &str) -> Vec<String> {
    let complete = printed.rfind('\n').map_or("", |end| &printed[..=end]);
    complete.lines().take_while(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The summary without what only a replay with a database tells, or only one without.
fn without_resumption(mut summary: Value) -> Value {
    summary.as_object_mut().expect("an object").remove("resumed_after");
    for thread in summary["top"].as_array_mut().into_iter().flatten() {
        let thread = thread.as_object_mut().expect("an object");
        thread.retain(|field, _| !matches!(&**field, "requests" | "warned" | "refused"));
    }
    summary
}

/// Stop a replay again and again, and then let it end: all is counted once, every warning printed, and
/// printed twice only where it says so.
#[cfg(unix)]
fn stopped_again_and_again(signal: &str, repeats: bool) {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let (recording, database) = (at("usage.jsonl"), at("stopped.db"));
    long_recording(&recording);
    let whole = thread_budget().args(["replay", text(&recording)]).output().expect("it runs");
    let expected = warnings(&stdout(&whole));
    assert_eq!(expected.len(), 15_000);

    let mut printed: Vec<String> = Vec::new();
    let mut stopped = 0;
    let (out, err) = (at("out"), at("err"));
    for run in 0..60 {
        let mut child = spawn(&["replay", text(&recording), "--db", text(&database)], &out, &err);
        if run < 25 {
            let random = RandomState::new().hash_one(run);
            thread::sleep(Duration::from_micros(random % 100_000));
            let kill = Command::new("kill").args([signal, &child.id().to_string()]).status();
            assert!(kill.is_ok());
        }
        let status = child.wait().expect("it ends");
        let said = fs::read_to_string(&err).expect("UTF-8");
        let lines = warnings(&String::from_utf8_lossy(&fs::read(&out).expect("a file")));
        let again = said.split_once(" warnings of a replay that was stopped").map(|(number, _)| number);
        if let Some(again) = again {
            assert!(repeats, "nothing is left open after {signal}: {said}");
            let again: usize = again.parse().expect("a number");
            let first = lines.first().and_then(|first| expected.iter().position(|line| line == first));
            let first = first.unwrap_or(printed.len());
            assert!(printed.len() <= first + again, "only what was not told to be printed comes again");
            printed.truncate(first);
        }
        printed.extend(lines);
        assert_eq!(printed, expected[..printed.len()], "run {run}: {said}");
        match status.code() {
            Some(0) => break,
            None | Some(130) => stopped += 1,
            code => panic!("run {run} ended with {code:?}: {said}"),
        }
    }
    assert!(stopped > 0, "it was stopped at least once");
    assert_eq!(printed, expected);

    let whole = thread_budget()
        .args(["replay", text(&recording), "--output=json", "--db", text(&at("whole.db"))])
        .output()
        .expect("it runs");
    let again = thread_budget()
        .args(["replay", text(&recording), "--output=json", "--db", text(&database)])
        .output()
        .expect("it runs");
    assert_eq!(json_of(&again)["resumed_after"], 150_000);
    assert_eq!(without_resumption(json_of(&again)), without_resumption(json_of(&whole)));
    assert_eq!(export(&database), export(&at("whole.db")));
}

#[cfg(unix)]
#[test]
fn a_kill_loses_nothing_and_counts_nothing_twice() {
    stopped_again_and_again("-KILL", true);
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_nothing_open() {
    stopped_again_and_again("-INT", false);
}

/// Whoever is killed while the database is made leaves none, or one that is sound.
#[test]
fn a_kill_while_the_database_is_made_leaves_no_half_of_one() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    for run in 0..40 {
        let database = at(&format!("{run}.db"));
        let mut child = spawn(&["replay", "--db", text(&database)], &at("out"), &at("err"));
        thread::sleep(Duration::from_micros(RandomState::new().hash_one(run) % 30_000));
        child.kill().expect("it runs, or has ended");
        child.wait().expect("it ends");
        if database.exists() {
            examine(&database, &Expected::Sound);
        }
    }
}

#[test]
fn a_finished_recording_is_done_and_another_adds_up() {
    let folder = folder();
    let database = folder.path().join("budgets.db");
    let replay = |file: &str| {
        let output = thread_budget()
            .args(["replay", file, "--max-tokens=1000", "--db", text(&database), "--output=json"])
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        json_of(&output)
    };
    let first = replay(&fixture("own.jsonl"));
    assert_eq!((&first["resumed_after"], &first["requests"]), (&json!(0), &json!(4)));
    assert_eq!(first["total_tokens"], 1_085);

    let again = replay(&fixture("own.jsonl"));
    assert_eq!((&again["resumed_after"], &again["requests"]), (&json!(4), &json!(4)));
    assert_eq!(without_resumption(again), without_resumption(first));

    let other = replay(&fixture("own.csv"));
    assert_eq!((&other["resumed_after"], &other["requests"]), (&json!(0), &json!(4)));
    assert_eq!(other["total_tokens"], 2 * 1_085, "the tokens are all that the database holds");
    assert_eq!(replay(&fixture("own.jsonl"))["total_tokens"], 2 * 1_085);

    let database = folder.path().join("printed.db");
    let replay = || {
        let args = ["replay", &fixture("own.jsonl"), "--max-tokens=1000", "--db", text(&database)];
        thread_budget().args(args).output().expect("it runs")
    };
    assert_eq!(warnings(&stdout(&replay())).len(), 3);
    let again = replay();
    assert!(stdout(&again).contains("all of it was counted before"), "{}", stdout(&again));
    assert_eq!((warnings(&stdout(&again)).len(), stderr(&again)), (0, String::new()));
}

/// The recording grows, moves, is repaired where it was not counted, and is changed where it was.
#[test]
fn a_recording_is_known_by_its_bytes() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let database = at("budgets.db");
    let replay = |file: &Path| {
        let args = ["replay", text(file), "--db", text(&database), "--output=json"];
        thread_budget().args(args).output().expect("it runs")
    };
    let line =
        |tokens| format!("{{\"thread_id\":\"a\",\"prompt_tokens\":{tokens},\"completion_tokens\":0}}\n");
    let csv = |tokens: &[u64]| {
        let rows: String = tokens.iter().map(|tokens| format!("a,{tokens},0\r\n\r\n")).collect();
        format!("\u{FEFF}\r\nthread_id,prompt_tokens,completion_tokens\r\n{rows}")
    };

    let (recording, moved) = (at("a.jsonl"), at("moved.jsonl"));
    fs::write(&recording, format!("\n{}{}bad\n", line(1), line(2))).expect("written");
    let output = replay(&recording);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains(":4: the line does not start with {"), "{}", stderr(&output));
    assert_eq!(json_of(&output)["total_tokens"], 3);

    fs::write(&recording, format!("\n{}{}{}", line(1), line(2), line(4).trim_end())).expect("written");
    assert_eq!(json_of(&replay(&recording))["total_tokens"], 7);
    fs::rename(&recording, &moved).expect("moved");
    fs::write(&moved, format!("\n{}{}{}{}", line(1), line(2), line(4), line(8))).expect("written");
    let summary = json_of(&replay(&moved));
    assert_eq!((&summary["total_tokens"], &summary["resumed_after"]), (&json!(15), &json!(3)));

    fs::write(&moved, format!("\n{}{}{}{}", line(1), line(3), line(4), line(8))).expect("written");
    let output = replay(&moved);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("has changed in what was counted of it before, 4 records"));
    fs::write(&moved, line(1)).expect("written");
    assert_eq!(replay(&moved).status.code(), Some(2), "cut off is changed too");

    let rows = at("a.csv");
    fs::write(&rows, csv(&[16])).expect("written");
    assert_eq!(json_of(&replay(&rows))["total_tokens"], 31);
    fs::write(&rows, csv(&[16, 32])).expect("written");
    let summary = json_of(&replay(&rows));
    assert_eq!((&summary["total_tokens"], &summary["resumed_after"]), (&json!(63), &json!(1)));
}

#[test]
fn standard_input_is_always_another_recording_and_the_sample_the_same() {
    let folder = folder();
    let database = folder.path().join("budgets.db");
    let args = ["--db", text(&database), "--output=json"];
    for times in 1..=2 {
        let output = thread_budget()
            .args(["replay", "-"])
            .args(args)
            .write_stdin(fs::read(fixture("own.jsonl")).expect("a fixture"))
            .output()
            .expect("it runs");
        assert_eq!(json_of(&output)["total_tokens"], times * 1_085, "{}", stderr(&output));
    }
    let sample = || json_of(&thread_budget().arg("replay").args(args).output().expect("it runs"));
    let (first, again) = (sample(), sample());
    assert_eq!(again["resumed_after"], first["requests"]);
    assert_eq!(again["total_tokens"], first["total_tokens"]);

    let header = thread_budget().args(["replay", "-"]).args(args).write_stdin("when,what\n").output();
    let header = header.expect("it runs");
    assert_eq!(header.status.code(), Some(2));
    assert!(stderr(&header).contains("standard input:1: no column prompt_tokens"), "{}", stderr(&header));
}

/// What comes in slowly is recorded and told of while the input goes on.
#[test]
fn a_stream_is_recorded_as_it_comes() {
    let folder = folder();
    let database = folder.path().join("budgets.db");
    let mut child = Command::new(env!("CARGO_BIN_EXE_thread-budget"))
        .args(["replay", "-", "--db", text(&database)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("a pipe");
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    input
        .write_all(b"{\"thread_id\":\"live\",\"prompt_tokens\":80000,\"completion_tokens\":0}\n")
        .expect("it reads");
    let mut line = String::new();
    output.read_line(&mut line).expect("it prints");
    assert!(line.starts_with("live Note: 80%"), "{line}");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert!(export(&database)[0].contains("\"prompt_tokens\":80000"));
}

#[test]
fn enforcing_refuses_the_same_with_a_database() {
    let folder = folder();
    let recording = folder.path().join("usage.jsonl");
    long_recording(&recording);
    let replay = |more: &[&str]| {
        let args = ["replay", text(&recording), "--enforce", "--max-tokens=50000", "--output=json"];
        json_of(&thread_budget().args(args).args(more).output().expect("it runs"))
    };
    let plain = without_resumption(replay(&[]));
    assert!(plain["refused"].as_u64() > Some(1_000));
    for durability in ["--durability=immediate", "--durability=batched"] {
        let database = folder.path().join(durability);
        assert_eq!(without_resumption(replay(&["--db", text(&database), durability])), plain);
    }
}

#[test]
fn settings_are_those_of_threads_to_come() {
    let folder = folder();
    let database = folder.path().join("budgets.db");
    let replay = |file: &str, more: &[&str]| {
        let args = ["replay", file, "--db", text(&database)];
        assert!(thread_budget().args(args).args(more).output().expect("it runs").status.success());
    };
    replay(&fixture("own.jsonl"), &["--max-tokens=2000", "--threshold=50=final"]);
    replay(&fixture("azure.csv"), &["--thread=azure", "--max-tokens=3000"]);
    let output = thread_budget().args(["db", "show", text(&database), "--output=json"]).output();
    let shown = json_of(&output.expect("it runs"));
    assert_eq!(shown["thresholds"], json!([{"percent": 50, "severity": "final"}]));
    assert_eq!(shown["max_tokens_per_thread"], 3_000);
    let limits: Vec<_> = shown["top"].as_array().expect("a list").iter().map(|t| &t["max_tokens"]).collect();
    assert_eq!(limits, [3_000, 2_000, 2_000]);
}

/// A database with a tree, an own limit, request ids and warnings that were taken in part.
fn filled(path: &Path) {
    let registry = Registry::builder().database(path).tokens_per_thread(1_000).max_threads(50).build();
    let registry = registry.expect("it opens").blocking();
    let options = |max_tokens, parent: Option<&str>| thread_budget_host::ThreadOptions {
        max_tokens,
        parent: parent.map(str::to_owned),
    };
    registry.open_thread("team", &options(Some(2_000), None)).expect("opened");
    registry.open_thread("writer", &options(None, Some("team"))).expect("opened");
    registry.open_thread("editor", &options(None, Some("team"))).expect("opened");
    registry.settle("writer", "request-1", 700, 60, true).expect("recorded");
    let told: Vec<_> = registry
        .pending_warnings("writer")
        .expect("no trap")
        .iter()
        .map(BudgetWarning::acknowledgement)
        .collect();
    registry.acknowledge_warnings("writer", &told).expect("acknowledged");
    registry.consume("writer", 100, 50).expect("recorded");
    registry.consume("editor", 5, 5).expect("recorded");
    registry.consume("al\u{1b}one", 400, 100).expect("recorded");
    let terms = HoldTerms {
        prompt_tokens: 15,
        completion_tokens: 20,
        least_completion_tokens: 0,
        holder: registry.holder(),
        deadline: 7,
    };
    registry.set_hold("writer", "in flight", &terms).expect("held");
}

#[test]
fn show_draws_trees_and_tells_of_warnings() {
    let folder = folder();
    let database = folder.path().join("budgets.db");
    filled(&database);
    let output = thread_budget().args(["db", "show", text(&database), "--top=3"]).output().expect("it runs");
    let shown = stdout(&output);
    for expected in [
        "  threads                              4\n",
        "  limit of a new thread            1,000\n",
        "  limit of threads                    50\n",
        "  warnings pending                     1\n",
        "  calls in flight                      1\n",
        "  tokens they hold                    35\n",
        "marked at 75 %, 90 %, 95 %\n",
        "\n  team         ██████████████████············┊·····┊·┊·     46.0 %            920 of 2,000\n    writer    ",
        "  91.0 %            910 of 1,000  not told of 90 %\n  al\\u{1b}one  ",
    ] {
        assert!(shown.contains(expected), "{expected} is missing:\n{shown}");
    }
    assert!(!shown.contains("editor"), "it is the fourth: {shown}");
    assert!(!shown.contains('\x1b'), "no colours where there is no terminal, and none out of a file");
}

#[test]
fn export_has_every_field() {
    let folder = folder();
    let database = folder.path().join("budgets.db");
    filled(&database);
    let output = thread_budget().args(["db", "export", text(&database)]).output().expect("it runs");
    let threads: Vec<Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |id: &str| threads.iter().find(|thread| thread["thread_id"] == id).expect("a thread");
    assert_eq!(threads.len(), 4);
    assert_eq!(
        of("writer"),
        &json!({
            "thread_id": "writer", "birth": of("writer")["birth"], "parent": "team", "opened": true,
            "max_tokens": 1_000, "prompt_tokens": 800, "completion_tokens": 110, "request_count": 2,
            "average_tokens": 608,
            "triggered_thresholds": [
                {"percent": 75, "severity": "warning"}, {"percent": 90, "severity": "critical"}
            ],
            "pending_thresholds": [90],
            "request_ids": ["request-1"],
            "holds": [{
                "made_for": null, "request_id": "in flight", "prompt_tokens": 15, "completion_tokens": 20,
                "completion_before": 0,
                "holder": of("writer")["holds"][0]["holder"], "deadline": 7,
            }],
            "lost": [],
        })
    );
    assert_eq!(of("al\u{1b}one")["parent"], Value::Null);
    let place = |id: &str| threads.iter().position(|thread| thread["thread_id"] == id);
    assert!(place("team") < place("writer"), "parents come first");
}

#[derive(Debug, PartialEq)]
enum Expected {
    Sound,
    Code(i32, &'static str),
}

/// Run every subcommand on the file: each says what is expected, and none changes a byte of it.
fn examine(file: &Path, expected: &Expected) {
    let before = fs::read(file).ok();
    for subcommand in ["show", "export", "verify"] {
        let output = thread_budget().args(["db", subcommand, text(file)]).output().expect("it runs");
        let said = stderr(&output);
        match expected {
            Expected::Sound => assert_eq!(output.status.code(), Some(0), "{subcommand} {file:?}: {said}"),
            Expected::Code(code, problem) => {
                assert_eq!(output.status.code(), Some(*code), "{subcommand} {file:?}: {said}");
                assert!(
                    said.starts_with("error: ") && said.contains(problem),
                    "{subcommand} {file:?}: {said}"
                );
                assert!(said.contains(text(file)), "it names the file: {said}");
                assert_eq!(stdout(&output), "");
            }
        }
        assert!(fs::read(file).ok() == before, "{subcommand} has changed {file:?}");
    }
}

#[test]
fn files_of_every_kind_stay_as_they_are() {
    let folder = folder();
    let at = |name: &str| -> PathBuf { folder.path().join(name) };
    let good = at("good.db");
    filled(&good);
    let bytes = fs::read(&good).expect("a file");
    examine(&good, &Expected::Sound);

    examine(&at("missing.db"), &Expected::Code(2, "cannot open"));
    assert!(!at("missing.db").exists());
    examine(folder.path(), &Expected::Code(2, "it is a folder"));
    for (name, content, problem) in [
        ("empty", &b""[..], "the file is empty"),
        ("text", b"thread_id,prompt_tokens,completion_tokens\n", "not a usable database"),
        ("long text", &[b'x'; 100_000], "not a usable database"),
        ("half", &bytes[..bytes.len() / 2], "not a usable database"),
        ("a page less", &bytes[..bytes.len() - 4_096], "not a usable database"),
        ("a start", &bytes[..100], "not a usable database"),
    ] {
        fs::write(at(name), content).expect("written");
        examine(&at(name), &Expected::Code(2, problem));
    }

    let read_only = at("read-only.db");
    fs::write(&read_only, &bytes).expect("written");
    let mut permissions = fs::metadata(&read_only).expect("a file").permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&read_only, permissions).expect("set");
    examine(&read_only, &Expected::Sound);

    let writer = Registry::builder().database(&good).build().expect("it opens");
    examine(&good, &Expected::Code(1, "in use"));
    let replay = thread_budget().args(["replay", "--db", text(&good)]).output().expect("it runs");
    assert_eq!(replay.status.code(), Some(1));
    assert!(stderr(&replay).contains("in use by another registry"), "{}", stderr(&replay));
    drop(writer);
    let reader = Registry::builder().database(&good).read_only().build().expect("it opens");
    examine(&good, &Expected::Sound);
    assert!(Registry::builder().database(&good).build().is_err(), "nobody writes what is read");
    reader.blocking().consume("team", 1, 1).expect("in memory");
    drop(reader);
    examine(&good, &Expected::Sound);
}

/// Whatever bit is flipped, the file is refused, or holds what it held.
#[test]
fn a_flipped_bit_is_found_or_harmless() {
    let folder = folder();
    let good = folder.path().join("good.db");
    filled(&good);
    let (bytes, expected) = (fs::read(&good).expect("a file"), export(&good));
    let flipped = folder.path().join("flipped.db");
    // Where the good file is not zero there is something to find.
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let mut found = 0;
    for at in used.iter().step_by(used.len() / 100) {
        let mut bytes = bytes.clone();
        bytes[*at] ^= 1 << (at % 8);
        fs::write(&flipped, &bytes).expect("written");
        let output = thread_budget().args(["db", "verify", text(&flipped)]).output().expect("it runs");
        assert!(fs::read(&flipped).expect("a file") == bytes, "byte {at}: it was changed");
        match output.status.code() {
            Some(0) => assert_eq!(export(&flipped), expected, "byte {at}"),
            Some(2) => found += 1,
            code => panic!("byte {at}: {code:?} {}", stderr(&output)),
        }
    }
    assert!(found > 10, "only {found} of them were found");
}
