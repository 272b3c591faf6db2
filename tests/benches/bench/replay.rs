//! Recorded traffic through a registry that has just started: parsing, consuming, and the warnings.

use crate::component::builder;
use crate::measure::{Group, Row, Unit, duration_of};
use serde::Deserialize;
use std::fmt::Write;
use std::hint::black_box;
use std::path::Path;

const RECORDING: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/mooncake_conversations.jsonl");
const REQUESTS: u64 = 12_031;
const THREADS: u64 = 8_071;

pub(crate) fn rows() -> Group {
    let recorded = Path::new(RECORDING).exists();
    let name = if recorded { "12,031 recorded requests" } else { "12,031 synthetic requests" };
    let row = Row::new(name, Unit::Milliseconds, move || {
        let recording =
            if recorded { std::fs::read_to_string(RECORDING).expect("it reads") } else { synthetic() };
        assert_eq!(recording.lines().count() as u64, REQUESTS);
        move || replay(&recording)
    });
    Group { title: "replay, once started", rows: vec![row.at_most(50.0)] }
}

#[derive(Deserialize)]
struct Record<'a> {
    thread_id: &'a str,
    prompt_tokens: u64,
    completion_tokens: u64,
}

fn replay(recording: &str) -> f64 {
    let registry = builder().tokens_per_thread(100_000).build().expect("it starts").blocking();
    let replay = || {
        for line in recording.lines() {
            let Record { thread_id, prompt_tokens, completion_tokens } =
                serde_json::from_str(line).expect("a record");
            let consumed =
                registry.consume(thread_id, prompt_tokens, completion_tokens).expect("room for it");
            for crossed in &consumed.crossed {
                drop(black_box(registry.budget_warning(crossed).expect("it answers")));
            }
        }
    };
    duration_of(replay).as_secs_f64() * 1e3
}

/// Of the shape of the recording: most threads once, the others again and again, long prompts and
/// short answers.
fn synthetic() -> String {
    let mut text = String::new();
    for n in 0..REQUESTS {
        let thread = if n < THREADS { n } else { n * n % THREADS };
        let (prompt_tokens, completion_tokens) = (200 + n * 7_919 % 25_000, 50 + n * 104_729 % 900);
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            r#"{{"thread_id": "conv-{thread:05}", "prompt_tokens": {prompt_tokens}, "completion_tokens": {completion_tokens}}}"#
        );
    }
    text
}
