//! Holds: checked, changed, settled, released.

use thread_budget_core::{
    BudgetExhausted, Held, Registry, RegistryError, Severity, ThreadState, Threshold, Wanted,
};

/// One that holds as much as is left, down to `least` completion tokens.
fn wanted(prompt_tokens: u64, completion_tokens: u64, least_completion_tokens: u64) -> Wanted {
    Wanted { prompt_tokens, completion_tokens, least_completion_tokens, holder: 7, deadline: 99 }
}

/// All or nothing.
fn exactly(prompt_tokens: u64, completion_tokens: u64) -> Wanted {
    wanted(prompt_tokens, completion_tokens, completion_tokens)
}

fn registry(max_tokens: u64) -> Registry {
    let mut registry = Registry::new();
    registry.configure(max_tokens);
    registry
}

fn state(registry: &Registry, thread_id: &str) -> ThreadState {
    let mut states = registry.snapshot(None, u32::MAX, 0).into_iter();
    states.find(|state| state.thread_id == thread_id).expect("it exists")
}

fn exhausted<T: std::fmt::Debug>(result: Result<T, RegistryError>) -> BudgetExhausted {
    match result {
        Err(RegistryError::Exhausted(exhausted)) => exhausted,
        other => panic!("not exhausted: {other:?}"),
    }
}

#[test]
fn a_hold_is_cut_down_to_what_is_left_but_not_below_the_least() {
    for (asked, least, granted) in
        [(900, 0, Some(700)), (700, 700, Some(700)), (900, 701, None), (5, 900, Some(5))]
    {
        let mut registry = registry(1_000);
        registry.consume("t", 100, 100).expect("room");
        let held = registry.hold("t", "r", wanted(100, asked, least));
        match granted {
            Some(granted) => {
                let held = held.expect("it fits");
                assert_eq!((held.completion_tokens, held.room), (granted, 700 - granted));
                assert_eq!(registry.held_tokens("t"), 100 + granted);
            }
            None => {
                let refused = exhausted(held);
                assert_eq!((refused.used, refused.held, refused.requested), (200, 0, 801));
                assert_eq!(registry.held_tokens("t"), 0);
            }
        }
    }
}

#[test]
fn nothing_is_held_when_nothing_is_left_not_even_nothing() {
    let mut registry = registry(100);
    registry.hold("t", "a", exactly(60, 40)).expect("it fits");
    let refused = exhausted(registry.hold("t", "b", exactly(0, 0)));
    assert_eq!((refused.used, refused.held, refused.max_tokens, refused.requested), (0, 100, 100, 0));
    let text = RegistryError::from(refused).to_string();
    assert_eq!(text, "thread t: 0 of 100 tokens are used and 100 are held, 0 more do not fit");
}

#[test]
fn a_refused_hold_leaves_no_thread_behind() {
    let mut registry = registry(100);
    registry.set_next_birth(5);
    exhausted(registry.hold("t", "r", exactly(100, 1)));
    assert!(!registry.has_budget("t"));
    registry.set_max_threads(0);
    assert_eq!(registry.hold("t", "r", exactly(1, 1)), Err(RegistryError::TooManyThreads(0)));
    registry.set_max_threads(1);
    registry.hold("t", "r", exactly(1, 1)).expect("it fits");
    assert_eq!(state(&registry, "t").birth, 5, "a refused thread takes no birth");
}

#[test]
fn the_same_request_sets_its_hold_to_new_numbers() {
    let mut registry = registry(1_000);
    let hold = |registry: &mut Registry, wanted| registry.hold("t", "r", wanted);
    hold(&mut registry, exactly(100, 300)).expect("it fits");
    registry.hold("t", "other", exactly(0, 500)).expect("it fits");

    assert_eq!(hold(&mut registry, wanted(100, 900, 0)).map(|held| held.completion_tokens), Ok(400));
    assert_eq!(registry.held_tokens("t"), 1_000);
    let refused = exhausted(hold(&mut registry, exactly(100, 401)));
    assert_eq!((refused.held, refused.requested), (500, 501), "its own hold is apart");
    assert_eq!(registry.held_tokens("t"), 1_000, "and stays as it was");

    registry.set_limit("t", 10).expect("room");
    assert_eq!(
        hold(&mut registry, exactly(90, 400)).map(|held| (held.completion_tokens, held.room)),
        Ok((400, 0))
    );
    exhausted(hold(&mut registry, wanted(90, 401, 0)));
    assert_eq!(registry.held_tokens("t"), 990);
    assert_eq!(state(&registry, "t").holds.len(), 2);
}

