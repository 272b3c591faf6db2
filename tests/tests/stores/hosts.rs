//! What several hosts are to each other.

use super::{build, builder, memory, registry, terms, used};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use thread_budget_host::store::Store;
use thread_budget_host::{CallError, LostCalls, RegistryBuilder, ThreadOptions, UsageEntry};

/// Soon taken for dead.
const SHORT: Duration = Duration::from_millis(150);

fn brief(store: &Arc<dyn Store>) -> RegistryBuilder {
    builder(store).time_to_live(SHORT)
}

fn below(parent: &str) -> ThreadOptions {
    ThreadOptions { max_tokens: None, parent: Some(parent.into()) }
}

#[test]
fn one_budget_for_all() {
    let store = memory();
    let (a, b) = (registry(&store), registry(&store));
    a.consume("t", 600, 0).expect("it is recorded");
    assert!(matches!(b.check_budget("t", 401), Err(CallError::Refused(_))));
    let crossed = b.consume("t", 200, 0).expect("it is recorded").crossed;
    assert_eq!(crossed.len(), 1, "75 % is crossed once");
    assert!(a.consume("t", 10, 0).expect("it is recorded").crossed.is_empty());
    assert_eq!(a.pending_warnings("t").expect("it answers").len(), 1);
    assert_eq!((used(&a, "t"), used(&b, "t")), ((810, 0), (810, 0)));
}

#[test]
fn a_request_that_is_reported_to_two_hosts_counts_once() {
    let store = memory();
    let (a, b) = (registry(&store), registry(&store));
    assert!(!a.settle("t", "r", 10, 10, true).expect("it is recorded").repeated);
    assert!(b.settle("t", "r", 10, 10, true).expect("it is known").repeated);
    assert_eq!(used(&a, "t"), (10, 10));
}

#[test]
fn what_one_host_holds_another_settles() {
    let store = memory();
    let (a, b) = (registry(&store), registry(&store));
    a.set_hold("t", "r", &terms(&a, 100, 200)).expect("it fits");
    assert_eq!(b.held_tokens("t").expect("it answers"), 300);
    b.settle("t", "r", 90, 20, false).expect("it is held");
    assert_eq!(a.settle("t", "r", 90, 20, false), Err(CallError::UnknownHold));
    assert_eq!((a.held_tokens("t"), used(&a, "t")), (Ok(0), (90, 20)));
}

#[test]
fn a_guard_that_is_dropped_with_its_registry_is_heard() {
    let store = memory();
    let (a, b) = (registry(&store), registry(&store));
    let mut sent = a.hold("t", 10, 100, 100).expect("it fits");
    sent.sent();
    let unsent = a.hold("t", 10, 100, 100).expect("it fits");
    drop((sent, unsent, a));
    assert_eq!((used(&b, "t"), b.held_tokens("t")), ((10, 0), Ok(0)));
}

#[test]
fn a_hold_whose_thread_is_gone_is_found_by_its_name() {
    let store = memory();
    let (a, b, c) = (registry(&store), registry(&store), registry(&store));
    a.open_thread("parent", &ThreadOptions::default()).expect("there is room");
    a.open_thread("child", &below("parent")).expect("there is room");
    a.set_hold("child", "r", &terms(&a, 100, 200)).expect("it fits");
    a.cleanup_thread("child").expect("it answers").expect("it was there");
    assert!(!b.has_budget("child").expect("it answers"));
    assert_eq!(b.held_tokens("parent").expect("it answers"), 300);
    // Its id leads to the tree, and may be a thread there again.
    assert!(matches!(
        b.open_thread("child", &below("other")),
        Err(CallError::UnknownParent { .. } | CallError::OptionsDiffer { .. })
    ));
    b.consume("child", 1, 0).expect("it is a thread of its own");
    c.settle("child", "r", 90, 20, false).expect("it is held");
    assert_eq!((used(&a, "parent"), used(&a, "child")), ((90, 20), (1, 0)));
    assert_eq!(b.held_tokens("parent").expect("it answers"), 0);
    a.cleanup_thread("child").expect("it answers").expect("it is there");
    c.open_thread("other", &ThreadOptions::default()).expect("there is room");
    c.open_thread("child", &below("other")).expect("the id is free");
    c.consume("child", 5, 0).expect("it is recorded");
    assert_eq!((used(&b, "other"), used(&b, "parent")), ((5, 0), (90, 20)));
}

#[test]
fn a_hold_that_moved_when_its_thread_was_reset_is_found_when_that_is_gone() {
    let store = memory();
    let (a, b) = (registry(&store), registry(&store));
    a.open_thread("parent", &ThreadOptions::default()).expect("there is room");
    a.open_thread("child", &below("parent")).expect("there is room");
    a.set_hold("child", "r", &terms(&a, 100, 200)).expect("it fits");
    a.reset_thread("child").expect("it answers");
    a.cleanup_thread("child").expect("it answers").expect("it was there");
    b.settle("child", "r", 90, 20, false).expect("it is held");
    assert_eq!(used(&a, "parent"), (90, 20));
}

