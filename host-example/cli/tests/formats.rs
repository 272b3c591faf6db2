//! Every format that recordings come in: files of real shapes, and what each has to come to.

mod common;

use common::{fixture, json_of, stderr, stdout, thread_budget};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use thread_budget_cli::recording::{Record, RecordError, Records};

/// What a file comes to, as `formats/expected.json` has it.
#[derive(Deserialize)]
struct Expected {
    format: String,
    requests: usize,
    /// By thread, the tokens of its prompts and completions.
    threads: BTreeMap<String, [u64; 2]>,
    /// How many of the records are copies of others.
    #[serde(default)]
    copies: usize,
}

fn expected() -> BTreeMap<String, Expected> {
    let text = fs::read_to_string(fixture("formats/expected.json")).expect("a fixture");
    serde_json::from_str(&text).expect("it is as it should be")
}

fn read(path: &str) -> (String, Vec<Record>) {
    let records = Records::open(path, File::open(path).expect("a fixture"), None, None).expect("it is known");
    let format = records.format().name().to_owned();
    (format, records.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{error}")))
}

#[test]
fn every_format_is_recognised_and_counted() {
    let expected = expected();
    let there = fs::read_dir(fixture("formats")).expect("a folder").count();
    assert_eq!(there, expected.len() + 1, "every file has its numbers");
    for (name, expected) in expected {
        let (format, records) = read(&fixture(&format!("formats/{name}")));
        assert_eq!((&format, records.len()), (&expected.format, expected.requests), "{name}");
        let mut threads: BTreeMap<String, [u64; 2]> = BTreeMap::new();
        let (mut seen, mut copies) = (BTreeSet::new(), 0);
        for record in &records {
            let [prompt, completion] = threads.entry(record.thread_id.clone()).or_default();
            *prompt += record.tokens.prompt();
            *completion += record.tokens.completion();
            let is_copy = record.identity.copy_of.iter().any(|name| *name != 0 && seen.contains(name));
            copies += usize::from(is_copy);
            seen.extend(record.identity.names);
        }
        assert_eq!(threads, expected.threads, "{name}");
        assert_eq!(copies, expected.copies, "{name}");
    }
}

#[test]
fn the_help_knows_every_format() {
    let help = stdout(&thread_budget().args(["replay", "--help"]).output().expect("it runs"));
    let formats: BTreeSet<String> = expected().into_values().map(|expected| expected.format).collect();
    assert_eq!(formats.len(), 8);
    for format in formats {
        assert!(help.contains(&format!("  {format} ")), "{format} is missing: {help}");
    }
    assert!(help.contains("thread-budget replay --since 7d"), "{help}");
}

#[test]
fn tokens_keep_their_kinds_and_models() {
    for (name, at, kinds, model) in [
        ("claude-code.jsonl", 0, [4, 1_000, 200, 30, 0], "claude-opus-4-1"),
        ("codex.jsonl", 0, [400, 600, 0, 30, 20], "gpt-5.2-codex"),
        ("openai-batch.jsonl", 0, [56, 64, 0, 20, 10], "gpt-5-mini"),
        ("litellm.jsonl", 0, [100, 1_000, 100, 40, 0], "claude-sonnet-4-5"),
        ("litellm.csv", 0, [100, 1_000, 100, 40, 0], "claude-sonnet-4-5"),
        ("langfuse-observations.json", 0, [100, 400, 0, 30, 10], "gpt-5.2"),
        ("otlp.jsonl", 0, [100, 500, 0, 60, 0], "gpt-5.2"),
    ] {
        let (_, records) = read(&fixture(&format!("formats/{name}")));
        let tokens = records[at].tokens;
        let found = [tokens.input, tokens.cached_input, tokens.cache_write, tokens.output, tokens.reasoning];
        assert_eq!((found, &*records[at].model), (kinds, model), "{name}");
        assert!(records[at].at.is_some() || name.starts_with("openai"), "{name}");
    }
}

/// A copy with all that JSON allows: the same values over several lines, and in one list.
#[test]
fn lines_lists_and_pretty_values_are_the_same() {
    for (name, expected) in expected() {
        if !name.ends_with(".jsonl") {
            continue;
        }
        let text = fs::read_to_string(fixture(&format!("formats/{name}"))).expect("a fixture");
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let values: Vec<serde_json::Value> =
            lines.map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let pretty: String = values.iter().map(|value| format!("{value:#}\n")).collect();
        let list = serde_json::to_string(&values).expect("JSON");
        let paged = serde_json::json!({"data": values, "next": null}).to_string();
        for text in [pretty, list, paged] {
            let records = Records::open("file", text.as_bytes(), None, None).expect("it is known");
            assert_eq!(records.format().name(), expected.format, "{name}");
            let records: Vec<Record> = records.collect::<Result<_, _>>().expect("they can be read");
            assert_eq!(records, read(&fixture(&format!("formats/{name}"))).1, "{name}");
        }
    }
}

#[test]
fn a_record_is_found_however_its_names_are_written() {
    let text = fs::read_to_string(fixture("formats/claude-code.jsonl")).expect("a fixture");
    let escaped = text.replace("\"usage\":", "\"us\\u0061ge\":");
    assert_ne!(text, escaped);
    let read = |text: &str| {
        let records = Records::open("file", text.as_bytes(), None, None).expect("it is known");
        records.collect::<Result<Vec<_>, _>>().expect("they can be read")
    };
    assert_eq!(read(&escaped), read(&text));
}

#[test]
fn what_is_in_no_format_is_told_with_those_that_were_tried() {
    let open = |text: &str| Records::open("notes.json", text.as_bytes(), None, None).map(drop);
    for (text, found) in [
        (
            "\n{\"note\": 1, \"by\": \"ada\"}\n",
            "notes.json:2: no known format, found JSON with by, note; tried jsonl,",
        ),
        ("[]", "notes.json:1: no known format, found JSON values that has no fields to tell by"),
        ("{\n", "notes.json:1: no known format"),
    ] {
        let error = open(text).unwrap_err();
        assert!(matches!(error, RecordError::Unknown { .. }), "{error}");
        assert!(error.to_string().starts_with(found), "{error}");
    }
    let output = thread_budget().args(["replay", "-"]).write_stdin("{\"note\":1}").output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("tried jsonl, openai, csv, claude-code, codex, litellm, langfuse, otlp")
    );
}

