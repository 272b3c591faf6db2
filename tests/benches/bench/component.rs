//! The component through the host library, as an embedder calls it: with its lock and the default deadline.

use crate::folder;
use crate::ids::{
    COMPLETION_TOKENS, InTurn, LIMIT, ONE, PROMPT_TOKENS, colliding, long, one_byte, ordinary, scattered,
};
use crate::measure::{Group, Row};
use crate::native;
use std::hint::black_box;
use thread_budget_host::blocking::Registry;
use thread_budget_host::{Cache, RegistryBuilder, UsageEntry};

/// The floor: a string in, a lookup, a bool out, the least that a call about a thread can cost.
pub(crate) const FLOOR: &str = "has-budget";
pub(crate) const CONSUME: &str = "consume";

pub(crate) fn calls() -> Group {
    let mut rows = vec![
        Row::call(FLOOR, || {
            let registry = with_threads(&[ONE.into()]);
            move || assert!(registry.has_budget(ONE).expect("it answers"))
        }),
        Row::call("check-budget", || {
            let registry = with_threads(&[ONE.into()]);
            move || registry.check_budget(ONE, 2_000).expect("it fits")
        })
        .against(FLOOR),
        Row::call(CONSUME, || {
            let registry = with_threads(&[ONE.into()]);
            move || consume(&registry, ONE)
        })
        .against(FLOOR)
        .at_most(1.5),
        Row::call("consume through a handle", || {
            let budget = with_threads(&[ONE.into()]).get_budget(ONE).expect("it exists");
            move || {
                drop(black_box(budget.consume(PROMPT_TOKENS, COMPLETION_TOKENS).expect("it answers")));
            }
        })
        .against(FLOOR),
        Row::call("hold and settle", || {
            let registry = with_threads(&[ONE.into()]);
            move || {
                let mut hold = registry.hold(ONE, PROMPT_TOKENS, 600, 100).expect("it fits");
                hold.sent();
                drop(black_box(hold.settle(PROMPT_TOKENS, COMPLETION_TOKENS).expect("it answers")));
            }
        })
        .against(CONSUME)
        .at_most(2.2),
        Row::call("hold and settle beside 100 other holds", || {
            let registry = with_threads(&[ONE.into()]);
            let held: Vec<_> = (0..100).map(|_| registry.hold(ONE, 1, 1, 1).expect("it fits")).collect();
            move || {
                let _held = &held;
                let hold = registry.hold(ONE, PROMPT_TOKENS, 600, 100).expect("it fits");
                drop(black_box(hold.settle(PROMPT_TOKENS, COMPLETION_TOKENS).expect("it answers")));
            }
        })
        .against(CONSUME),
        Row::call("hold, and set it to the same", || {
            let registry = with_threads(&[ONE.into()]);
            let mut hold = registry.hold(ONE, PROMPT_TOKENS, 600, 100).expect("it fits");
            move || drop(black_box(hold.set(PROMPT_TOKENS, 600, 100).expect("it fits").clone()))
        })
        .against(CONSUME),
        Row::call("settle without a hold, 64 requests remembered", || {
            let registry = with_threads(&[ONE.into()]);
            // Twice as many as are remembered, so that each is new when its turn comes again.
            let mut requests = InTurn::new(ordinary(128));
            move || {
                let request = requests.next();
                let consumed = registry.settle(ONE, request, PROMPT_TOKENS, COMPLETION_TOKENS, true);
                assert!(!consumed.expect("room for it").repeated);
            }
        })
        .against(CONSUME),
    ];
    rows.extend([16, 256, 4_096].map(|size| {
        let row = Row::call(format!("batch of {size}, an entry"), move || {
            let ids = ordinary(size);
            let registry = with_threads(&ids);
            let (prompt_tokens, completion_tokens) = (PROMPT_TOKENS, COMPLETION_TOKENS);
            let entries: Vec<_> = ids
                .into_iter()
                .map(|thread_id| UsageEntry { thread_id, prompt_tokens, completion_tokens })
                .collect();
            move || drop(black_box(registry.consume_batch(&entries).expect("room for it")))
        });
        let row = row.per_entry(size).against(&native::batch_name(size));
        if size == 256 { row.at_most(2.0) } else { row }
    }));
    Group { title: "the component, through the host library (default deadline)", rows }
}

const THOUSAND: &str = "consume, 1 thousand threads";
const HUNDRED_THOUSAND: &str = "consume, 100 thousand threads";

pub(crate) fn scale() -> Group {
    let random_access = |name: &str, ids: fn() -> Vec<String>| {
        Row::call(name, move || {
            let ids = ids();
            let registry = with_threads(&ids);
            let mut ids = InTurn::new(scattered(&ids));
            move || consume(&registry, ids.next())
        })
    };
    let rows = vec![
        random_access(THOUSAND, || ordinary(1_000)),
        random_access(HUNDRED_THOUSAND, || ordinary(100_000)).against(THOUSAND),
        random_access("consume, 1 million threads", || ordinary(1_000_000)).against(THOUSAND).at_most(2.5),
        random_access("consume, 1 thousand colliding ids", || colliding(1_000)).against(THOUSAND),
        random_access("consume, 100 thousand colliding ids", || colliding(100_000)).against(HUNDRED_THOUSAND),
        random_access("consume, ids of 1 byte", one_byte).against(THOUSAND),
        random_access("consume, ids of 1,024 bytes", || long(1_000, 1_024)).against(THOUSAND),
    ];
    Group { title: "many threads, and ids chosen to slow it down, random access over all", rows }
}

/// Settings for a registry whose threads never reach a threshold.
pub(crate) fn builder() -> RegistryBuilder {
    RegistryBuilder::default().cache(Cache::Folder(folder("cache"))).tokens_per_thread(LIMIT)
}

pub(crate) fn with_threads(ids: &[String]) -> Registry {
    let registry = builder().build().expect("it starts").blocking();
    ids.iter().for_each(|id| consume(&registry, id));
    registry
}

pub(crate) fn consume(registry: &Registry, id: &str) {
    drop(black_box(registry.consume(id, PROMPT_TOKENS, COMPLETION_TOKENS).expect("room for it")));
}
