//! An instance of the component, called without anything in between.

use std::sync::OnceLock;
use thread_budget_host::COMPONENT;
use wasmtime::component::{Component, Linker, ResourceAny};
use wasmtime::{Config, Engine, Store, StoreLimits, StoreLimitsBuilder};

mod bindings {
    wasmtime::component::bindgen!({ path: "../wit", world: "thread-budget", additional_derives: [PartialEq] });
}

pub(crate) use bindings::exports::thread_budget::registry::types::{
    Acknowledgement, Consumed, Held, HoldState, LostState, RegistryError, Severity, ThreadOptions,
    ThreadState, Threshold, ThresholdCrossed, UsageEntry,
};

pub(crate) const PLENTY: usize = 1 << 30;

pub(crate) struct Instance {
    pub(crate) store: Store<StoreLimits>,
    pub(crate) exports: bindings::ThreadBudget,
}

/// Call the registry. A trap fails the test.
macro_rules! call {
    ($instance:expr, $method:ident $(, $argument:expr)* $(,)?) => {{
        let instance = &mut *$instance;
        let registry = instance.exports.thread_budget_registry_registry();
        registry.$method(&mut instance.store $(, $argument)*).expect("no trap")
    }};
}
pub(crate) use call;

impl Instance {
    pub(crate) fn new(max_memory_bytes: usize) -> Self {
        static COMPILED: OnceLock<Component> = OnceLock::new();
        Self::of(COMPILED.get_or_init(|| compile(&Config::new())), max_memory_bytes)
    }

    /// One whose store counts the instructions that it carries out.
    pub(crate) fn counted(max_memory_bytes: usize) -> Self {
        static COMPILED: OnceLock<Component> = OnceLock::new();
        let component = COMPILED.get_or_init(|| compile(Config::new().consume_fuel(true)));
        Self::of(component, max_memory_bytes)
    }

    fn of(component: &Component, max_memory_bytes: usize) -> Self {
        let engine = component.engine();
        let limits = StoreLimitsBuilder::new().memory_size(max_memory_bytes).build();
        let mut store = Store::new(engine, limits);
        store.limiter(|limits| limits);
        // So that memory alone decides.
        store.set_max_component_handles(usize::MAX);
        // Where it is counted at all.
        let _ = store.set_fuel(u64::MAX);
        let exports = bindings::ThreadBudget::instantiate(&mut store, component, &Linker::new(engine))
            .expect("it instantiates");
        Self { store, exports }
    }

    pub(crate) fn consume(&mut self, id: &str, tokens: u64) -> Result<Vec<ThresholdCrossed>, RegistryError> {
        call!(self, call_consume, id, tokens, 0).map(|consumed| consumed.crossed)
    }

    /// Hold prompt tokens.
    pub(crate) fn hold(&mut self, id: &str, request_id: &str, tokens: u64) -> Result<Held, RegistryError> {
        call!(self, call_hold, id, request_id, tokens, 0, 0, 1, 1)
    }

    pub(crate) fn settle(
        &mut self,
        id: &str,
        request_id: &str,
        tokens: u64,
        remember: bool,
    ) -> Result<Consumed, RegistryError> {
        call!(self, call_settle, id, request_id, tokens, 0, remember)
    }

    pub(crate) fn number_of_threads(&mut self) -> usize {
        call!(self, call_get_all_usage).len()
    }

    /// Every state, in pages of `limit`.
    pub(crate) fn states(&mut self, limit: u32) -> Vec<ThreadState> {
        let mut all: Vec<ThreadState> = Vec::new();
        loop {
            let after = all.last().map(|state| state.thread_id.clone());
            let page = call!(self, call_snapshot, after.as_deref(), limit);
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }

    pub(crate) fn drop(&mut self, handle: ResourceAny) {
        handle.resource_drop(&mut self.store).expect("no trap");
    }

    /// Every percent there is.
    pub(crate) fn set_all_thresholds(&mut self) {
        let all: Vec<_> = (1..=100).map(|percent| Threshold { percent, severity: Severity::Final }).collect();
        call!(self, call_set_thresholds, &all).expect("valid thresholds");
    }
}

fn compile(config: &Config) -> Component {
    let engine = Engine::new(config).expect("it is a configuration");
    Component::new(&engine, COMPONENT).expect("it compiles")
}

/// A hold as a snapshot has it.
pub(crate) fn hold_state(made_for: Option<&str>, request_id: &str) -> HoldState {
    HoldState {
        made_for: made_for.map(Into::into),
        request_id: request_id.into(),
        prompt_tokens: 0,
        completion_tokens: 0,
        completion_before: 0,
        holder: 0,
        deadline: 0,
    }
}

/// A mark as a snapshot has it.
pub(crate) fn lost_state(made_for: Option<&str>, request_id: &str) -> LostState {
    let made_for = made_for.map(Into::into);
    LostState { made_for, request_id: request_id.into(), prompt_tokens: 0, completion_tokens: 0 }
}

/// A thread of which nothing is known but its id.
pub(crate) fn state(thread_id: &str) -> ThreadState {
    ThreadState {
        thread_id: thread_id.into(),
        birth: 1,
        parent: None,
        opened: false,
        max_tokens: 1_000,
        prompt_tokens: 0,
        completion_tokens: 0,
        request_count: 0,
        average_tokens: 0,
        triggered_thresholds: Vec::new(),
        pending_thresholds: Vec::new(),
        request_ids: Vec::new(),
        holds: Vec::new(),
        lost: Vec::new(),
    }
}
