//! `thread-budget replay` as a user calls it: every format, every kind of bad record, every way to end.

mod common;

use common::{fixture, json_of, stderr, stdout, thread_budget};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Stdio;

#[test]
fn every_format_tells_the_same_story() {
    for file in ["own.jsonl", "openai.jsonl", "own.csv"] {
        let output = thread_budget()
            .args(["replay", &fixture(file), "--max-tokens=1000", "--output=json"])
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{file}: {}", stderr(&output));
        assert_eq!(
            json_of(&output),
            json!({
                "requests": 4, "recorded": 4, "refused": 0, "skipped": 0, "threads": 2,
                "prompt_tokens": 950, "completion_tokens": 135, "total_tokens": 1_085,
                "crossed": {"warning": 1, "critical": 1, "final": 1},
                "exhausted_threads": 1,
                "top": [
                    {
                        "thread_id": "alpha", "total_tokens": 1_030, "max_tokens": 1_000, "percent_used": 103.0,
                        "requests": 3, "refused": {"request": 3},
                        "warned": [
                            {"percent": 75, "severity": "warning", "request": 2},
                            {"percent": 90, "severity": "critical", "request": 2},
                            {"percent": 95, "severity": "final", "request": 3},
                        ],
                    },
                    {
                        "thread_id": "beta", "total_tokens": 55, "max_tokens": 1_000, "percent_used": 5.5,
                        "requests": 1,
                    },
                ],
            }),
            "{file}"
        );
    }
}

#[test]
fn azure_traces_are_one_thread() {
    let output = thread_budget()
        .args(["replay", &fixture("azure.csv"), "--thread=azure", "--output=json"])
        .output()
        .expect("it runs");
    let summary = json_of(&output);
    assert_eq!(summary["requests"], 3);
    assert_eq!(summary["top"][0]["thread_id"], "azure");
    assert_eq!(summary["top"][0]["total_tokens"], 1_085);
}

#[test]
fn standard_input_and_forced_formats() {
    for (file, format) in [("own.jsonl", "jsonl"), ("openai.jsonl", "openai"), ("own.csv", "csv")] {
        let output = thread_budget()
            .args(["replay", "-", "--output=json", "--format", format])
            .write_stdin(fs::read(fixture(file)).expect("a fixture"))
            .output()
            .expect("it runs");
        assert_eq!(json_of(&output)["requests"], 4, "{format}: {}", stderr(&output));
    }
}

#[test]
fn a_byte_order_mark_and_blank_lines_are_passed_over() {
    for text in [
        "\u{FEFF}{\"thread_id\":\"a\",\"prompt_tokens\":1,\"completion_tokens\":2}\n",
        "\n \r\n\n{\"thread_id\":\"a\",\"prompt_tokens\":1,\"completion_tokens\":2}\n\n\n",
        "\u{FEFF}thread_id,prompt_tokens,completion_tokens\na,1,2\n",
    ] {
        let output = thread_budget()
            .args(["replay", "-", "--output=json"])
            .write_stdin(text)
            .output()
            .expect("it runs");
        assert_eq!(json_of(&output)["total_tokens"], 3, "{text:?} {}", stderr(&output));
    }
}

#[test]
fn enforcing_refuses_and_never_passes_the_limit() {
    let output = thread_budget()
        .args(["replay", &fixture("own.jsonl"), "--max-tokens=1000", "--enforce", "--output=json"])
        .output()
        .expect("it runs");
    let summary = json_of(&output);
    assert_eq!(
        (&summary["requests"], &summary["recorded"], &summary["refused"]),
        (&json!(4), &json!(3), &json!(1))
    );
    assert_eq!(summary["top"][0]["total_tokens"], 930);
    assert_eq!(summary["exhausted_threads"], 0);
}

#[test]
fn text_has_warnings_summary_and_bars() {
    let output = thread_budget()
        .args(["replay", &fixture("own.jsonl"), "--max-tokens=1000", "--top=1"])
        .output()
        .expect("it runs");
    let text = stdout(&output);
    assert!(
        text.starts_with(
            "alpha Note: 93% of the token budget is used, 70 tokens are left.\nalpha WARNING: 93%"
        )
    );
    assert!(text.contains("alpha CRITICAL: 103%"), "{text}");
    assert!(text.contains("requests                         4"), "{text}");
    assert!(text.contains("alpha  ██████████████████████████████▓█████▓█▓█▶   103.0 %"), "{text}");
    assert!(!text.contains("beta "), "only the first one was asked for: {text}");
    assert!(!text.contains('\x1b'), "no colours where there is no terminal");
    assert_eq!(stderr(&output), "", "no progress bar where there is no terminal");
}

