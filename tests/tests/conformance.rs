//! The vectors, put to every implementation that Rust can reach.

use std::fmt::Write;
use std::fs;
use thread_budget_tests::{Call, Component, Core, Model, Subject, vector};

fn run<S: Subject>(fresh: impl Fn() -> S) {
    let mut failures = String::new();
    for vector in vector::all() {
        if let Err(failure) = vector.check(&mut fresh()) {
            let _ = writeln!(failures, "\n{failure}");
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn core() {
    // BLESS=1 writes down what the core does; the difference is then for a person to judge.
    if std::env::var_os("BLESS").is_some() {
        bless();
    }
    run(Core::default);
}

#[test]
fn component() {
    run(Component::new);
}

/// The model that random calls are compared with has to be right itself.
#[test]
fn model() {
    run(Model::default);
}

/// The vectors that a recording can express, through `thread-budget replay`.
mod command_line {
    use super::*;
    use serde_json::{Value, json};
    use std::collections::BTreeMap;
    use thread_budget_host::Threshold;

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
                match (step.call, step.expected) {
                    (Call::Configure { max_tokens_per_thread }, Ok(_)) if recording.requests == 0 => {
                        recording.arguments.push(format!("--max-tokens={max_tokens_per_thread}"));
                    }
                    (Call::SetThresholds { thresholds }, Ok(_))
                        if recording.requests == 0 && !thresholds.is_empty() =>
                    {
                        for Threshold { percent, severity } in thresholds {
                            recording.arguments.push(format!("--threshold={percent}={severity}"));
                        }
                    }
                    (Call::Consume { thread_id, prompt_tokens, completion_tokens }, Ok(consumed)) => {
                        let record = json!({
                            "thread_id": thread_id,
                            "prompt_tokens": prompt_tokens,
                            "completion_tokens": completion_tokens,
                        });
                        let _ = writeln!(recording.records, "{record}");
                        recording.requests += 1;
                        for crossed in consumed["crossed"].as_array()? {
                            *recording.crossed.entry(crossed["severity"].as_str()?.into()).or_default() += 1;
                        }
                        recording.threads.insert(thread_id, consumed["usage"].clone());
                    }
                    (call, _) if call.is_query() => {}
                    _ => return None,
                }
            }
            (recording.requests > 0).then_some(recording)
        }

        fn sum(&self, field: &str) -> u64 {
            self.threads.values().map(|usage| number(&usage[field])).fold(0, u64::saturating_add)
        }
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
    assert!(vectors.len() >= 250, "{} vectors", vectors.len());
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

fn bless() {
    for mut vector in vector::all() {
        let mut core = Core::default();
        let calls = vector.steps().into_iter().map(|step| step.call);
        for (fields, call) in vector.content.steps.iter_mut().zip(calls) {
            let fields = fields.as_object_mut().expect("a step is an object");
            let says_null = fields.remove("returns").is_some_and(|value| value.is_null());
            fields.remove("fails");
            match core.call(&call) {
                Ok(value) if value.is_null() && !says_null => {}
                Ok(value) => _ = fields.insert("returns".into(), value),
                Err(error) => _ = fields.insert("fails".into(), error),
            }
        }
        let steps: Vec<String> = vector.content.steps.iter().map(|step| format!("    {step}")).collect();
        let rule = serde_json::Value::from(vector.content.rule);
        let text = format!("{{\n  \"rule\": {rule},\n  \"steps\": [\n{}\n  ]\n}}\n", steps.join(",\n"));
        fs::write(&vector.path, text).expect("the vector can be written");
    }
}
