//! The core without a component around it.

use crate::ids::{COMPLETION_TOKENS, InTurn, LIMIT, ONE, PROMPT_TOKENS, ordinary, scattered};
use crate::measure::{Group, Row};
use std::hint::black_box;
use thread_budget_core::{Registry, Wanted};

pub(crate) const CONSUME: &str = "native consume";

pub(crate) fn rows() -> Group {
    let mut rows = vec![
        Row::call("native check-budget", || {
            let mut registry = registry(&[ONE.into()]);
            move || registry.check_budget(black_box(ONE), 2_000).expect("it fits")
        }),
        Row::call(CONSUME, || {
            let mut registry = registry(&[ONE.into()]);
            move || consume(&mut registry, ONE)
        }),
        Row::call("native hold and settle", || {
            let mut registry = registry(&[ONE.into()]);
            let wanted = Wanted {
                prompt_tokens: PROMPT_TOKENS,
                completion_tokens: 600,
                least_completion_tokens: 100,
                holder: 1,
                deadline: 1,
            };
            move || {
                let request = black_box("request-0000001");
                drop(black_box(registry.hold(black_box(ONE), request, wanted).expect("it fits")));
                let settled = registry.settle(ONE, request, PROMPT_TOKENS, COMPLETION_TOKENS, false);
                drop(black_box(settled.expect("it is held")));
            }
        })
        .against(CONSUME),
    ];
    rows.extend([16, 256, 4_096].map(|size| {
        Row::call(batch_name(size), move || {
            let ids = ordinary(size);
            let mut registry = registry(&ids);
            move || {
                let entries = ids.iter().map(|id| (&**id, PROMPT_TOKENS, COMPLETION_TOKENS));
                drop(black_box(registry.consume_batch(entries, 0).expect("room for it")));
            }
        })
        .per_entry(size)
    }));
    rows.extend([("1 thousand", 1_000), ("1 million", 1_000_000)].map(|(count, threads)| {
        Row::call(format!("native consume, {count} threads"), move || {
            let ids = ordinary(threads);
            let mut registry = registry(&ids);
            let mut ids = InTurn::new(scattered(&ids));
            move || consume(&mut registry, ids.next())
        })
    }));
    Group { title: "the core, natively, without a component", rows }
}

pub(crate) fn batch_name(size: usize) -> String {
    format!("native batch of {size}, an entry")
}

fn registry(ids: &[String]) -> Registry {
    let mut registry = Registry::new();
    registry.configure(LIMIT);
    for id in ids {
        consume(&mut registry, id);
    }
    registry
}

fn consume(registry: &mut Registry, id: &str) {
    drop(black_box(registry.consume(black_box(id), PROMPT_TOKENS, COMPLETION_TOKENS).expect("room for it")));
}
