//! Many callers at once: nothing is overspent, nothing stays held, nothing is counted twice or lost.

use fastrand::Rng;
use std::future::pending;
use std::panic::{self, AssertUnwindSafe};
use std::pin::pin;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::thread;
use thread_budget_host::blocking::Registry;
use thread_budget_host::{CallError, Durability, RegistryBuilder, ThreadOptions, UsageEntry};

const CALLERS: u64 = 64;
const LIMIT: u64 = 200_000;
const LARGEST_ESTIMATE: u64 = 2_000;
const LARGEST_OVERSHOOT: u64 = 100;

/// Where the callers spend, and what they did.
struct Scene<'a> {
    registry: &'a Registry,
    /// Each caller takes one of these.
    threads: &'a [&'a str],
    calls_per_caller: usize,
    committed: AtomicU64,
    overshoot: AtomicU64,
    refused: AtomicU64,
}

impl<'a> Scene<'a> {
    fn new(registry: &'a Registry, threads: &'a [&'a str], calls_per_caller: usize) -> Self {
        Self {
            registry,
            threads,
            calls_per_caller,
            committed: AtomicU64::new(0),
            overshoot: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    fn total(&self, thread_id: &str) -> u64 {
        self.registry.get_usage(thread_id).expect("no trap").map_or(0, |usage| usage.total_tokens)
    }

    /// Hold, call, settle, with deaths of every kind at every step.
    fn caller(&self, seed: u64) {
        let mut rng = Rng::with_seed(seed);
        let thread_id = self.threads[rng.usize(..self.threads.len())];
        for _ in 0..self.calls_per_caller {
            let estimate = rng.u64(1..=LARGEST_ESTIMATE);
            let mut hold =
                match self.registry.hold(thread_id, estimate / 2, estimate - estimate / 2, estimate) {
                    Ok(hold) => hold,
                    Err(CallError::Refused(_)) => {
                        self.refused.fetch_add(1, SeqCst);
                        continue;
                    }
                    Err(error) => panic!("{error}"),
                };
            if rng.bool() {
                thread::yield_now();
            }
            match rng.u32(..10) {
                0 => drop(hold),
                1 => {
                    let death = panic::catch_unwind(AssertUnwindSafe(|| {
                        let _held = hold;
                        panic::resume_unwind(Box::new("the caller dies"));
                    }));
                    assert!(death.is_err());
                }
                2 => {
                    let mut call = pin!(async {
                        let _held = hold;
                        pending::<()>().await;
                    });
                    let poll = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                    assert_eq!(poll, Poll::Pending, "and then it is cancelled");
                }
                3 => {
                    // Lost on its way: its prompt counts.
                    hold.sent();
                    drop(hold);
                    self.committed.fetch_add(estimate / 2, SeqCst);
                }
                outcome => {
                    let overshoot = if outcome == 4 { rng.u64(..=LARGEST_OVERSHOOT) } else { 0 };
                    let used = if overshoot > 0 { estimate + overshoot } else { rng.u64(..=estimate) };
                    // Declared before it is spent, so that a watcher never sees it undeclared.
                    self.overshoot.fetch_add(overshoot, SeqCst);
                    hold.settle(used / 3, used - used / 3).expect("recorded");
                    self.committed.fetch_add(used, SeqCst);
                }
            }
        }
    }

    /// Run all callers, and watch that the account is never above its limit and what was declared.
    fn play(&self, account: &str, limit: u64, seed: u64) {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let watch = scope.spawn(|| {
                while !over.load(SeqCst) {
                    let total = self.total(account);
                    let allowed = limit + self.overshoot.load(SeqCst);
                    assert!(total <= allowed, "{total} of {allowed} are used");
                    thread::yield_now();
                }
            });
            let callers: Vec<_> = (0..CALLERS)
                .map(|caller| scope.spawn(move || self.caller(seed * CALLERS + caller)))
                .collect();
            let results: Vec<_> = callers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            over.store(true, SeqCst);
            watch.join().expect("never above");
            results.into_iter().for_each(|result| result.expect("a caller that fails says why"));
        });
        assert_eq!(self.total(account), self.committed.load(SeqCst), "all that was committed, once");
        assert!(self.total(account) <= limit + self.overshoot.load(SeqCst));
        for thread_id in self.threads.iter().chain([&account]) {
            assert_eq!(self.registry.held_tokens(thread_id), Ok(0), "{thread_id} holds nothing");
        }
        assert!(self.refused.load(SeqCst) > 0, "the budget was contended");
    }
}

fn builder() -> RegistryBuilder {
    RegistryBuilder::default().tokens_per_thread(LIMIT)
}

fn one_thread(calls_per_caller: usize, seeds: impl Iterator<Item = u64>) {
    for seed in seeds {
        let registry = builder().build().expect("it loads").blocking();
        Scene::new(&registry, &["shared"], calls_per_caller).play("shared", LIMIT, seed);
    }
}

/// Every caller below one root, which is the account.
fn a_tree(builder: RegistryBuilder, calls_per_caller: usize, seed: u64) {
    let registry = builder.tokens_per_thread(u64::MAX).build().expect("it loads").blocking();
    let open = |thread_id: &str, max_tokens, parent: Option<&str>| {
        let options = ThreadOptions { max_tokens, parent: parent.map(Into::into) };
        drop(registry.open_thread(thread_id, &options).expect("opened"));
    };
    open("root", Some(LIMIT), None);
    open("planner", None, Some("root"));
    open("coder", None, Some("planner"));
    open("reviewer", None, Some("root"));
    let threads = ["root", "planner", "coder", "reviewer"];
    Scene::new(&registry, &threads, calls_per_caller).play("root", LIMIT, seed);
}

#[test]
fn callers_of_one_thread_never_overspend_or_leak() {
    one_thread(40, 0..5);
}

#[test]
fn callers_of_a_tree_never_overspend_or_leak() {
    a_tree(builder(), 40, 1);
    a_tree(builder().instances(4), 40, 2);
}

#[test]
fn callers_of_a_durable_registry_never_overspend_or_leak() {
    for durability in [Durability::Batched, Durability::Immediate] {
        let folder = tempfile::tempdir().expect("a folder");
        let calls = if durability == Durability::Batched { 40 } else { 8 };
        let builder = builder().database(folder.path().join("budgets.redb")).durability(durability);
        let limit = LARGEST_ESTIMATE * calls as u64;
        let registry = builder.tokens_per_thread(limit).build().expect("it loads").blocking();
        Scene::new(&registry, &["shared"], calls).play("shared", limit, 3);
    }
}

#[test]
#[ignore = "the soak: some minutes"]
fn soak() {
    one_thread(400, 100..400);
    for seed in 0..50 {
        a_tree(builder().instances(4), 400, seed);
    }
}

/// Of two settings made at once, the one that comes last is in force in every instance.
#[test]
fn instances_agree_on_a_setting_that_is_made_twice_at_once() {
    const ROUNDS: u64 = 20_000;
    let registry = RegistryBuilder::default().instances(2).build().expect("it loads").blocking();
    let ids = [0, 1].map(|number| {
        let of_instance = |id: &String| registry.instance_of(id) == number;
        (0..).map(|n| format!("thread-{n}")).find(of_instance).expect("one of them")
    });
    let limit_in_each = || {
        ids.each_ref().map(|id| {
            registry.cleanup_thread(id).expect("no trap");
            registry.check_budget(id, 0).expect("it is new");
            registry.get_usage(id).expect("no trap").expect("it exists").max_tokens
        })
    };
    let (both, mut differ) = (Barrier::new(2), 0);
    thread::scope(|scope| {
        let configure = |limit| {
            both.wait();
            registry.configure(limit).expect("no trap");
            both.wait();
        };
        scope.spawn(move || (1..=ROUNDS).for_each(configure));
        for round in 1..=ROUNDS {
            configure(ROUNDS + round);
            let [one, other] = limit_in_each();
            differ += u64::from(one != other);
        }
    });
    assert_eq!(differ, 0, "of {ROUNDS} rounds");
}

/// Threads move between instances when they are opened below a parent, while others use them, clean
/// them up and send batches: what each recorded is somewhere, once.
#[test]
fn instances_lose_and_double_nothing_while_threads_move() {
    const CALLS: usize = 3_000;
    let registry = RegistryBuilder::default().tokens_per_thread(u64::MAX).instances(3).build();
    let registry = registry.expect("it loads").blocking();
    let parents: Vec<_> = (0..4).map(|n| format!("parent-{n}")).collect();
    for parent in &parents {
        registry.get_budget(parent).expect("created");
    }
    let recorded = AtomicU64::new(0);
    let cleaned_up = AtomicU64::new(0);
    thread::scope(|scope| {
        for caller in 0..8 {
            let (registry, parents, recorded, cleaned_up) = (&registry, &parents, &recorded, &cleaned_up);
            scope.spawn(move || {
                let mut rng = Rng::with_seed(caller);
                for _ in 0..CALLS {
                    let child = format!("child-{}", rng.u32(..20));
                    match rng.u32(..10) {
                        0 | 1 => {
                            let parent = Some(parents[rng.usize(..parents.len())].clone());
                            let opened =
                                registry.open_thread(&child, &ThreadOptions { max_tokens: None, parent });
                            assert!(
                                matches!(opened, Ok(_) | Err(CallError::OptionsDiffer { .. })),
                                "{opened:?}"
                            );
                        }
                        2 => {
                            let last = registry.cleanup_thread(&child).expect("no trap");
                            let total = last.map_or(0, |last| last.usage.total_tokens);
                            cleaned_up.fetch_add(total, SeqCst);
                        }
                        3 => {
                            let entries: Vec<_> = (0..10)
                                .map(|_| UsageEntry {
                                    thread_id: format!("child-{}", rng.u32(..20)),
                                    prompt_tokens: 1,
                                    completion_tokens: 0,
                                })
                                .collect();
                            registry.consume_batch(&entries).expect("recorded");
                            recorded.fetch_add(10, SeqCst);
                        }
                        _ => {
                            registry.consume(&child, 1, 1).expect("recorded");
                            recorded.fetch_add(2, SeqCst);
                        }
                    }
                }
            });
        }
    });
    let all = registry.get_all_usage().expect("no trap");
    assert!(all.windows(2).all(|pair| pair[0].0 < pair[1].0), "ascending, each thread once");
    let children = all.iter().filter(|(thread_id, _)| thread_id.starts_with("child"));
    let left: u64 = children.map(|(_, usage)| usage.total_tokens).sum();
    assert_eq!(left + cleaned_up.load(SeqCst), recorded.load(SeqCst));
}
