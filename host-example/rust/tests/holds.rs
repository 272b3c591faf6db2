//! Guards of calls in flight: however they end, what they held is settled or released, once.

use std::fs;
use std::future::pending;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use thread_budget_host::store::Memory;
use thread_budget_host::{
    CallError, Durability, HoldTerms, LostCalls, Registry, RegistryBuilder, ThreadOptions, blocking,
};

/// A registry in memory, one in a store, and two in a file.
fn everywhere(test: impl Fn(RegistryBuilder)) {
    test(Registry::builder());
    test(Registry::builder().store_at(Arc::new(Memory::new(None))));
    for durability in [Durability::Batched, Durability::Immediate] {
        let folder = tempfile::tempdir().expect("a folder");
        test(Registry::builder().database(folder.path().join("budgets.redb")).durability(durability));
    }
}

fn build(builder: RegistryBuilder) -> blocking::Registry {
    builder.tokens_per_thread(1_000).build().unwrap_or_else(|error| panic!("{error}")).blocking()
}

fn used(registry: &blocking::Registry, thread_id: &str) -> (u64, u64) {
    let usage = registry.get_usage(thread_id).expect("no trap").expect("it exists");
    (usage.prompt_tokens, usage.completion_tokens)
}

/// Poll a future once, and drop it.
fn cancel<F: Future>(future: F) {
    let mut future = pin!(future);
    let _ = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
}

#[test]
fn in_memory_every_future_is_ready_at_once() {
    let registry = Registry::builder().tokens_per_thread(1_000).build().expect("it loads");
    let mut call = pin!(async {
        let mut hold = registry.hold("a", 100, 100, 0).await?;
        hold.sent();
        hold.set(100, 200, 0).await?;
        hold.settle(100, 150).await?;
        registry.get_budget("a").await?.consume(1, 1).await?;
        registry.clear().await
    });
    let poll = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(poll, Poll::Ready(Ok(())));
}

#[test]
fn what_was_granted_and_where_the_thread_stands_is_told() {
    let registry = build(Registry::builder());
    registry.consume("a", 760, 0).expect("recorded");
    let mut hold = registry.hold("a", 40, 500, 100).expect("it fits");
    let held = hold.held().clone();
    assert_eq!((held.completion_tokens, held.room, held.usage.total_tokens), (200, 0, 760));
    assert_eq!(held.pending.len(), 1);
    assert_eq!(hold.set(40, 50, 0).expect("less always fits").room, 150);
    let refused = hold.set(40, 500, 300).expect_err("more than there is");
    assert!(refused.to_string().contains("760 of 1000 tokens"), "{refused}");
    assert_eq!(registry.held_tokens("a"), Ok(90), "it stays as it was");
    assert_eq!(hold.settle(41, 9).expect("settled").room, 190);
}

#[test]
fn a_refused_hold_leaves_no_thread_and_no_hold() {
    everywhere(|builder| {
        let registry = build(builder);
        for _ in 0..10 {
            assert!(matches!(registry.hold("a", 1_001, 0, 0), Err(CallError::Refused(_))));
        }
        assert_eq!(registry.has_budget("a"), Ok(false));
    });
}

#[test]
fn a_refusal_says_what_is_used_and_held() {
    let registry = build(Registry::builder());
    registry.consume("a", 700, 0).expect("recorded");
    let refused = || registry.check_budget("a", 400).expect_err("it does not fit").to_string();
    assert_eq!(refused(), "thread a: 700 of 1000 tokens are used, 400 more do not fit");
    let _hold = registry.hold("a", 200, 0, 0).expect("it fits");
    assert_eq!(refused(), "thread a: 700 of 1000 tokens are used and 200 are held, 400 more do not fit");
}

#[test]
fn dropped_before_it_is_sent_it_is_released() {
    everywhere(|builder| {
        let registry = build(builder);
        drop(registry.hold("a", 600, 0, 0).expect("it fits"));
        assert_eq!(registry.held_tokens("a"), Ok(0));
        drop(registry.hold("a", 600, 0, 0).expect("it fits again"));
        assert_eq!(used(&registry, "a"), (0, 0));
    });
}

