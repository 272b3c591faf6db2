//! The rules of one registry hold for all of them together.

use super::memory;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write;
use thread_budget_tests::agreement::{self, Step};
use thread_budget_tests::{Call, Fleet, Model, Subject, fuzz, vector};

/// Whether a vector asks for nothing but what a fleet has: births are not its to choose, and a handle on a thread
/// that is gone stands for nothing.
fn fits(vector: &vector::Vector) -> bool {
    let mut model = Model::default();
    !OTHERWISE.contains(&&*vector.name)
        && vector.steps().iter().all(|step| {
            let fits = Fleet::has(&step.call)
                && step.call.name != "snapshot"
                && (!needs_a_budget(&step.call) || !is_detached(&mut model, &step.call));
            let _ = fits.then(|| model.call(&step.call));
            fits
        })
}

fn needs_a_budget(call: &Call) -> bool {
    let of_a_handle = call.name.starts_with("thread-budget.");
    of_a_handle && !["thread-budget.is-detached", "thread-budget.thread-id"].contains(&&*call.name)
}

fn is_detached(model: &mut Model, call: &Call) -> bool {
    let asked = Call::new("thread-budget.is-detached", json!({ "on": call.text("on") }));
    model.call(&asked) == Ok(true.into())
}

/// What is otherwise with a store: a batch is one for each tree, and a thread that is gone stays in its tree while
/// its requests are open.
const OTHERWISE: [&str; 3] = [
    "batches/all-or-nothing-too-many-threads",
    "batches/crossings-in-order",
    "moved-holds/made-again-under-another-parent",
];

fn vectors(hosts: usize) {
    let all = vector::all();
    let count = all.len();
    let mut failures = String::new();
    let mut ran = 0;
    for vector in all.into_iter().filter(fits) {
        if let Err(failure) = vector.check(&mut Fleet::new(&memory(), hosts)) {
            let _ = writeln!(failures, "\n{failure}");
        }
        ran += 1;
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(ran * 3 > count * 2, "{ran} of {count} vectors can be put to it");
}

#[test]
fn vectors_of_one_host() {
    vectors(1);
}

#[test]
fn vectors_of_hosts_that_take_turns() {
    vectors(2);
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    vec(any::<u8>(), 1_500).prop_map(|bytes| {
        let mut steps = fuzz::steps(&bytes);
        // Threads that may be gone while a request of theirs is open: see `OTHERWISE`.
        let mut with_requests = BTreeSet::new();
        steps.retain(|step| match step {
            Step::Call(call) => {
                let whole = !["set-max-threads", "consume-batch", "clear"].contains(&&*call.name);
                let has_request = call.names().any(|name| name == "request_id");
                _ = has_request.then(|| with_requests.insert(call.text("thread_id").to_owned()));
                let is_made_again =
                    call.name == "open-thread" && with_requests.contains(call.text("thread_id"));
                Fleet::has(call) && whole && !is_made_again && !call.name.starts_with("thread-budget.")
            }
            Step::Restart { .. } => false,
        });
        steps
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_fleet_agrees_with_the_model(steps in steps()) {
        agreement::check_fleet(|| Fleet::new(&memory(), 3), &steps).map_err(TestCaseError::fail)?;
    }
}
