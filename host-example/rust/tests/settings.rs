//! Settings of a registry of several instances.

use std::sync::Barrier;
use std::thread;
use thread_budget_host::Registry;

/// Two calls at once set the same in both instances: that of one of them.
#[test]
fn instances_agree_on_what_is_set_at_once() {
    const ROUNDS: u64 = 20_000;
    let registry = Registry::builder().instances(2).build().expect("it loads").blocking();
    let of_instance = |number| {
        let ids = (0..).map(|n| format!("thread-{n}"));
        ids.into_iter().find(|id| registry.instance_of(id) == number).expect("there are many ids")
    };
    let threads = [of_instance(0), of_instance(1)];
    let barrier = Barrier::new(2);
    let set = |round: u64, caller: u64| {
        barrier.wait();
        registry.configure(2 * round + caller).expect("set");
        barrier.wait();
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                set(round, 0);
            }
        });
        for round in 0..ROUNDS {
            set(round, 1);
            let limits = threads.each_ref().map(|thread_id| {
                registry.reset_thread(thread_id).expect("no trap");
                let budget = registry.get_budget(thread_id).expect("created");
                budget.usage().expect("no trap").max_tokens
            });
            assert_eq!(limits[0], limits[1], "round {round}");
        }
    });
}