#[test]
fn dropped_after_it_was_sent_it_is_settled_as_lost() {
    for (lost_calls, expected) in
        [(LostCalls::Prompt, (100, 50)), (LostCalls::All, (100, 150)), (LostCalls::Nothing, (0, 0))]
    {
        everywhere(|builder| {
            let registry = build(builder.lost_calls(lost_calls));
            let mut hold = registry.hold("a", 100, 50, 50).expect("it fits");
            hold.sent();
            hold.set(100, 150, 150).expect("it fits");
            drop(hold);
            assert_eq!(registry.held_tokens("a"), Ok(0));
            assert_eq!(used(&registry, "a"), expected, "{lost_calls:?}");
        });
    }
}

#[test]
fn a_hold_of_a_cancelled_future_ends_with_it() {
    everywhere(|builder| {
        let registry = build(builder);
        let hold = registry.hold("a", 100, 50, 50).expect("it fits");
        cancel(async move {
            let _hold = hold;
            pending::<()>().await;
        });
        assert_eq!(registry.held_tokens("a"), Ok(0));
        let mut sent = registry.hold("a", 100, 50, 50).expect("it fits");
        sent.sent();
        cancel(async move {
            let _hold = sent;
            pending::<()>().await;
        });
        assert_eq!((registry.held_tokens("a"), used(&registry, "a")), (Ok(0), (100, 0)));
    });
}

/// With a database a future waits for the disk after its call was carried out. Whoever drops it then has
/// lost the answer, and nothing else.
#[test]
fn calls_that_are_cancelled_while_they_wait_for_the_disk_leak_nothing() {
    for durability in [Durability::Batched, Durability::Immediate] {
        let folder = tempfile::tempdir().expect("a folder");
        let builder = Registry::builder().database(folder.path().join("budgets.redb")).durability(durability);
        let registry = builder.tokens_per_thread(1_000).build().expect("it opens");
        let blocking = registry.blocking();
        for n in 1..=20 {
            cancel(registry.hold("a", 900, 0, 0));
            assert_eq!(blocking.held_tokens("a"), Ok(0));
            let mut hold = pollster::block_on(registry.hold("b", 10, 10, 10)).expect("it fits");
            hold.sent();
            cancel(hold.settle(7, 1));
            assert_eq!(blocking.held_tokens("b"), Ok(0));
            assert_eq!(used(&blocking, "b"), (7 * n, n), "settled once, at what it used");
        }
    }
}

#[test]
fn a_request_of_its_own_name_is_counted_once() {
    everywhere(|builder| {
        let registry = build(builder);
        let hold = registry.hold_once("a", "request", 100, 0, 0).expect("it fits");
        hold.settle(90, 10).expect("settled");
        let again = registry.hold_once("a", "request", 100, 0, 0).expect("known");
        assert!(again.held().repeated);
        assert_eq!(registry.held_tokens("a"), Ok(0));
        assert!(again.settle(90, 10).expect("known").repeated);
        let mut forgotten = registry.hold_once("a", "request", 100, 0, 0).expect("known");
        forgotten.sent();
        drop(forgotten);
        assert_eq!(used(&registry, "a"), (90, 10));
    });
}

#[test]
fn a_lost_request_of_its_own_name_may_be_settled_late() {
    everywhere(|builder| {
        let registry = build(builder);
        let mut hold = registry.hold_once("a", "request", 100, 50, 50).expect("it fits");
        hold.sent();
        drop(hold);
        assert_eq!(used(&registry, "a"), (100, 0));
        registry.settle("a", "request", 120, 30, true).expect("settled");
        registry.settle("a", "request", 120, 30, true).expect("known");
        assert_eq!(used(&registry, "a"), (120, 30));
    });
}

#[test]
fn holds_outlive_their_thread_and_count_above_it() {
    everywhere(|builder| {
        let registry = build(builder);
        registry.get_budget("root").expect("created");
        let below = ThreadOptions { max_tokens: None, parent: Some("root".into()) };
        registry.open_thread("child", &below).expect("opened");
        let hold = registry.hold("child", 100, 0, 0).expect("it fits");
        registry.cleanup_thread("child").expect("cleaned up");
        assert_eq!(registry.held_tokens("root"), Ok(100));
        hold.settle(40, 2).expect("settled");
        assert_eq!((used(&registry, "root"), registry.has_budget("child")), ((40, 2), Ok(false)));

        let hold = registry.hold("alone", 100, 0, 0).expect("it fits");
        registry.cleanup_thread("alone").expect("cleaned up");
        assert_eq!(hold.settle(40, 2), Err(CallError::UnknownHold), "and it says so");
        assert_eq!(registry.has_budget("alone"), Ok(false));
    });
}

