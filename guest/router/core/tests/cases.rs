//! Recorded answers of providers and what they cost: each is put through the rules, however it arrives.
//!
//! The recordings are not a part of the repository. Each is a file `{rule, request: {path, body}, response:
//! {content_type, text}, expected: {prompt_tokens: [least, most], completion_tokens: [least, most]}}`.

mod support;

use serde_json::Value;
use std::fs;
use std::path::Path;
use support::{Provider, ask};

/// Prompt and completion that are counted for a case whose answer arrives in pieces of this length.
fn counted(case: &Value, piece_bytes: usize) -> [u64; 2] {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let provider = Provider {
        headers: format!("content-type: {}\n", text(&case["response"]["content_type"])),
        body: text(&case["response"]["text"]).into_bytes(),
        piece_bytes,
    };
    let outcome =
        ask(&text(&case["request"]["path"]), case["request"]["body"].to_string().as_bytes(), &provider);
    outcome.settled.unwrap_or_default()
}

#[test]
fn every_recorded_answer_counts_as_it_cost() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/cases/usage");
    let Ok(files) = fs::read_dir(&folder) else {
        eprintln!("SKIPPED: there are no recorded answers in {}", folder.display());
        return;
    };
    let (mut total, mut wrong) = (0, Vec::new());
    for file in files {
        let path = file.unwrap().path();
        let case: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        total += 1;
        let misses = [1, 7, 1_000, usize::MAX].map(|piece_bytes| {
            let counted = counted(&case, piece_bytes);
            let is_right =
                ["prompt_tokens", "completion_tokens"].iter().zip(counted).all(|(field, counted)| {
                    let [least, most] = [0, 1].map(|at| case["expected"][*field][at].as_u64().unwrap());
                    (least..=most).contains(&counted)
                });
            (!is_right).then_some((piece_bytes, counted))
        });
        if let Some((piece_bytes, counted)) = misses.into_iter().flatten().next() {
            wrong.push(format!(
                "{}: {counted:?} where {} is right ({}), in pieces of {piece_bytes} bytes",
                path.display(),
                case["expected"],
                case["rule"]
            ));
        }
    }
    println!("{} of {total} recorded answers count as they cost", total - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
