//! Bytes as calls.

use super::source::{Source, link};
use crate::agreement::{self, Step};
use crate::call::Call;
use crate::subject::Core;
use serde_json::json;

/// More say nothing new, and the counts of so many calls stay below 2^53 together.
const MOST: usize = 2_000;

/// The calls, and how often each is made. What an argument can be is told by its name.
const CALLS: [(u8, &str, &[&str]); 36] = [
    (10, "consume", &["thread_id", "prompt_tokens", "completion_tokens"]),
    (4, "check-budget", &["thread_id", "estimated_tokens"]),
    (
        14,
        "hold",
        &[
            "thread_id",
            "request_id",
            "prompt_tokens",
            "completion_tokens",
            "least_completion_tokens",
            "holder",
            "deadline",
        ],
    ),
    (8, "settle", &["thread_id", "request_id", "prompt_tokens", "completion_tokens", "remember"]),
    (5, "settle-lost", &["thread_id", "request_id", "prompt_tokens", "completion_tokens"]),
    (3, "release", &["thread_id", "request_id"]),
    (4, "open-thread", &["thread_id", "options", "as"]),
    (2, "set-limit", &["thread_id", "max_tokens"]),
    (2, "consume-batch", &["entries"]),
    (2, "pending-warnings", &["thread_id"]),
    (2, "acknowledge-warnings", &["thread_id", "acknowledgements"]),
    (1, "held-tokens", &["thread_id"]),
    (3, "reset-thread", &["thread_id"]),
    (3, "cleanup-thread", &["thread_id"]),
    (1, "restore", &["states"]),
    (3, "take-changes", &["limit"]),
    (1, "drop-tree", &["thread_id"]),
    (1, "configure", &["max_tokens_per_thread"]),
    (1, "max-tokens-per-thread", &[]),
    (1, "set-thresholds", &["thresholds"]),
    (1, "thresholds", &[]),
    (1, "set-max-threads", &["max_threads"]),
    (1, "set-next-birth", &["birth"]),
    (1, "get-budget", &["thread_id", "as"]),
    (1, "has-budget", &["thread_id"]),
    (1, "get-usage", &["thread_id"]),
    (1, "get-all-usage", &[]),
    (2, "thread-budget.consume", &["on", "prompt_tokens", "completion_tokens"]),
    (1, "thread-budget.check-thresholds", &["on", "thresholds"]),
    (1, "thread-budget.can-consume", &["on", "estimated_tokens"]),
    (1, "thread-budget.held-tokens", &["on"]),
    (1, "thread-budget.is-detached", &["on"]),
    (1, "thread-budget.triggered-thresholds", &["on"]),
    (1, "thread-budget.percent-used", &["on"]),
    (1, "thread-budget.usage", &["on"]),
    (1, "thread-budget.is-exhausted", &["on"]),
];

/// What the bytes say to do: any calls of the contract, on few threads so that they meet.
#[must_use]
pub fn steps(bytes: &[u8]) -> Vec<Step> {
    let mut source = Source::new(bytes);
    let mut steps = Vec::new();
    while !source.is_empty() && steps.len() < MOST {
        next(&mut source, &mut steps);
    }
    steps
}

pub(super) fn check(bytes: &[u8]) {
    if let Err(difference) = agreement::check(Core::default, &steps(bytes)) {
        panic!("{difference}");
    }
}

fn next(s: &mut Source<'_>, steps: &mut Vec<Step>) {
    let mut call = |name, arguments| steps.push(Step::Call(Call::new(name, arguments)));
    match s.byte() {
        0 => match s.below(4) {
            0 => call("clear", json!({})),
            page => steps.push(Step::Restart { page: u32::from(page) }),
        },
        // A line of threads, one below the other.
        1..=2 => {
            for n in 1..=s.below(18) {
                let parent = (n > 1).then(|| link(n - 1));
                call(
                    "open-thread",
                    json!({ "thread_id": link(n), "options": { "parent": parent }, "as": s.handle() }),
                );
            }
        }
        // As many requests of a thread as it remembers, or somewhat fewer or more.
        3 => {
            let (thread_id, first) = (s.thread_id(), s.below(20));
            for n in 0..58 + s.below(12) {
                let request_id = format!("q{}", first + n);
                call(
                    "settle",
                    json!({
                        "thread_id": thread_id,
                        "request_id": request_id,
                        "prompt_tokens": 1,
                        "completion_tokens": 0,
                        "remember": true,
                    }),
                );
            }
        }
        byte => {
            let all: u8 = CALLS.iter().map(|(weight, ..)| weight).sum();
            let mut choice = byte % all;
            for (weight, name, arguments) in CALLS {
                if choice < weight {
                    let arguments = arguments.iter().map(|name| ((*name).to_owned(), s.argument(name)));
                    return call(name, arguments.collect());
                }
                choice -= weight;
            }
        }
    }
}
