//! The component called with nothing between: wasmtime's bindings on a store, without lock or deadline.

use crate::ids::{COMPLETION_TOKENS, LIMIT, ONE, PROMPT_TOKENS, ordinary};
use crate::measure::{Group, Row, Unit, duration_of};
use crate::native;
use bindings::exports::thread_budget::registry::registry::Guest;
use bindings::exports::thread_budget::registry::types::UsageEntry;
use bindings::{ThreadBudget, ThreadBudgetPre};
use std::hint::black_box;
use thread_budget_host::COMPONENT;
use wasmtime::component::{Component, Linker, ResourceAny};
use wasmtime::{Engine, ResourceLimiter, Store};

mod bindings {
    #![allow(missing_docs, unreachable_pub, clippy::all)]
    wasmtime::component::bindgen!({ path: "../wit", world: "thread-budget" });
}

pub(crate) fn rows() -> Group {
    let rows = vec![
        Row::call("raw max-tokens-per-thread, an empty call", || {
            let mut raw = Raw::with_one_thread();
            move || _ = black_box(raw.call(|registry, store| registry.call_max_tokens_per_thread(store)))
        }),
        Row::call("raw has-budget", || {
            let mut raw = Raw::with_one_thread();
            move || _ = black_box(raw.call(|registry, store| registry.call_has_budget(store, ONE)))
        }),
        Row::call("raw check-budget", || {
            let mut raw = Raw::with_one_thread();
            move || {
                raw.call(|registry, store| registry.call_check_budget(store, ONE, 2_000)).expect("it fits");
            }
        }),
        Row::call("raw consume", || {
            let mut raw = Raw::with_one_thread();
            move || raw.consume(ONE)
        })
        .against("raw has-budget"),
        Row::call("raw consume through a handle", || {
            let mut raw = Raw::with_one_thread();
            let handle: ResourceAny =
                raw.call(|registry, store| registry.call_get_budget(store, ONE)).expect("it exists");
            move || {
                drop(black_box(raw.call(|registry, store| {
                    registry.thread_budget().call_consume(store, handle, PROMPT_TOKENS, COMPLETION_TOKENS)
                })));
            }
        })
        .against("raw has-budget"),
        Row::call("raw hold and settle", || {
            let mut raw = Raw::with_one_thread();
            move || {
                let held = raw.call(|registry, store| {
                    registry.call_hold(
                        store,
                        black_box(ONE),
                        "request-0000001",
                        PROMPT_TOKENS,
                        600,
                        100,
                        1,
                        1,
                    )
                });
                drop(black_box(held.expect("it fits")));
                let settled = raw.call(|registry, store| {
                    let (id, request) = (black_box(ONE), "request-0000001");
                    registry.call_settle(store, id, request, PROMPT_TOKENS, COMPLETION_TOKENS, false)
                });
                drop(black_box(settled.expect("it is held")));
            }
        })
        .against("raw consume"),
        // Every id is looked at before anything is recorded, and the last cannot be.
        Row::call("raw batch of 256, refused: only its way in, an entry", || {
            let mut raw = Raw::with_one_thread();
            let mut ids = ordinary(255);
            ids.push(String::new());
            let entries: Vec<_> = ids
                .into_iter()
                .map(|thread_id| UsageEntry {
                    thread_id,
                    prompt_tokens: PROMPT_TOKENS,
                    completion_tokens: COMPLETION_TOKENS,
                })
                .collect();
            move || {
                let refused = raw.call(|registry, store| registry.call_consume_batch(store, &entries));
                assert!(black_box(refused).is_err());
            }
        })
        .per_entry(256)
        .against(&native::batch_name(256)),
    ];
    Group { title: "the component, on wasmtime alone (no lock, no deadline)", rows }
}

pub(crate) fn instantiate() -> Row {
    Row::new("instantiate alone", Unit::Microseconds, || {
        let pre = pre();
        move || {
            const TIMES: u32 = 50;
            let instantiate = || drop(black_box(Raw::new(&pre)));
            duration_of(|| (0..TIMES).for_each(|_| instantiate())).as_nanos() as f64 / f64::from(TIMES) / 1e3
        }
    })
    .at_most(60.0)
}

pub(crate) fn memory() -> Group {
    const THREADS: usize = 1_000_000;
    let row = Row::new("linear memory a thread beside its id, 1 million threads", Unit::Bytes, || {
        let mut raw = Raw::new(&pre());
        let ids = ordinary(THREADS);
        let empty = raw.memory();
        ids.iter().for_each(|id| raw.consume(id));
        let per_thread = (raw.memory() - empty) as f64 / THREADS as f64;
        let id_bytes = ids.iter().map(String::len).sum::<usize>() as f64 / THREADS as f64;
        // The component is deterministic: there is nothing to be gained from doing it again.
        move || per_thread - id_bytes
    });
    Group { title: "memory", rows: vec![row.at_most(160.0)] }
}

/// An instance and its store, which knows how large its linear memory has become.
struct Raw {
    store: Store<Size>,
    exports: ThreadBudget,
}

/// The size of the linear memory, in bytes.
struct Size(usize);

impl ResourceLimiter for Size {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.0 = desired;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(true)
    }
}

fn pre() -> ThreadBudgetPre<Size> {
    let engine = Engine::default();
    let component = Component::new(&engine, COMPONENT).expect("it compiles");
    Linker::new(&engine)
        .instantiate_pre(&component)
        .and_then(ThreadBudgetPre::new)
        .expect("it is of the world and imports nothing")
}

impl Raw {
    fn new(pre: &ThreadBudgetPre<Size>) -> Self {
        let mut store = Store::new(pre.engine(), Size(0));
        store.limiter(|size| size);
        let exports = pre.instantiate(&mut store).expect("it starts");
        Self { store, exports }
    }

    fn with_one_thread() -> Self {
        let mut raw = Self::new(&pre());
        raw.call(|registry, store| registry.call_configure(store, LIMIT));
        raw.consume(ONE);
        raw
    }

    fn memory(&self) -> usize {
        self.store.data().0
    }

    fn call<R>(&mut self, call: impl FnOnce(&Guest, &mut Store<Size>) -> wasmtime::Result<R>) -> R {
        call(self.exports.thread_budget_registry_registry(), &mut self.store).expect("it does not trap")
    }

    fn consume(&mut self, id: &str) {
        let consumed = self.call(|registry, store| {
            registry.call_consume(store, black_box(id), PROMPT_TOKENS, COMPLETION_TOKENS)
        });
        drop(black_box(consumed.expect("room for it")));
    }
}