#[test]
fn own_thresholds_replace_the_defaults() {
    let output = thread_budget()
        .args(["replay", &fixture("own.jsonl"), "--max-tokens=1000", "--output=json"])
        .args(["--threshold=50=final", "--threshold=5=warning"])
        .output()
        .expect("it runs");
    assert_eq!(json_of(&output)["crossed"], json!({"warning": 2, "critical": 0, "final": 1}));
}

#[test]
fn thread_ids_cannot_write_to_the_terminal() {
    let record = json!({"thread_id": "evil\u{1b}[2J\n", "prompt_tokens": 100_000, "completion_tokens": 0});
    let output =
        thread_budget().args(["replay", "-"]).write_stdin(record.to_string()).output().expect("it runs");
    let text = stdout(&output);
    assert!(text.contains(r"evil\u{1b}[2J\n"), "{text}");
    assert!(!text.contains('\x1b'));
}

#[test]
fn every_bad_record_says_where_and_what_was_expected() {
    const GOOD: &str = r#"{"thread_id":"a","prompt_tokens":1,"completion_tokens":2}"#;
    const COUNT: &str = "expected a whole number of tokens, 0 to 18446744073709551615";
    let long_id = "x".repeat(1_025);
    let with_line = |line: &str| format!("{GOOD}\n{line}\n{GOOD}\n");
    let own = |thread: &str, prompt: &str, completion: &str| {
        with_line(&format!(
            r#"{{"thread_id":{thread},"prompt_tokens":{prompt},"completion_tokens":{completion}}}"#
        ))
    };
    let csv = |row: &str| format!("thread_id,prompt_tokens,completion_tokens\na,1,2\n{row}\na,1,2\n");
    let openai = |line: &str| {
        format!(
            "{{\"thread_id\":\"a\",\"usage\":{{\"prompt_tokens\":1,\"completion_tokens\":2}}}}\n{line}\n{{\"thread_id\":\"a\",\"usage\":{{\"prompt_tokens\":1,\"completion_tokens\":2}}}}\n"
        )
    };

    let cases: Vec<(String, u64, String)> = vec![
        (with_line("oops"), 2, "the line does not start with {, expected one JSON object".into()),
        (with_line(r#"["a",null,null,null,1,2]"#), 2, "the line does not start with {".into()),
        (
            with_line(r#"{"thread_id":"a""#),
            2,
            "not JSON (EOF while parsing an object at column 16), expected one JSON object".into(),
        ),
        (with_line(r#"{"thread_id":"a"}}"#), 2, "not JSON (trailing characters at column 18)".into()),
        (
            with_line(r#"{"thread_id":"a","thread_id":"b","prompt_tokens":1,"completion_tokens":2}"#),
            2,
            "not JSON (duplicate field `thread_id` at column 28)".into(),
        ),
        (own("\"a\"", "-5", "1"), 2, format!("prompt_tokens is -5, {COUNT}")),
        (own("\"a\"", "1.5", "1"), 2, format!("prompt_tokens is 1.5, {COUNT}")),
        (own("\"a\"", "\"7\"", "1"), 2, format!("prompt_tokens is \"7\", {COUNT}")),
        (
            own("\"a\"", "1", "18446744073709551616"),
            2,
            format!("completion_tokens is 18446744073709551616, {COUNT}"),
        ),
        (own("\"a\"", "1", "true"), 2, format!("completion_tokens is true, {COUNT}")),
        (own("\"a\"", "1", "null"), 2, format!("no completion_tokens, {COUNT}")),
        (own("7", "1", "1"), 2, "thread_id is 7, expected a string".into()),
        (
            own("null", "1", "1"),
            2,
            "no thread_id, expected a string, or --thread NAME for all such records".into(),
        ),
        (own("\"\"", "1", "1"), 2, "thread_id has 0 bytes, expected 1 to 1024 bytes of UTF-8".into()),
        (own(&format!("\"{long_id}\""), "1", "1"), 2, "thread_id has 1025 bytes".into()),
        (with_line(r#"{"thread_id":"a","completion_tokens":2}"#), 2, format!("no prompt_tokens, {COUNT}")),
        (openai(r#"{"thread_id":"a","error":"overloaded"}"#), 2, "no usage, expected an object with".into()),
        (openai(r#"{"thread_id":"a","usage":7}"#), 2, "usage is 7, expected an object with".into()),
        (
            openai(r#"{"thread_id":"a","usage":{"prompt_tokens":1}}"#),
            2,
            format!("no usage.completion_tokens, {COUNT}"),
        ),
        (
            openai(r#"{"thread_id":"a","usage":{"input_tokens":-1,"output_tokens":1}}"#),
            2,
            format!("usage.input_tokens is -1, {COUNT}"),
        ),
        (
            openai(r#"{"metadata":{"thread_id":5},"usage":{"prompt_tokens":1,"completion_tokens":1}}"#),
            2,
            "metadata.thread_id is 5, expected a string".into(),
        ),
        (openai(r#"{"usage":{"prompt_tokens":1,"completion_tokens":1}}"#), 2, "no thread_id".into()),
        (csv("a,x,2"), 3, format!("prompt_tokens is \"x\", {COUNT}")),
        (csv("a,1,-2"), 3, format!("completion_tokens is \"-2\", {COUNT}")),
        (csv("a,1,"), 3, format!("completion_tokens is \"\", {COUNT}")),
        (csv("a,1"), 3, "fields: 2, expected 3 as in the header".into()),
        (csv("a,1,2,3"), 3, "fields: 4, expected 3 as in the header".into()),
        (csv(",1,2"), 3, "thread_id has 0 bytes".into()),
        (csv("\n \na,x,2"), 5, format!("prompt_tokens is \"x\", {COUNT}")),
        (format!("\n\n{}", csv("a,x,2")), 5, format!("prompt_tokens is \"x\", {COUNT}")),
        (csv("a,x,2").replace('\n', "\r\n"), 3, format!("prompt_tokens is \"x\", {COUNT}")),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    for (content, line, problem) in &cases {
        let file = folder.path().join("usage");
        fs::write(&file, content).expect("it can be written");
        let file = file.display().to_string();

        let output = thread_budget().args(["replay", &file, "--output=json"]).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{content}");
        let expected = format!("error: {file}:{line}: {problem}");
        assert!(stderr(&output).starts_with(&expected), "expected {expected}\ngot {}", stderr(&output));
        assert_eq!(json_of(&output)["requests"], 1, "what came before is summarised: {content}");

        let output = thread_budget()
            .args(["replay", &file, "--output=json", "--keep-going"])
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{content}");
        let summary = json_of(&output);
        assert_eq!((&summary["requests"], &summary["skipped"]), (&json!(2), &json!(1)), "{content}");
        assert!(
            stderr(&output).contains(&format!("skipped {file}:{line}: {problem}")),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn bytes_that_are_not_text_are_bad_records() {
    for (content, line) in [
        (
            &b"{\"thread_id\":\"a\",\"prompt_tokens\":1,\"completion_tokens\":1}\n{\"thread_id\":\"\xff\"}\n"
                [..],
            2,
        ),
        (&b"thread_id,prompt_tokens,completion_tokens\n\xff,1,2\n"[..], 2),
    ] {
        let output = thread_budget().args(["replay", "-"]).write_stdin(content).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(&format!("standard input:{line}: ")), "{}", stderr(&output));
        assert!(stderr(&output).contains("not UTF-8"), "{}", stderr(&output));
    }
}

#[test]
fn a_line_without_end_does_not_take_all_memory() {
    let mut content = "{\"thread_id\":\"a\",\"prompt_tokens\":1,\"completion_tokens\":2}\n{".to_owned();
    content.push_str(&" ".repeat(20 << 20));
    content.push_str("\n{\"thread_id\":\"a\",\"prompt_tokens\":1,\"completion_tokens\":2}\n");
    let output = thread_budget()
        .args(["replay", "-", "--keep-going", "--output=json"])
        .write_stdin(content)
        .output()
        .expect("it runs");
    assert!(
        stderr(&output).contains("standard input:2: the line is longer than 16777216 bytes"),
        "{}",
        stderr(&output)
    );
    let summary = json_of(&output);
    assert_eq!((&summary["requests"], &summary["skipped"]), (&json!(2), &json!(1)));
}

#[test]
fn a_header_without_the_columns_is_explained() {
    for (header, problem) in [
        (
            "when,what",
            "standard input:1: no column prompt_tokens or ContextTokens, expected a header that names the columns; found when,what\n",
        ),
        (
            "prompt_tokens,completion_tokens",
            "standard input:1: no column thread_id, expected one, or --thread NAME",
        ),
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens",
            "standard input:1: no column thread_id, expected one, or --thread NAME",
        ),
    ] {
        let output = thread_budget()
            .args(["replay", "-"])
            .write_stdin(format!("{header}\n1,2,3\n"))
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(problem), "{}", stderr(&output));
    }
}

#[test]
fn nothing_to_replay_is_no_failure() {
    for nothing in ["", "\n\r\n  ", "thread_id,prompt_tokens,completion_tokens\n"] {
        let output = thread_budget()
            .args(["replay", "-", "--output=json"])
            .write_stdin(nothing)
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(json_of(&output)["requests"], 0);
    }
}

#[test]
fn what_cannot_be_opened_is_named() {
    for file in ["no/such/file.jsonl", env!("CARGO_MANIFEST_DIR")] {
        let output = thread_budget().args(["replay", file]).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).starts_with(&format!("error: cannot open {file}: ")), "{}", stderr(&output));
    }
}

#[test]
fn bad_options_are_explained() {
    for (option, problem) in [
        ("--threshold=75", "expected PERCENT=SEVERITY"),
        ("--threshold=75=loud", "severities are warning, critical, final"),
        ("--threshold=0=final", "the percent is a whole number from 1 to 100"),
        ("--threshold=101=final", "the percent is a whole number from 1 to 100"),
        ("--max-tokens=-1", "invalid digit"),
        ("--thread=", "a thread id has 1 to 1024 bytes"),
        ("--format=xml", "possible values: jsonl, openai, csv"),
    ] {
        let output = thread_budget().args(["replay", option]).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{option}");
        assert!(stderr(&output).contains(problem), "{option}: {}", stderr(&output));
    }
    let twice = ["replay", "--threshold=75=final", "--threshold=75=warning"];
    let output = thread_budget().args(twice).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("threshold 75 %: a percent is 1 to 100 and given once"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn the_sample_is_the_same_every_time() {
    let run = || thread_budget().args(["replay", "--output=json"]).output().expect("it runs");
    let (first, second) = (run(), run());
    assert_eq!(first.stdout, second.stdout);
    let summary = json_of(&first);
    assert!(summary["requests"].as_u64() > Some(100));
    assert!(summary["crossed"]["final"].as_u64() > Some(0), "it shows every severity");
    assert!(summary["top"][0]["thread_id"].as_str().is_some_and(|id| id.starts_with("synthetic-")));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_thread-budget"))
        .arg("replay")
        .envs(common::NOWHERE)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stderr(&output), "");
}

/// The first Ctrl-C ends the replay, also while nothing comes in, and what was replayed is summarised.
#[cfg(unix)]
#[test]
fn an_interrupt_loses_nothing() {
    use std::io::Write;
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_thread-budget"))
        .args(["replay", "-", "--keep-going", "--output=json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let record = "{\"thread_id\":\"a\",\"prompt_tokens\":1,\"completion_tokens\":2}\n";
    stdin.write_all(record.repeat(100).as_bytes()).expect("it reads");
    // What it says of a bad record tells that it has come to it.
    stdin.write_all(b"bad\n").expect("it reads");
    let mut said = [0; 1];
    std::io::Read::read_exact(child.stderr.as_mut().expect("a pipe"), &mut said).expect("it says something");

    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.is_ok_and(|status| status.success()));
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(stderr(&output).contains("interrupted"), "{}", stderr(&output));
    let summary = json_of(&output);
    assert_eq!((&summary["requests"], &summary["skipped"]), (&json!(100), &json!(1)));
    drop(stdin);
}

#[test]
fn inspect_shows_that_nothing_is_imported() {
    let output = thread_budget().arg("inspect").output().expect("it runs");
    let text = stdout(&output);
    assert!(text.contains("imports  nothing\n"), "{text}");
    for expected in [
        "thread-budget:registry/registry@0.2.0",
        "/// Record, after an LLM call, what it used;",
        "/// Prompt (input) tokens consumed, summed over all requests.",
        "resource thread-budget {",
        "/// The usage of now.",
    ] {
        assert!(text.contains(expected), "{expected} is missing: {text}");
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let output = thread_budget().arg("inspect").arg(&manifest).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("expected a WebAssembly component"), "{}", stderr(&output));
}

#[test]
fn completions_know_the_subcommands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = thread_budget().args(["completions", shell]).output().expect("it runs");
        assert!(stdout(&output).contains("replay"), "{shell}");
    }
}

#[test]
fn no_cache_writes_nothing() {
    // In a process of its own, since where the user's cache is comes from the environment.
    let temporary = tempfile::tempdir().expect("a folder");
    for (arguments, files_after) in [(&["replay", "--no-cache"][..], 0), (&["replay"][..], 1)] {
        let status = thread_budget()
            .args(arguments)
            .env("XDG_CACHE_HOME", temporary.path())
            .env("HOME", temporary.path())
            .output()
            .expect("it runs")
            .status;
        assert!(status.success());
        let folder = temporary.path().join("thread-budget");
        let found = if folder.exists() { fs::read_dir(&folder).expect("a folder").count() } else { 0 };
        if cfg!(target_os = "linux") {
            assert_eq!(found, files_after, "{arguments:?}");
        }
    }
}