#[test]
fn a_thread_that_was_a_root_may_be_a_child() {
    let store = memory();
    let (a, b) = (registry(&store), registry(&store));
    a.consume("t", 1, 0).expect("it is recorded");
    b.open_thread("parent", &ThreadOptions::default()).expect("there is room");
    assert!(matches!(b.open_thread("t", &below("parent")), Err(CallError::OptionsDiffer { .. })));
    b.cleanup_thread("t").expect("it answers").expect("it was there");
    b.open_thread("t", &below("parent")).expect("the id is free");
    a.consume("t", 7, 0).expect("it is recorded");
    assert_eq!(used(&b, "parent"), (7, 0));
    a.cleanup_thread("parent").expect("it answers").expect("it was there");
    assert!(!b.has_budget("t").expect("it answers"));
}

#[test]
fn handles_see_what_others_do_until_their_thread_is_gone() {
    let store = memory();
    let (a, b) = (registry(&store), registry(&store));
    let budget = a.get_budget("t").expect("there is room");
    b.consume("t", 700, 0).expect("it is recorded");
    assert_eq!(budget.percent_used(), Ok(70.0));
    budget.consume(10, 0).expect("it is recorded");
    assert_eq!(used(&b, "t"), (710, 0));
    assert_eq!(budget.is_detached(), Ok(false));
    b.reset_thread("t").expect("it answers");
    assert_eq!(budget.is_detached(), Ok(true));
    b.consume("t", 1, 0).expect("it is recorded");
    assert_eq!(budget.usage(), Err(CallError::StaleHandle), "a thread of that id, and another");
}

#[test]
fn settings_are_those_of_the_store() {
    let store = memory();
    let (a, b) = (registry(&store), build(brief(&store).tokens_per_thread(7)));
    assert_eq!(b.max_tokens_per_thread(), Ok(1_000), "flags only seed");
    a.configure(50).expect("it is set");
    assert_eq!(b.max_tokens_per_thread(), Ok(50));
    a.configure(60).expect("it is set");
    thread::sleep(SHORT);
    b.consume("t", 60, 0).expect("it is recorded");
    assert!(matches!(b.check_budget("t", 1), Err(CallError::Refused(_))), "it has heard of it");
    a.set_max_threads(2).expect("it is set");
    assert_eq!(b.max_threads(), Ok(2));
    b.consume("u", 1, 0).expect("there is room");
    assert_eq!(b.consume("v", 1, 0).map(drop), Err(CallError::TooManyThreads { limit: 2 }));
    b.consume("u", 1, 0).expect("it exists");
}

#[test]
fn batches_lists_and_the_end_of_all() {
    let store = memory();
    let (a, b) = (registry(&store), registry(&store));
    let ids: Vec<_> = (0..300).map(|n| format!("{n:03}")).collect();
    let entry = |id: &String| UsageEntry { thread_id: id.clone(), prompt_tokens: 800, completion_tokens: 0 };
    let entries: Vec<_> = ids.iter().map(entry).collect();
    assert_eq!(a.consume_batch(&entries).expect("it is recorded").len(), 300, "75 % of each");
    let all = b.get_all_usage().expect("it answers");
    assert!(all.iter().map(|(id, _)| id).eq(&ids));
    assert!(all.iter().all(|(_, usage)| usage.total_tokens == 800));
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = b.snapshot(after.as_deref(), 7).expect("it answers");
        let Some(last) = page.last() else { break };
        after = Some(last.thread_id.clone());
        listed.extend(page.into_iter().map(|state| state.thread_id));
    }
    listed.sort();
    assert_eq!(listed, ids);
    b.clear().expect("it answers");
    assert!(a.get_all_usage().expect("it answers").is_empty());
    assert!(!a.has_budget("000").expect("it answers"));
}

#[test]
fn the_instance_keeps_what_is_in_use() {
    let store = memory();
    let small = build(builder(&store).max_memory_bytes(2 << 20));
    for round in 1..=2 {
        for n in 0..10_000 {
            let consumed = small.consume(&format!("thread-{n}"), 1, 0);
            assert_eq!(consumed.map(|consumed| consumed.usage.total_tokens), Ok(round), "thread {n}");
        }
    }
}

/// What a host holds when it ends without a word, settled as `lost_calls` say. Returns what was used.
fn lost(lost_calls: LostCalls) -> (u64, u64) {
    let store = memory();
    let (dead, live) = (build(brief(&store)), build(brief(&store).lost_calls(lost_calls)));
    live.consume("t", 1, 0).expect("it is recorded");
    dead.set_hold("t", "r", &terms(&dead, 100, 100)).expect("it fits");
    dead.set_hold("t", "r", &terms(&dead, 100, 300)).expect("it fits");
    live.consume("t", 1, 0).expect("it is recorded");
    assert_eq!(live.held_tokens("t"), Ok(400), "it is alive");
    drop(dead);
    thread::sleep(3 * SHORT);
    assert_eq!(live.held_tokens("t"), Ok(0), "it is dead");
    let (prompt, completion) = used(&live, "t");
    // Its last word comes late, and adds what is more.
    let late = registry(&store);
    if lost_calls != LostCalls::Nothing {
        late.settle("t", "r", 110, 250, false).expect("there is a mark");
        assert_eq!(used(&live, "t"), (112, 250.max(completion)));
    }
    (prompt - 2, completion)
}

#[test]
fn calls_of_a_host_that_is_gone_are_settled() {
    assert_eq!(lost(LostCalls::Prompt), (100, 100));
    assert_eq!(lost(LostCalls::All), (100, 300));
    assert_eq!(lost(LostCalls::Nothing), (0, 0));
}
