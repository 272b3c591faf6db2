//! Settings of a registry of several instances.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use thread_budget_host::Registry;

/// Two calls at once set the same in both instances: that of one of them.
#[test]
fn instances_agree_on_what_is_set_at_once() {
    const ROUNDS: u64 = 100_000;
    let registry = Registry::builder().instances(2).build().expect("it loads").blocking();
    let of_instance = |number| {
        let mut ids = (0..).map(|n| format!("thread-{n}"));
        ids.find(|id| registry.instance_of(id) == number).expect("there are many ids")
    };
    let threads = [of_instance(0), of_instance(1)];
    // The round that may begin, and that the other has ended.
    let (begun, ended) = (AtomicU64::new(0), AtomicU64::new(0));
    let wait = |for_round: u64, what: &AtomicU64| {
        for spins in 0.. {
            if what.load(SeqCst) >= for_round {
                break;
            }
            if spins < 1_000 { spin_loop() } else { thread::yield_now() }
        }
    };
    let mut disagreements = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                wait(round, &begun);
                registry.configure(2 * round).expect("set");
                ended.store(round, SeqCst);
            }
        });
        for round in 1..=ROUNDS {
            begun.store(round, SeqCst);
            registry.configure(2 * round + 1).expect("set");
            wait(round, &ended);
            let limits = threads.each_ref().map(|thread_id| {
                registry.reset_thread(thread_id).expect("no trap");
                registry.consume(thread_id, 0, 0).expect("recorded").usage.max_tokens
            });
            disagreements += u64::from(limits[0] != limits[1]);
        }
    });
    assert_eq!(disagreements, 0, "of {ROUNDS} rounds");
}