#[test]
fn bad_values_of_every_format_say_where() {
    let session = fs::read_to_string(fixture("formats/codex.jsonl")).expect("a fixture");
    let count = session.lines().nth(4).expect("a count");
    for (text, line, problem) in [
        ("{\"type\":\"session_meta\",\"payload\":{\"cwd\":\"/\"}}\n".into(), 1, "session_meta has no id"),
        (format!("{count}\n"), 1, "a token_count before the session_meta"),
        ("{\"spend\":1,\"session_id\":\"a\",\"prompt_tokens\":1.5,\"completion_tokens\":1}\n".into(), 1, "prompt_tokens is 1.5, expected"),
        ("{\"spend\":1,\"session_id\":7,\"prompt_tokens\":1,\"completion_tokens\":1}\n".into(), 1, "session_id is 7, expected a string"),
        ("{\"spend\":1,\"prompt_tokens\":1,\"completion_tokens\":1}\n".into(), 1, "no thread_id, expected a string"),
        ("{\"resourceSpans\":[]}\n{\"resourceSpans\":7}\n".into(), 2, "not JSON (invalid type"),
        ("{\"resourceSpans\":[]}\n{}\n".into(), 2, "no resourceSpans"),
        ("{\"traceId\":\"a\",\"type\":\"SPAN\"}\n{\"observations\":[\n".into(), 2, "not JSON (EOF"),
        ("{\"type\":\"user\",\"sessionId\":\"a\"}\n{\"message\":{\"usage\":{\"output_tokens\":1}}}\n".into(), 2, "no sessionId"),
        ("{\"type\":\"user\",\"sessionId\":\"a\"}\n{\"usage\"\n".into(), 2, "not JSON (EOF"),
        ("{\"custom_id\":\"a\",\"result\":{\"message\":{\"usage\":{\"input_tokens\":-1}}}}\n".into(), 1, "usage.input_tokens is -1"),
        ("[{\"thread_id\":\"a\",\"prompt_tokens\":1,\"completion_tokens\":1},\n 7,\n{\"thread_id\":\"a\",\"prompt_tokens\":1,\"completion_tokens\":1}]".into(), 2, "neither an object nor a list"),
        ("{\"thread_id\":\"a\",\"parent\":\"\",\"prompt_tokens\":1,\"completion_tokens\":1}\n".into(), 1, "parent has 0 bytes"),
    ] {
        let records = Records::open("file", text.as_bytes(), None, None).unwrap_or_else(|error| panic!("{text} {error}"));
        let errors: Vec<String> = records.filter_map(Result::err).map(|error| error.to_string()).collect();
        let expected = format!("file:{line}: {problem}");
        assert!(errors.len() == 1 && errors[0].starts_with(&expected), "expected {expected}, got {errors:?}");
    }
}