/// What is left may be less than what is held already.
#[test]
fn a_hold_that_may_not_grow_as_asked_does_not_shrink() {
    let mut registry = registry(1_000);
    registry.hold("t", "r", exactly(0, 400)).expect("it fits");
    registry.consume("t", 800, 0).expect("room");
    let held = registry.hold("t", "r", wanted(0, 600, 0)).expect("it fits");
    assert_eq!((held.completion_tokens, held.room), (400, 0));
    registry.consume("t", 200, 0).expect("room");
    exhausted(registry.hold("t", "r", wanted(0, 600, 0)));
}

#[test]
fn settling_replaces_the_hold() {
    let mut registry = registry(1_000);
    registry.hold("t", "r", exactly(100, 300)).expect("it fits");
    let consumed = registry.settle("t", "r", 100, 650, false).expect("it is held");
    assert_eq!((consumed.usage.total_tokens, consumed.usage.request_count, consumed.room), (750, 1, 250));
    assert_eq!((consumed.severity, consumed.repeated), (Some(Severity::Warning), false));
    assert_eq!(consumed.crossed.len(), 1);
    assert_eq!(consumed.crossed[0].runway, Some(0));
    assert_eq!(registry.held_tokens("t"), 0);
    assert_eq!(registry.settle("t", "r", 1, 1, false), Err(RegistryError::UnknownHold));
    assert!(!registry.release("t", "r"));
    assert_eq!(registry.get_usage("t").map(|usage| usage.total_tokens), Some(750));
}

#[test]
fn settling_without_a_hold_counts_once_what_is_to_be_remembered() {
    let mut registry = registry(1_000);
    assert_eq!(registry.settle("t", "r", 1, 1, false), Err(RegistryError::UnknownHold));
    assert!(!registry.has_budget("t"));
    assert_eq!(
        registry.settle("t", "r", 10, 10, true).map(|it| (it.usage.total_tokens, it.repeated)),
        Ok((20, false))
    );
    for remember in [false, true] {
        let again = registry.settle("t", "r", 10, 10, remember).expect("it is known");
        assert_eq!((again.usage.total_tokens, again.room, again.repeated), (20, 980, true));
    }
    let held = registry.hold("t", "r", exactly(1, 1)).expect("it is known");
    assert_eq!((held.completion_tokens, held.repeated, registry.held_tokens("t")), (0, true, 0));
    assert_eq!(registry.settle_lost("t", "r", 1, 1).map(|it| it.repeated), Ok(true));
    registry.reset_thread("t");
    assert_eq!(
        registry.settle("t", "r", 5, 0, true).map(|it| (it.usage.total_tokens, it.repeated)),
        Ok((5, false))
    );
}

#[test]
fn a_late_settle_adds_what_is_more_than_was_lost_once() {
    for remember in [false, true] {
        let mut registry = registry(1_000);
        registry.hold("t", "r", exactly(100, 300)).expect("it fits");
        let lost = registry.settle_lost("t", "r", 100, 200).expect("it is held");
        assert_eq!((lost.usage.total_tokens, lost.usage.request_count, lost.repeated), (300, 1, false));
        assert_eq!(registry.held_tokens("t"), 0);
        assert_eq!(registry.settle_lost("t", "r", 900, 900).map(|it| it.repeated), Ok(true));
        assert!(!registry.release("t", "r"), "a late release changes nothing");

        let late = registry.settle("t", "r", 90, 250, remember).expect("it has a mark");
        assert_eq!((late.usage.prompt_tokens, late.usage.completion_tokens), (100, 250));
        assert_eq!((late.usage.request_count, late.repeated), (1, false), "no further request");
        assert_eq!(state(&registry, "t").average_tokens, 300);
        assert_eq!(state(&registry, "t").lost, []);
        let again = registry.settle("t", "r", 900, 900, remember);
        match remember {
            true => assert!(again.expect("it is remembered").repeated),
            false => assert_eq!(again, Err(RegistryError::UnknownHold)),
        }
        assert_eq!(registry.get_usage("t").map(|usage| usage.total_tokens), Some(350));
    }
}

#[test]
fn an_owner_who_holds_again_after_a_loss_is_charged_what_is_more() {
    let mut registry = registry(1_000);
    registry.hold("t", "r", exactly(100, 100)).expect("it fits");
    registry.settle_lost("t", "r", 100, 50).expect("it is held");
    registry.hold("t", "r", exactly(100, 200)).expect("it fits");
    assert_eq!(registry.held_tokens("t"), 300);
    let lost = registry.settle_lost("t", "r", 80, 120).expect("it is held");
    assert_eq!((lost.usage.prompt_tokens, lost.usage.completion_tokens), (100, 120));
    let mark = &state(&registry, "t").lost[0];
    assert_eq!((mark.prompt_tokens, mark.completion_tokens), (100, 120));

    registry.hold("t", "r", exactly(100, 200)).expect("it fits");
    assert!(registry.release("t", "r"));
    assert_eq!(state(&registry, "t").lost.len(), 1, "a release leaves the mark");
    let late = registry.settle("t", "r", 100, 130, false).expect("it has a mark");
    assert_eq!((late.usage.total_tokens, late.usage.request_count), (230, 1));
}