#[test]
fn a_thread_has_256_holds() {
    let registry = build(Registry::builder());
    let holds: Vec<_> = (0..256).map(|_| registry.hold("a", 1, 0, 0).expect("it fits")).collect();
    assert_eq!(registry.hold("a", 1, 0, 0).map(drop), Err(CallError::TooManyHolds { max: 256 }));
    drop(holds);
    assert_eq!(registry.held_tokens("a"), Ok(0));
}

/// What 20,000 calls in flight hold is none of the business of a thread that does not exist.
#[test]
fn a_reset_of_an_unknown_thread_takes_no_time() {
    let registry = build(Registry::builder().deadline(Duration::from_millis(100)));
    let holds: Vec<_> = (0..20_000)
        .map(|n| registry.hold(&format!("thread-{}", n / 200), 1, 0, 0).expect("it fits"))
        .collect();
    for n in 0..100 {
        registry.reset_thread(&format!("unknown-{n}")).expect("within the deadline");
        registry.cleanup_thread(&format!("unknown-{n}")).expect("within the deadline");
    }
    drop(holds);
    assert_eq!(registry.get_all_usage().expect("no trap").len(), 100);
}

/// The file as a crash leaves it: copied while it is open.
fn crashed(path: &Path) -> RegistryBuilder {
    let copy = path.with_extension("copy");
    fs::copy(path, &copy).expect("copied");
    Registry::builder().database(copy)
}

#[test]
fn what_was_in_flight_at_a_crash_is_settled_as_lost() {
    for (lost_calls, expected) in
        [(LostCalls::Prompt, (130, 50)), (LostCalls::All, (130, 190)), (LostCalls::Nothing, (0, 0))]
    {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("budgets.redb");
        let registry = build(Registry::builder().database(&path));
        let mut grown = registry.hold("a", 100, 50, 50).expect("it fits");
        grown.set(100, 150, 150).expect("it fits");
        let fresh = registry.hold("a", 30, 40, 40).expect("it fits");
        registry.hold("a", 10, 10, 10).expect("it fits").settle(0, 0).expect("settled");
        registry.hold("a", 10, 10, 10).expect("it fits").release().expect("released");

        let shown = crashed(&path).read_only().build().expect("it opens").blocking();
        assert_eq!(
            (shown.held_tokens("a"), used(&shown, "a")),
            (Ok(320), (0, 0)),
            "who reads settles nothing"
        );
        drop(shown);
        let builder = crashed(&path).lost_calls(lost_calls);
        let after = builder.clone().build().expect("it opens").blocking();
        assert_eq!((after.held_tokens("a"), used(&after, "a")), (Ok(0), expected), "{lost_calls:?}");
        drop(after);
        let after = builder.build().expect("it opens").blocking();
        assert_eq!((after.held_tokens("a"), used(&after, "a")), (Ok(0), expected), "once");
        drop((grown, fresh));
    }
}

/// A restart is a crash to whoever holds without a guard.
#[test]
fn a_hold_of_its_own_holder_outlives_nothing_but_the_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("budgets.redb");
    let registry = build(Registry::builder().database(&path));
    registry.set_hold("a", "request", &terms(registry.holder())).expect("it fits");
    drop(registry);
    let registry = build(Registry::builder().database(&path));
    assert_eq!((registry.held_tokens("a"), used(&registry, "a")), (Ok(0), (7, 0)));
    let late = registry.settle("a", "request", 9, 3, false).expect("there is a mark");
    assert_eq!((late.usage.prompt_tokens, late.usage.completion_tokens), (9, 3));
}

fn terms(holder: u64) -> HoldTerms {
    HoldTerms { prompt_tokens: 7, completion_tokens: 5, least_completion_tokens: 5, holder, deadline: 0 }
}
