//! Many callers of several hosts at once, over a bad line: nothing is lost, doubled, or left held. What would be
//! wrong with a store or a host shows.

use super::faults::{Line, Way};
use fastrand::Rng;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use thread_budget_host::blocking::Registry;
use thread_budget_host::store::{Store, Wrote};
use thread_budget_host::{CallError, HoldTerms, RegistryBuilder, ThreadOptions};

const HOSTS: u64 = 3;
const CALLERS: u64 = 4;
const CALLS: u64 = 150;
const LIMIT: u64 = 100_000;
const THREADS: [&str; 4] = ["root", "child", "leaf", "alone"];

/// What callers were told.
#[derive(Default)]
struct Told {
    /// Tokens that were recorded, by thread.
    tokens: BTreeMap<String, u64>,
    /// How often each threshold was reported.
    crossed: BTreeMap<(String, u32), u32>,
    failed: Vec<String>,
}

impl Told {
    fn recorded(&mut self, thread_id: &str, tokens: u64, consumed: &thread_budget_host::Consumed) {
        if !consumed.repeated {
            *self.tokens.entry(thread_id.into()).or_default() += tokens;
        }
        for crossed in &consumed.crossed {
            *self.crossed.entry((crossed.thread_id.clone(), crossed.threshold_percent)).or_default() += 1;
        }
    }
}

/// Again, where surely nothing was written.
fn surely<R>(call: impl Fn() -> Result<R, CallError>) -> Result<R, CallError> {
    loop {
        match call() {
            Err(CallError::Store(error)) if error.is_temporary() && error.wrote() == Wrote::Nothing => {}
            other => return other,
        }
    }
}

fn caller(registry: &Registry, mut rng: Rng, name: u64, told: &Mutex<Told>) {
    for n in 0..CALLS {
        let thread_id = THREADS[rng.usize(..THREADS.len())];
        let (prompt, completion) = (rng.u64(1..20), rng.u64(0..20));
        let request_id = format!("{name}-{n}");
        let consumed = match rng.u8(..4) {
            0 => surely(|| registry.consume(thread_id, prompt, completion)),
            // Reported twice.
            1 => surely(|| registry.settle(thread_id, &request_id, prompt, completion, true)).and_then(
                |first| {
                    let again = surely(|| registry.settle(thread_id, &request_id, prompt, completion, true))?;
                    if again.repeated { Ok(first) } else { Err(CallError::UnknownHold) }
                },
            ),
            kind => {
                let terms = HoldTerms {
                    prompt_tokens: prompt,
                    completion_tokens: 20,
                    least_completion_tokens: 0,
                    holder: registry.holder(),
                    deadline: u64::MAX,
                };
                match surely(|| registry.set_hold(thread_id, &request_id, &terms)) {
                    Err(CallError::Refused(_)) => continue,
                    Err(error) => Err(error),
                    Ok(_) if kind == 2 => match surely(|| registry.release(thread_id, &request_id)) {
                        Ok(_) => continue,
                        Err(error) => Err(error),
                    },
                    Ok(_) => surely(|| registry.settle(thread_id, &request_id, prompt, completion, false)),
                }
            }
        };
        let mut told = told.lock().expect("no panic");
        match consumed {
            Ok(consumed) => told.recorded(thread_id, prompt + completion, &consumed),
            Err(error) => told.failed.push(error.to_string()),
        }
    }
}

/// What is wrong at the end.
fn check(seed: u64, way: impl Fn(&mut Rng) -> Way + Send + 'static) -> Result<(), String> {
    let mut of_line = Rng::with_seed(seed);
    let store: Arc<dyn Store> = Line::new(move || way(&mut of_line));
    let told = Mutex::new(Told::default());
    let build = || {
        let builder = RegistryBuilder::default().tokens_per_thread(LIMIT).store_at(store.clone());
        builder.build().unwrap_or_else(|error| panic!("{error}")).blocking()
    };
    let hosts: Vec<_> = (0..HOSTS).map(|_| build()).collect();
    let below = |parent: &str| ThreadOptions { max_tokens: None, parent: Some(parent.into()) };
    for (thread_id, options) in
        [("root", ThreadOptions::default()), ("child", below("root")), ("leaf", below("child"))]
    {
        surely(|| hosts[0].open_thread(thread_id, &options)).map_err(|error| error.to_string())?;
    }
    thread::scope(|scope| {
        for (host, registry) in hosts.iter().enumerate() {
            for number in 0..CALLERS {
                let name = host as u64 * CALLERS + number;
                let told = &told;
                scope.spawn(move || caller(registry, Rng::with_seed(seed ^ name << 32), name, told));
            }
        }
    });

    let told = told.into_inner().map_err(|error| error.to_string())?;
    if let Some(error) = told.failed.first() {
        return Err(format!("{} calls failed: {error}", told.failed.len()));
    }
    let sum = |ids: &[&str]| ids.iter().filter_map(|id| told.tokens.get(*id)).sum::<u64>();
    for (thread_id, counts) in [
        ("root", &["root", "child", "leaf"][..]),
        ("child", &["child", "leaf"]),
        ("leaf", &["leaf"]),
        ("alone", &["alone"]),
    ] {
        for host in &hosts {
            let usage = host.get_usage(thread_id).map_err(|error| error.to_string())?;
            let used = usage.map_or(0, |usage| usage.total_tokens);
            if used != sum(counts) {
                return Err(format!("{thread_id} used {used}, and callers were told of {}", sum(counts)));
            }
            let held = host.held_tokens(thread_id).map_err(|error| error.to_string())?;
            if held != 0 {
                return Err(format!("{held} tokens stay held of {thread_id}"));
            }
        }
    }
    match told.crossed.iter().find(|(_, times)| **times != 1) {
        Some((threshold, times)) => Err(format!("{threshold:?} was reported {times} times")),
        None => Ok(()),
    }
}

/// Printed, so that a failure can be had again.
fn seeds(count: u64) -> impl Iterator<Item = u64> {
    (0..count).inspect(|seed| println!("seed {seed}"))
}

#[test]
fn over_a_good_line() {
    for seed in seeds(3) {
        check(seed, |_| Way::Fine).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}

#[test]
fn over_a_bad_line() {
    let bad = |rng: &mut Rng| match rng.u8(..10) {
        0 => Way::Lost,
        1 => Way::Unanswered,
        _ => Way::Fine,
    };
    for seed in seeds(3) {
        check(seed, bad).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}

/// These have to be found out, or the checks above say nothing.
mod what_is_wrong_shows {
    use super::*;

    fn shows(way: impl Fn(&mut Rng) -> Way + Copy + Send + 'static) {
        assert!(seeds(5).any(|seed| check(seed, way).inspect_err(|wrong| println!("{wrong}")).is_err()));
    }

    #[test]
    fn a_commit_without_a_look_at_the_version() {
        shows(|_| Way::Unchecked);
    }

    #[test]
    fn a_time_out_that_is_taken_for_a_failure() {
        shows(|rng| if rng.u8(..10) == 0 { Way::TakenForLost } else { Way::Fine });
    }
}
