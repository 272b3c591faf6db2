//! Random calls against a naive model of the contract.
//!
//! The model keeps threads, holds and marks in plain lists, looks at all of them for every question, and
//! adds up what is held whenever it is asked. It shares only the records with what it checks.

mod naive;

use naive::Model;
use thread_budget_core::{Registry, Severity, Threshold, Wanted};

/// Numbers that differ from each other enough: a linear congruential generator's high bits.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn of<'a>(&mut self, these: &'a [String]) -> &'a str {
        &these[self.below(these.len() as u64) as usize]
    }
}

/// One random call on both, which must answer alike.
fn call(
    dice: &mut Dice,
    registry: &mut Registry,
    model: &mut Model,
    threads: &[String],
    requests: &[String],
) {
    let (thread, request) = (dice.of(threads).to_owned(), dice.of(requests).to_owned());
    let (prompt, completion) = (dice.below(30), dice.below(60));
    match dice.below(40) {
        0..=11 => {
            let wanted = Wanted {
                prompt_tokens: prompt,
                completion_tokens: completion,
                least_completion_tokens: dice.below(70),
                holder: dice.below(3),
                deadline: dice.below(1_000),
            };
            assert_eq!(registry.hold(&thread, &request, wanted), model.hold(&thread, &request, wanted));
        }
        12..=16 => {
            let remember = dice.below(3) == 0;
            assert_eq!(
                registry.settle(&thread, &request, prompt, completion, remember),
                model.settle(&thread, &request, prompt, completion, remember)
            );
        }
        17..=20 => assert_eq!(
            registry.settle_lost(&thread, &request, prompt, completion),
            model.settle_lost(&thread, &request, prompt, completion)
        ),
        21..=23 => assert_eq!(registry.release(&thread, &request), model.release(&thread, &request)),
        24..=25 => {
            assert_eq!(
                registry.consume(&thread, prompt, completion),
                model.consume(&thread, prompt, completion)
            );
        }
        26 => assert_eq!(registry.check_budget(&thread, completion), model.check_budget(&thread, completion)),
        27..=31 => {
            let limit = (dice.below(3) == 0).then(|| dice.below(400));
            let parent = (dice.below(4) > 0).then(|| dice.of(threads).to_owned());
            assert_eq!(
                registry.open_thread(&thread, limit, parent.as_deref()).map(drop),
                model.open_thread(&thread, limit, parent.as_deref())
            );
        }
        32 => {
            let limit = dice.below(500);
            assert_eq!(registry.set_limit(&thread, limit), model.set_limit(&thread, limit));
        }
        33..=34 => {
            registry.reset_thread(&thread);
            model.reset_thread(&thread);
        }
        35 => assert_eq!(registry.cleanup_thread(&thread), model.cleanup_thread(&thread)),
        36 => {
            let given = [(75, 100), (90, 200), (75, model.limit_of(&thread))];
            registry.acknowledge_warnings(&thread, given);
            model.acknowledge_warnings(&thread, &given);
        }
        37 => {
            let severity = [Severity::Warning, Severity::Critical, Severity::Final][dice.below(3) as usize];
            let thresholds = [50, 75, 90].map(|percent| Threshold { percent, severity });
            registry.set_thresholds(thresholds).expect("valid");
            model.set_thresholds(&thresholds);
        }
        38 => *registry = restarted(registry, model, dice),
        _ if dice.below(50) == 0 => {
            registry.clear();
            model.clear();
        }
        _ => {
            let max_threads = 2 + dice.below(8) as u32;
            registry.set_max_threads(max_threads);
            model.set_max_threads(max_threads);
        }
    }
}

/// Another registry, with everything brought back by small pages.
fn restarted(registry: &Registry, model: &mut Model, dice: &mut Dice) -> Registry {
    let mut next = Registry::new();
    next.configure(registry.max_tokens_per_thread());
    next.set_thresholds(registry.thresholds().iter()).expect("valid");
    let mut order = Vec::new();
    while let page = registry.snapshot(order.last().map(String::as_str), 1 + dice.below(3) as u32, 0)
        && !page.is_empty()
    {
        next.restore(&page).expect("a snapshot is valid");
        order.extend(page.into_iter().map(|state| state.thread_id));
    }
    next.set_max_threads(model.max_threads());
    for (next, before) in next.snapshot(None, u32::MAX, 0).iter().zip(registry.snapshot(None, u32::MAX, 0)) {
        assert_eq!(*next, before);
    }
    model.restored(&order);
    next
}

fn agree(registry: &Registry, model: &Model, threads: &[String]) {
    let mut states = registry.snapshot(None, u32::MAX, 0);
    let mut seen: Vec<&str> = Vec::new();
    for state in &states {
        assert!(state.parent.as_deref().is_none_or(|parent| seen.contains(&parent)), "parents come first");
        seen.push(&state.thread_id);
    }
    states.sort_by(|a, b| a.thread_id.cmp(&b.thread_id));
    for (state, expected) in states.iter().zip(model.states()) {
        assert_eq!(*state, expected);
    }
    assert_eq!(states.len(), model.states().len());
    for thread in threads {
        assert_eq!(registry.held_tokens(thread), model.held(thread), "held of {thread}");
        assert_eq!(registry.has_budget(thread), model.has(thread));
        assert_eq!(registry.pending_warnings(thread), model.pending_warnings(thread));
    }
}

fn run(seed: u64, calls: usize, threads: usize, requests: usize) {
    let names = |kind: &str, count| (0..count).map(|n| format!("{kind}{n}")).collect::<Vec<_>>();
    let (threads, requests) = (names("t", threads), names("r", requests));
    let mut dice = Dice(seed);
    let (mut registry, mut model) = (Registry::new(), Model::new());
    registry.configure(200);
    model.configure(200);
    for _ in 0..calls {
        call(&mut dice, &mut registry, &mut model, &threads, &requests);
        agree(&registry, &model, &threads);
    }
    // Nothing is held by anybody when every hold has ended.
    for state in registry.snapshot(None, u32::MAX, 0) {
        for hold in &state.holds {
            assert!(registry.release(hold.made_for.as_ref().unwrap_or(&state.thread_id), &hold.request_id));
        }
    }
    assert!(threads.iter().all(|thread| registry.held_tokens(thread) == 0), "seed {seed}");
}

#[test]
fn agrees_with_a_naive_model() {
    for seed in 0..300 {
        run(seed, 1_000, 6, 5);
    }
}

/// More requests than a thread remembers or keeps marks of.
#[test]
fn agrees_with_a_naive_model_where_marks_are_many() {
    for seed in 0..20 {
        run(seed, 4_000, 4, 400);
    }
}
