//! The vectors, put to every implementation that Rust can reach.

use std::collections::BTreeSet;
use std::fmt::Write;
use thread_budget_tests::{Component, Core, Library, Model, Subject, vector};

fn run<S: Subject>(fresh: impl Fn() -> S) {
    run_those(vector::all(), fresh);
}

fn run_those<S: Subject>(vectors: Vec<vector::Vector>, fresh: impl Fn() -> S) {
    let mut failures = String::new();
    for vector in vectors {
        if let Err(failure) = vector.check(&mut fresh()) {
            let _ = writeln!(failures, "\n{failure}");
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn core() {
    run(Core::default);
}

#[test]
fn component() {
    run(Component::new);
}

#[test]
fn library() {
    let mut vectors = vector::all();
    let all = vectors.len();
    vectors.retain(|vector| vector.steps().iter().all(|step| Library::has(&step.call)));
    assert!(vectors.len() > all * 9 / 10, "{} of {all} vectors can be put to it", vectors.len());
    run_those(vectors, Library::new);
}

/// The model that random calls are compared with has to be right itself.
#[test]
fn model() {
    run(Model::default);
}

/// The vectors that a recording can express, through `thread-budget replay`.
mod command_line {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeMap;
    use thread_budget_tests::Call;

    /// Consumption and nothing else, after settings: what `replay` can be told.
    #[derive(Default)]
    struct Recording {
        arguments: Vec<String>,
        records: String,
        threads: BTreeMap<String, Value>,
        requests: u64,
        crossed: BTreeMap<String, u64>,
    }

    impl Recording {
        fn of(vector: &vector::Vector) -> Option<Self> {
            let mut recording = Self::default();
            for step in vector.steps() {
                let (call, Ok(returns)) = (step.call, step.expected) else { return None };
                match &*call.name {
                    "configure" if recording.requests == 0 => {
                        let limit = call.value("max_tokens_per_thread");
                        recording.arguments.push(format!("--max-tokens={limit}"));
                    }
                    "set-thresholds" if recording.requests == 0 => {
                        for threshold in call.value("thresholds").as_array().filter(|all| !all.is_empty())? {
                            let severity = threshold["severity"].as_str()?;
                            recording
                                .arguments
                                .push(format!("--threshold={}={severity}", threshold["percent"]));
                        }
                    }
                    "consume" => {
                        let _ = writeln!(recording.records, "{}", record_of(&call));
                        recording.requests += 1;
                        for crossed in returns["crossed"].as_array()? {
                            *recording.crossed.entry(crossed["severity"].as_str()?.into()).or_default() += 1;
                        }
                        recording.threads.insert(call.text("thread_id").into(), returns["usage"].clone());
                    }
                    _ if call.is_query() => {}
                    _ => return None,
                }
            }
            (recording.requests > 0).then_some(recording)
        }

        fn sum(&self, field: &str) -> u64 {
            self.threads.values().map(|usage| number(&usage[field])).fold(0, u64::saturating_add)
        }
    }

    /// A line of a recording.
    fn record_of(call: &Call) -> Value {
        let fields = ["thread_id", "prompt_tokens", "completion_tokens"];
        fields.into_iter().map(|name| (name.to_owned(), call.value(name).clone())).collect()
    }

    fn number(value: &Value) -> u64 {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.parse().expect("a count")
    }

    #[test]
    fn replay() {
        let mut ran = 0;
        for vector in vector::all() {
            let Some(recording) = Recording::of(&vector) else { continue };
            let output = assert_cmd::Command::cargo_bin("thread-budget")
                .expect("build it first: cargo build --release -p thread-budget-cli")
                .args(["replay", "-", "--output=json"])
                .args(&recording.arguments)
                .write_stdin(recording.records.clone())
                .output()
                .expect("it starts");
            assert!(output.status.success(), "{}: {}", vector.name, String::from_utf8_lossy(&output.stderr));
            let summary: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");

            let name = &vector.name;
            assert_eq!(summary["requests"], recording.requests, "{name}");
            assert_eq!(summary["recorded"], recording.requests, "{name}");
            assert_eq!(summary["refused"], 0, "{name}");
            assert_eq!(summary["threads"], recording.threads.len(), "{name}");
            for field in ["prompt_tokens", "completion_tokens", "total_tokens"] {
                assert_eq!(summary[field], recording.sum(field), "{name} {field}");
            }
            for severity in ["warning", "critical", "final"] {
                let expected = recording.crossed.get(severity).copied().unwrap_or_default();
                assert_eq!(summary["crossed"][severity], expected, "{name} {severity}");
            }
            let exhausted = recording
                .threads
                .values()
                .filter(|usage| number(&usage["total_tokens"]) >= number(&usage["max_tokens"]));
            assert_eq!(summary["exhausted_threads"], exhausted.count(), "{name}");
            ran += 1;
        }
        assert!(ran >= 40, "only {ran} vectors were replayed");
    }
}

#[test]
fn every_rule_has_its_vector() {
    let vectors = vector::all();
    assert!(vectors.len() >= 480, "{} vectors", vectors.len());
    // A vector that asserts nothing would always pass.
    for vector in &vectors {
        assert!(
            vector
                .content
                .steps
                .iter()
                .any(|step| step.get("returns").is_some() || step.get("fails").is_some()),
            "{} expects nothing",
            vector.name
        );
    }
}

#[test]
fn every_call_has_its_vector() {
    let vectors = vector::all();
    let called: BTreeSet<_> =
        vectors.iter().flat_map(vector::Vector::steps).map(|step| step.call.name).collect();
    let missing: Vec<_> = Component::calls().filter(|call| !called.contains(*call)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
