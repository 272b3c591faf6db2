//! Holds whose thread goes: they move to the nearest ancestor that is left, or end.

use thread_budget_core::{CreateError, Registry, SettleError, ThreadState, Wanted};

fn tokens(prompt_tokens: u64, completion_tokens: u64) -> Wanted {
    Wanted {
        prompt_tokens,
        completion_tokens,
        least_completion_tokens: completion_tokens,
        holder: 1,
        deadline: 2,
    }
}

/// A line of these threads, each the parent of the next, with a limit of 1,000.
fn line(ids: &[&str]) -> Registry {
    let mut registry = Registry::new();
    registry.configure(1_000);
    let parents = [None].into_iter().chain(ids.iter().copied().map(Some));
    for (id, parent) in ids.iter().zip(parents) {
        registry.open_thread(id, None, parent).expect("room");
    }
    registry
}

fn state(registry: &Registry, thread_id: &str) -> ThreadState {
    let mut states = registry.snapshot(None, u32::MAX, 0).into_iter();
    states.find(|state| state.thread_id == thread_id).expect("it exists")
}

fn held(registry: &Registry, ids: &[&str]) -> Vec<u64> {
    ids.iter().map(|id| registry.held_tokens(id)).collect()
}

#[test]
fn a_hold_of_a_thread_that_was_cleaned_up_counts_in_its_parent() {
    let mut registry = line(&["root", "parent", "child"]);
    registry.hold("child", "r", tokens(10, 20)).expect("it fits");
    registry.cleanup_thread("child");
    assert_eq!(held(&registry, &["root", "parent", "child"]), [30, 30, 0]);
    assert_eq!(state(&registry, "parent").holds[0].made_for.as_deref(), Some("child"));

    let held_again = registry.hold("child", "r", tokens(10, 40)).expect("it fits");
    assert_eq!((held_again.usage.max_tokens, held_again.room), (1_000, 950));
    assert!(!registry.has_budget("child"), "a hold never makes a thread");
    let consumed = registry.settle("child", "r", 10, 50, false).expect("it is held");
    assert_eq!((consumed.usage.total_tokens, consumed.usage.request_count), (60, 1));
    assert_eq!(registry.get_usage("root").map(|usage| usage.total_tokens), Some(60));
    assert!(!registry.has_budget("child"));
    assert_eq!(held(&registry, &["root", "parent"]), [0, 0]);
    assert_eq!(registry.settle("child", "r", 1, 1, false), Err(SettleError::UnknownHold));
}

#[test]
fn a_thread_made_again_leaves_the_holds_of_the_one_before_where_they_are() {
    let mut registry = line(&["parent", "child"]);
    registry.hold("child", "r", tokens(10, 20)).expect("it fits");
    registry.cleanup_thread("child");
    let before = state(&registry, "parent").birth;
    registry.open_thread("other", None, None).expect("room");
    registry.open_thread("child", None, Some("other")).expect("room");
    assert!(state(&registry, "child").birth > before);
    registry.hold("child", "s", tokens(1, 1)).expect("it fits");
    assert_eq!(held(&registry, &["parent", "other", "child"]), [30, 2, 2]);

    registry.settle("child", "r", 10, 20, false).expect("it is held");
    registry.settle("child", "s", 1, 1, false).expect("it is held");
    let used = ["parent", "other", "child"].map(|id| registry.get_usage(id).expect("it exists").total_tokens);
    assert_eq!(used, [30, 2, 2]);
    assert_eq!(held(&registry, &["parent", "other", "child"]), [0, 0, 0]);
}

/// Its own hold goes to its parent with what had moved to it; those of its children stay in them.
#[test]
fn a_reset_hands_over_what_is_held_of_the_thread_itself() {
    let mut registry = line(&["root", "middle", "leaf"]);
    registry.open_thread("gone", None, Some("middle")).expect("room");
    registry.hold("gone", "r", tokens(1, 0)).expect("it fits");
    registry.hold("middle", "r", tokens(10, 0)).expect("it fits");
    registry.hold("leaf", "r", tokens(100, 0)).expect("it fits");
    registry.cleanup_thread("gone");
    let birth = state(&registry, "middle").birth;
    registry.reset_thread("middle");

    assert!(state(&registry, "middle").birth > birth);
    assert_eq!(held(&registry, &["root", "middle", "leaf"]), [111, 100, 100]);
    let moved: Vec<_> = state(&registry, "root").holds.into_iter().map(|hold| hold.made_for).collect();
    assert_eq!(moved, [Some("gone".into()), Some("middle".into())]);

    registry.settle("middle", "r", 10, 0, false).expect("it is held");
    assert_eq!(registry.get_usage("middle").map(|usage| usage.total_tokens), Some(0));
    assert_eq!(registry.get_usage("root").map(|usage| usage.total_tokens), Some(10));
    registry.hold("middle", "r", tokens(5, 0)).expect("it fits");
    assert_eq!(held(&registry, &["root", "middle"]), [106, 105], "settled, the name is free again");
}

#[test]
fn what_moved_moves_on_and_ends_where_no_ancestor_is_left() {
    let mut registry = line(&["a", "b", "c", "d"]);
    registry.hold("d", "r", tokens(1, 0)).expect("it fits");
    registry.cleanup_thread("d");
    registry.cleanup_thread("c");
    assert_eq!(held(&registry, &["a", "b"]), [1, 1]);
    registry.cleanup_thread("b");
    assert_eq!(held(&registry, &["a"]), [1]);
    assert_eq!(state(&registry, "a").holds[0].made_for.as_deref(), Some("d"));
    registry.reset_thread("a");
    assert_eq!(held(&registry, &["a"]), [0]);
    assert_eq!(registry.settle("d", "r", 1, 0, false), Err(SettleError::UnknownHold));
    assert!(!registry.release("d", "r"));

    let mut registry = line(&["a", "b"]);
    registry.hold("b", "r", tokens(1, 0)).expect("it fits");
    registry.clear();
    assert_eq!(registry.settle_lost("b", "r", 1, 0), Err(SettleError::UnknownHold));
}