#[test]
fn threads_are_below_those_that_recordings_name() {
    let output = thread_budget()
        .args(["replay", &fixture("formats/own.json"), "--max-tokens=740", "--output=json"])
        .output()
        .expect("it runs");
    let summary = json_of(&output);
    assert_eq!(summary["total_tokens"], 755, "what a thread used is in its parent: {}", stderr(&output));
    assert_eq!(summary["top"][0]["refused"]["request"], 2);
    assert_eq!(summary["top"][1]["parent"], "alpha");
    let refused = thread_budget()
        .args(["replay", &fixture("formats/own.json"), "--max-tokens=740", "--output=json", "--enforce"])
        .output()
        .expect("it runs");
    assert_eq!(json_of(&refused)["refused"], 1);

    let folder = tempfile::tempdir().expect("a folder");
    let database = folder.path().join("budgets.db").display().to_string();
    for enforce in [&[][..], &["--enforce"]] {
        let output = thread_budget()
            .args([
                "replay",
                &fixture("formats/own.json"),
                "--max-tokens=740",
                "--output=json",
                "--db",
                &database,
            ])
            .args(enforce)
            .output()
            .expect("it runs");
        assert_eq!(json_of(&output)["total_tokens"], 755, "{}", stderr(&output));
    }
}

#[test]
fn tokens_count_for_what_the_router_lets_them_count_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let replay = |text: &str, file: &str| {
        let path = folder.path().join("weights.toml");
        fs::write(&path, text).expect("it can be written");
        thread_budget()
            .args(["replay", &fixture(file), "--output=json", "--weights", &path.display().to_string()])
            .output()
            .expect("it runs")
    };
    const WEIGHTS: &str =
        "weights = [{ models = [\"claude\"], cached_input = 0.1, cache_write = 1.25, output = 5 }]";
    // 1,204 are 4 + 100 + 250 and 30 are 150; 10 + 120 and 100; 203 and 225
    let summary = json_of(&replay(WEIGHTS, "formats/claude-code.jsonl"));
    assert_eq!(
        (summary["prompt_tokens"].as_u64(), summary["completion_tokens"].as_u64()),
        (Some(687), Some(475))
    );
    let config = format!(
        "[[upstreams]]\nurl = \"https://a.example\"\nmodels = [\"gpt\"]\n[[upstreams]]\nurl = \"https://b.example\"\n{WEIGHTS}\n"
    );
    assert_eq!(json_of(&replay(&config, "formats/claude-code.jsonl"))["total_tokens"], 687 + 475);
    assert_eq!(
        json_of(&replay(&config, "formats/codex.jsonl"))["total_tokens"],
        2_630,
        "of a model without weights"
    );
    for (text, problem) in [
        ("weights = [{ output = -1 }]", "a weight is a number from 0 to 1000"),
        ("wieghts = []", "unknown field `wieghts`"),
        ("weights", "TOML parse error"),
        ("upstreams = 7", "invalid type"),
    ] {
        let output = replay(text, "own.jsonl");
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(stderr(&output).contains("cannot use the weights in "), "{}", stderr(&output));
        assert!(stderr(&output).contains(problem), "{}", stderr(&output));
    }
}
