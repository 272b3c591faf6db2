//! A component instance, and how to make another one like it.

use crate::bindings::exports::thread_budget::registry::registry as wit;
use crate::bindings::{ThreadBudget as Exports, ThreadBudgetPre};
use crate::error::{CallError, LoadError};
use crate::types::RegistryError;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use wasmtime::component::{Component, Linker, ResourceAny};
use wasmtime::{Config, Engine, Store, StoreLimits, StoreLimitsBuilder, Trap};

/// How often the clock ticks within a deadline. A call is stopped at most one tick late.
const TICKS_PER_DEADLINE: u32 = 10;

/// A clock that ticks faster would do little else.
const SHORTEST_TICK: Duration = Duration::from_millis(1);

/// What an instance may take beyond its cap, and beyond a quarter of it, while state is brought back:
/// what it keeps free for a line of 16 threads.
const SPARE_MEMORY_BYTES: usize = 16 << 20;

/// wasmtime, and the clock for its deadlines.
pub(crate) fn engine(deadline: Option<Duration>) -> Result<Engine, LoadError> {
    let mut config = Config::new();
    config.epoch_interruption(deadline.is_some());
    let engine = Engine::new(&config).map_err(LoadError::Engine)?;
    if let Some(deadline) = deadline {
        keep_time(&engine, (deadline / TICKS_PER_DEADLINE).max(SHORTEST_TICK)).map_err(LoadError::Clock)?;
    }
    Ok(engine)
}

/// Advance the engine's epoch every `tick`, for as long as the engine exists: what deadlines of its instances
/// are counted in. For hosts that run components of their own beside the registry.
///
/// # Errors
/// When no thread can be started.
pub fn keep_time(engine: &Engine, tick: Duration) -> io::Result<()> {
    let engine = engine.weak();
    let clock = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(tick);
        }
    };
    thread::Builder::new().name("thread-budget-clock".into()).spawn(clock)?;
    Ok(())
}

/// A component, ready to be instantiated any number of times.
pub(crate) struct Blueprint {
    engine: Engine,
    pre: ThreadBudgetPre<StoreLimits>,
    max_memory_bytes: usize,
    deadline: Option<Duration>,
    made: AtomicUsize,
}

impl Blueprint {
    pub(crate) fn new(
        engine: Engine,
        component: &Component,
        max_memory_bytes: usize,
        deadline: Option<Duration>,
    ) -> Result<Self, LoadError> {
        let pre = Linker::new(&engine)
            .instantiate_pre(component)
            .and_then(ThreadBudgetPre::new)
            .map_err(LoadError::Contract)?;
        Ok(Self { engine, pre, max_memory_bytes, deadline, made: AtomicUsize::new(0) })
    }

    /// A fresh instance, without threads.
    pub(crate) fn instantiate(&self) -> Result<Instance, LoadError> {
        let mut store = Store::new(&self.engine, memory_cap(self.max_memory_bytes));
        store.limiter(|limits| limits);
        // Each handle takes some of the instance's memory, and that has a cap. wasmtime's own limit of
        // 100,000 would be a trap.
        store.set_max_component_handles(usize::MAX);
        if self.deadline.is_some() {
            store.set_epoch_deadline(u64::from(TICKS_PER_DEADLINE));
        }
        let exports = self.pre.instantiate(&mut store).map_err(LoadError::Instantiate)?;
        let Self { max_memory_bytes, deadline, .. } = *self;
        Ok(Instance {
            number: self.made.fetch_add(1, Ordering::Relaxed),
            store,
            exports,
            max_memory_bytes,
            deadline,
            deadlines_per_call: 1,
            max_threads: u32::MAX,
            lost: None,
        })
    }
}

fn memory_cap(bytes: usize) -> StoreLimits {
    StoreLimitsBuilder::new().memory_size(bytes).build()
}

/// A component instance, and whether it can still be called.
pub(crate) struct Instance {
    /// Which of those of its blueprint it is, counted from 0.
    pub(crate) number: usize,
    store: Store<StoreLimits>,
    exports: Exports,
    max_memory_bytes: usize,
    deadline: Option<Duration>,
    deadlines_per_call: u32,
    /// What it was told last, since it cannot be asked.
    pub(crate) max_threads: u32,
    /// Why it can not.
    pub(crate) lost: Option<Arc<str>>,
}

impl Instance {
    /// Do something with a higher memory cap and more time for each call. Bringing state back takes
    /// memory that the state itself does not, leaves other gaps in it than the calls that led there,
    /// and must not fail because the machine is busy.
    pub(crate) fn with_allowances<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        let cap = self.max_memory_bytes;
        *self.store.data_mut() = memory_cap(cap.saturating_add(cap / 4).saturating_add(SPARE_MEMORY_BYTES));
        self.deadlines_per_call = 1_000;
        let result = work(self);
        self.deadlines_per_call = 1;
        *self.store.data_mut() = memory_cap(cap);
        result
    }

    /// Call a function of the registry that may refuse.
    pub(crate) fn ask<R>(
        &mut self,
        call: impl FnOnce(&wit::Guest, &mut Store<StoreLimits>) -> wasmtime::Result<Result<R, RegistryError>>,
    ) -> Result<R, CallError> {
        Ok(self.call(call)??)
    }

    /// A handle on something of this instance.
    pub(crate) fn handle(&self, resource: ResourceAny) -> Handle {
        Handle { instance: self.number, resource }
    }

    /// Free what a handle stands for, if it is of this instance.
    pub(crate) fn free(&mut self, handle: Handle) {
        if handle.instance == self.number {
            // Of an instance that is lost nothing is left to be freed.
            let _ = self.enter(|_, store| handle.resource.resource_drop(store));
        }
    }

    /// Call into the registry of the contract.
    pub(crate) fn call<R>(
        &mut self,
        call: impl FnOnce(&wit::Guest, &mut Store<StoreLimits>) -> wasmtime::Result<R>,
    ) -> Result<R, CallError> {
        self.enter(|exports, store| call(exports.thread_budget_registry_registry(), store))
    }

    /// Call anything that the component exports.
    pub(crate) fn enter<R>(
        &mut self,
        call: impl FnOnce(&Exports, &mut Store<StoreLimits>) -> wasmtime::Result<R>,
    ) -> Result<R, CallError> {
        if let Some(reason) = &self.lost {
            return Err(CallError::InstanceLost { reason: reason.clone() });
        }
        if self.deadline.is_some() {
            // One more, since the current tick is partly over.
            let ticks = TICKS_PER_DEADLINE * self.deadlines_per_call;
            self.store.set_epoch_deadline(u64::from(ticks) + 1);
        }
        call(&self.exports, &mut self.store).map_err(|error| {
            let failure = match (error.downcast_ref(), self.deadline) {
                (Some(Trap::Interrupt), Some(deadline)) => CallError::Deadline { deadline },
                _ => CallError::Trap { reason: format!("{error:#}").into() },
            };
            self.lost = Some(match &failure {
                CallError::Trap { reason } => reason.clone(),
                other => other.to_string().into(),
            });
            failure
        })
    }
}

/// What an instance keeps for a caller, until it is freed there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handle {
    /// The number of the instance.
    pub(crate) instance: usize,
    pub(crate) resource: ResourceAny,
}