#[test]
fn a_thread_keeps_its_latest_64_marks() {
    let mut registry = registry(1_000_000);
    for n in 0..70 {
        registry.hold("t", &format!("r{n}"), exactly(1, 1)).expect("it fits");
    }
    // Not in the order in which they were held.
    for n in (0..70).rev() {
        registry.settle_lost("t", &format!("r{n}"), 1, 1).expect("it is held");
    }
    let marks: Vec<_> = state(&registry, "t").lost.into_iter().map(|lost| lost.request_id).collect();
    assert_eq!(marks, (0..64).rev().map(|n| format!("r{n}")).collect::<Vec<_>>());
    assert_eq!(registry.settle("t", "r64", 9, 9, false), Err(RegistryError::UnknownHold));
    assert!(registry.settle("t", "r63", 9, 9, false).is_ok());
}

#[test]
fn a_thread_has_at_most_256_holds_of_its_own() {
    let mut registry = registry(1_000_000);
    for n in 0..256 {
        registry.hold("t", &format!("r{n}"), exactly(1, 1)).expect("it fits");
    }
    assert_eq!(registry.hold("t", "more", exactly(1, 1)), Err(RegistryError::TooManyHolds(256)));
    assert!(registry.hold("t", "r7", exactly(2, 2)).is_ok(), "one that is there is changed");
    registry.settle_lost("t", "r7", 1, 1).expect("it is held");
    registry.hold("t", "r256", exactly(1, 1)).expect("a mark is no hold");
    assert_eq!(registry.hold("t", "r7", exactly(1, 1)), Err(RegistryError::TooManyHolds(256)));
    registry.release("t", "r8");
    assert!(registry.hold("t", "r7", exactly(1, 1)).is_ok());
}

#[test]
fn room_is_the_least_of_the_line_beside_what_is_held() {
    let mut registry = registry(1_000);
    registry.open_thread("p", Some(500), None).expect("room");
    registry.open_thread("c", None, Some("p")).expect("room");
    registry.open_thread("d", None, Some("p")).expect("room");
    registry.hold("d", "r", exactly(100, 100)).expect("it fits");
    let room = |held: Held| held.room;
    assert_eq!(registry.hold("c", "r", exactly(50, 50)).map(room), Ok(200));
    let refused = exhausted(registry.hold("c", "s", exactly(0, 201)));
    assert_eq!((&*refused.thread_id, refused.held, refused.max_tokens), ("p", 300, 500));
    assert_eq!(registry.settle("c", "r", 60, 60, false).map(|it| it.room), Ok(180));
    assert_eq!(
        (registry.held_tokens("p"), registry.held_tokens("c"), registry.held_tokens("d")),
        (200, 0, 200)
    );
}

#[test]
fn warnings_are_pending_until_they_are_acknowledged_by_percent_and_limit() {
    let mut registry = registry(1_000);
    registry.consume("t", 450, 0).expect("room");
    registry.consume("t", 450, 0).expect("room");
    for _ in 0..2 {
        let pending = registry.pending_warnings("t");
        let named: Vec<_> =
            pending.iter().map(|it| (&*it.thread_id, it.threshold_percent, it.runway)).collect();
        assert_eq!(named, [("t", 75, Some(0)), ("t", 90, Some(0))]);
        assert_eq!(registry.hold("t", "r", exactly(1, 1)).expect("it fits").pending.len(), 2);
    }
    registry.acknowledge_warnings("t", [(75, 999), (90, 1_000), (95, 1_000)]);
    assert_eq!(state(&registry, "t").pending_thresholds, [75]);
    registry.acknowledge_warnings("nobody", [(75, 1_000)]);
    assert!(!registry.has_budget("nobody"));
}

#[test]
fn a_threshold_keeps_the_severity_it_was_crossed_with() {
    let only = |severity| [Threshold { percent: 50, severity }];
    let mut registry = registry(100);
    registry.set_thresholds(only(Severity::Final)).expect("valid");
    registry.consume("t", 50, 0).expect("room");
    registry.set_thresholds(only(Severity::Warning)).expect("valid");
    assert_eq!(registry.consume("t", 1, 0).map(|it| it.severity), Ok(Some(Severity::Final)));
    assert_eq!(state(&registry, "t").triggered_thresholds, only(Severity::Final));
    assert_eq!(registry.pending_warnings("t")[0].severity, Severity::Final);
}