#[test]
fn a_whole_tree_hands_over_to_the_parent_of_its_root() {
    let mut registry = line(&["top", "a", "b", "c"]);
    for id in ["a", "b", "c", "top"] {
        registry.hold(id, "r", tokens(1, 0)).expect("it fits");
    }
    registry.cleanup_thread("a");
    assert_eq!(held(&registry, &["top"]), [4]);
    assert_eq!(state(&registry, "top").holds.len(), 4);
    for id in ["a", "b", "c", "top"] {
        assert!(registry.release(id, "r"), "{id}");
    }
    assert_eq!(held(&registry, &["top"]), [0]);
}

/// The ancestor that is charged keeps a mark instead of what the thread would remember.
#[test]
fn what_is_remembered_of_a_thread_that_is_gone_is_a_mark() {
    let mut registry = line(&["parent", "child"]);
    registry.hold("child", "r", tokens(10, 20)).expect("it fits");
    registry.cleanup_thread("child");
    for (prompt, completion, total) in [(10, 15, 25), (10, 15, 25), (5, 40, 50), (5, 5, 50)] {
        let settled = registry.settle("child", "r", prompt, completion, true).expect("it has a mark");
        assert_eq!((settled.usage.total_tokens, settled.usage.request_count), (total, 1));
        assert!(!settled.repeated);
    }
    let lost = &state(&registry, "parent").lost;
    assert_eq!((lost.len(), lost[0].prompt_tokens, lost[0].completion_tokens), (1, 10, 40));
    assert_eq!(lost[0].made_for.as_deref(), Some("child"));
    assert_eq!(registry.settle_lost("child", "r", 99, 99).map(|it| it.repeated), Ok(true));
    registry.settle("child", "r", 0, 0, false).expect("it has a mark");
    assert_eq!(state(&registry, "parent").lost, []);
    assert_eq!(registry.settle("child", "r", 0, 0, false), Err(SettleError::UnknownHold));
}

#[test]
fn marks_that_move_count_among_the_latest_64() {
    let mut registry = line(&["parent", "child"]);
    for n in 0..50 {
        for id in ["parent", "child"] {
            registry.hold(id, format!("r{n}"), tokens(1, 1)).expect("it fits");
            registry.settle_lost(id, &format!("r{n}"), 1, 1).expect("it is held");
        }
    }
    registry.cleanup_thread("child");
    let lost = state(&registry, "parent").lost;
    assert_eq!(lost.len(), 64);
    assert_eq!((lost[0].request_id.as_str(), lost[63].request_id.as_str()), ("r18", "r49"));
    assert_eq!(lost.iter().filter(|lost| lost.made_for.is_some()).count(), 32);
}

/// Of what moves to a thread, 256 holds stay; the oldest are charged.
#[test]
fn more_than_256_holds_do_not_stay_in_an_ancestor() {
    let mut registry = line(&["parent", "child"]);
    for round in 0..2 {
        registry.open_thread("child", None, Some("parent")).expect("room");
        for n in 0..200 {
            registry.hold("child", format!("{round}-{n}"), tokens(1, 0)).expect("it fits");
        }
        registry.cleanup_thread("child");
    }
    let parent = state(&registry, "parent");
    assert_eq!((parent.holds.len(), parent.request_count, parent.prompt_tokens), (256, 144, 144));
    assert_eq!(parent.holds[0].request_id, "0-144");
    assert_eq!((parent.lost.len(), registry.held_tokens("parent")), (0, 256));
}

#[test]
fn a_detached_budget_holds_nothing_and_charges_nobody() {
    let mut registry = line(&["parent", "child"]);
    let handle = registry.get_budget("child").expect("room");
    registry.hold("child", "r", tokens(900, 0)).expect("it fits");
    registry.reset_thread("child");
    assert_eq!((handle.is_detached(), handle.held_tokens(), handle.room()), (true, 0, 1_000));
    registry.consume_of(&handle, 5, 5);
    assert_eq!(registry.get_usage("parent").map(|usage| usage.total_tokens), Some(0));
    assert_eq!(registry.held_tokens("parent"), 900);
}

#[test]
fn births_count_up_and_a_failed_restore_takes_none() {
    let mut registry = Registry::new();
    registry.set_next_birth(7);
    registry.consume("a", 0, 0).expect("room");
    registry.set_max_threads(1);
    assert_eq!(registry.consume("b", 0, 0), Err(CreateError::TooManyThreads(1)));
    registry.set_max_threads(9);
    let mut far = state(&registry, "a");
    far.thread_id = "far".into();
    far.birth = 100;
    let twice = [far.clone(), far.clone()];
    assert!(registry.restore(&twice).is_err());
    registry.consume("b", 0, 0).expect("room");
    assert_eq!(state(&registry, "b").birth, 8);
    registry.restore(&[far]).expect("valid");
    registry.consume("c", 0, 0).expect("room");
    assert_eq!(state(&registry, "c").birth, 101);

    registry.set_next_birth(u64::MAX);
    registry.consume("last", 0, 0).expect("room");
    registry.consume("beyond", 0, 0).expect("room");
    assert_eq!(state(&registry, "beyond").birth, u64::MAX);
}
