//! The registry and its handles, each method one call into the component.

use crate::bindings::ThreadBudget as Exports;
use crate::bindings::exports::thread_budget::registry::registry as wit;
use crate::builder::{RegistryBuilder, TICKS_PER_DEADLINE};
use crate::error::{CallError, InvalidInput, from_contract};
use crate::types::{BudgetWarning, Consumed, FinalBudget, Threshold, ThresholdCrossed, Usage};
use crate::{MAX_THREAD_ID_BYTES, MAX_THRESHOLDS};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wasmtime::component::ResourceAny;
use wasmtime::{Store, StoreLimits, Trap};

/// One component instance, which is one registry of budgets.
///
/// Clones share it, from any thread of the process; calls take turns. Give each tenant a registry
/// of its own and nothing is shared between them.
///
/// Every method can also fail with [`CallError::Deadline`] or [`CallError::Trap`], and after either
/// with [`CallError::InstanceLost`].
#[derive(Clone)]
pub struct Registry {
    instance: Arc<Mutex<Instance>>,
}

/// A component instance, and whether it can still be called.
pub(crate) struct Instance {
    store: Store<StoreLimits>,
    exports: Exports,
    deadline: Option<Duration>,
    lost: Option<Arc<str>>,
}

impl Instance {
    pub(crate) fn new(store: Store<StoreLimits>, exports: Exports, deadline: Option<Duration>) -> Self {
        Self { store, exports, deadline, lost: None }
    }

    fn call<R>(
        &mut self,
        call: impl FnOnce(&Exports, &mut Store<StoreLimits>) -> wasmtime::Result<R>,
    ) -> Result<R, CallError> {
        if let Some(reason) = &self.lost {
            return Err(CallError::InstanceLost { reason: reason.clone() });
        }
        if self.deadline.is_some() {
            // One more, since the current tick is partly over.
            self.store.set_epoch_deadline(u64::from(TICKS_PER_DEADLINE) + 1);
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

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("lost", &self.lock().lost).finish_non_exhaustive()
    }
}

impl Registry {
    /// Settings for a new registry.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder::default()
    }

    pub(crate) fn new(instance: Instance) -> Self {
        Self { instance: Arc::new(Mutex::new(instance)) }
    }

    /// Set the limit, in tokens, of threads created from now on; threads that exist keep theirs.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn configure(&self, max_tokens_per_thread: u64) -> Result<(), CallError> {
        self.call(|registry, store| registry.call_configure(store, max_tokens_per_thread))
    }

    /// The limit, in tokens, that a new thread gets.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn max_tokens_per_thread(&self) -> Result<u64, CallError> {
        self.call(|registry, store| registry.call_max_tokens_per_thread(store))
    }

    /// Replace the thresholds, for every thread from its next consumption on.
    ///
    /// # Errors
    /// [`InvalidInput::Threshold`] and [`InvalidInput::TooManyThresholds`]; those in force then stay.
    pub fn set_thresholds(&self, thresholds: &[Threshold]) -> Result<(), CallError> {
        let thresholds = lower_thresholds(thresholds)?;
        from_contract(self.call(|registry, store| registry.call_set_thresholds(store, &thresholds))?, "")
    }

    /// The thresholds in force, ascending by percent.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn thresholds(&self) -> Result<Vec<Threshold>, CallError> {
        let thresholds = self.call(|registry, store| registry.call_thresholds(store))?;
        Ok(thresholds.into_iter().map(Into::into).collect())
    }

    /// Set how many threads may exist; those beyond a lowered limit stay.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn set_max_threads(&self, max_threads: u32) -> Result<(), CallError> {
        self.call(|registry, store| registry.call_set_max_threads(store, max_threads))
    }

    /// A live handle on the thread's budget; the thread is created when it does not exist.
    ///
    /// # Errors
    /// [`InvalidInput::ThreadId`], [`CallError::TooManyThreads`], [`CallError::OutOfMemory`].
    pub fn get_budget(&self, thread_id: &str) -> Result<ThreadBudget, CallError> {
        check_id(thread_id)?;
        let result = self.call(|registry, store| registry.call_get_budget(store, thread_id))?;
        Ok(ThreadBudget { registry: self.clone(), handle: from_contract(result, thread_id)? })
    }

    /// Ask, before an LLM call, whether the thread may use `estimated_tokens` more. The thread is
    /// created when it does not exist; nothing is recorded.
    ///
    /// # Errors
    /// [`CallError::Refused`] when the total has reached the limit or the estimate does not fit;
    /// otherwise as [`Registry::get_budget`].
    pub fn check_budget(&self, thread_id: &str, estimated_tokens: u64) -> Result<(), CallError> {
        check_id(thread_id)?;
        from_contract(
            self.call(|registry, store| registry.call_check_budget(store, thread_id, estimated_tokens))?,
            thread_id,
        )
    }

    /// Record, after an LLM call, what it used, overshoot included; the thread is created when it
    /// does not exist.
    ///
    /// # Errors
    /// As [`Registry::get_budget`].
    pub fn consume(
        &self,
        thread_id: &str,
        prompt_tokens: u64,
        completion_tokens: u64,
    ) -> Result<Consumed, CallError> {
        check_id(thread_id)?;
        let result = self.call(|registry, store| {
            registry.call_consume(store, thread_id, prompt_tokens, completion_tokens)
        })?;
        from_contract(result, thread_id).map(Into::into)
    }

    /// Whether the thread exists. An id that no thread can have does not.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn has_budget(&self, thread_id: &str) -> Result<bool, CallError> {
        self.query(thread_id, |registry, store| registry.call_has_budget(store, thread_id))
    }

    /// The thread's usage, if it exists.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn get_usage(&self, thread_id: &str) -> Result<Option<Usage>, CallError> {
        let usage = self.query(thread_id, |registry, store| registry.call_get_usage(store, thread_id))?;
        Ok(usage.map(Into::into))
    }

    /// Every thread's usage, ascending by thread id in byte order. Empty when the instance's memory
    /// cannot hold the list.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn get_all_usage(&self) -> Result<Vec<(String, Usage)>, CallError> {
        let all = self.call(|registry, store| registry.call_get_all_usage(store))?;
        Ok(all.into_iter().map(|(thread_id, usage)| (thread_id, usage.into())).collect())
    }

    /// Forget the thread: its next use starts from zero. Handles on it go on counting, detached.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn reset_thread(&self, thread_id: &str) -> Result<(), CallError> {
        self.query(thread_id, |registry, store| registry.call_reset_thread(store, thread_id))
    }

    /// Forget the thread and return its final budget, if it existed.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn cleanup_thread(&self, thread_id: &str) -> Result<Option<FinalBudget>, CallError> {
        let last = self.query(thread_id, |registry, store| registry.call_cleanup_thread(store, thread_id))?;
        Ok(last.map(Into::into))
    }

    /// Forget every thread; the settings stay.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn clear(&self) -> Result<(), CallError> {
        self.call(|registry, store| registry.call_clear(store))
    }

    /// The warning for the agent whose thread crossed a threshold.
    ///
    /// # Errors
    /// [`InvalidInput::ThreadId`]; otherwise those of every method, see [`Registry`].
    pub fn budget_warning(&self, crossed: &ThresholdCrossed) -> Result<BudgetWarning, CallError> {
        check_id(&crossed.thread_id)?;
        let crossed = crossed.clone().into();
        let warning = self.lock().call(|exports, store| {
            exports.thread_budget_registry_warnings().call_budget_warning(store, &crossed)
        })?;
        Ok(warning.into())
    }

    fn call<R>(
        &self,
        call: impl FnOnce(&wit::Guest, &mut Store<StoreLimits>) -> wasmtime::Result<R>,
    ) -> Result<R, CallError> {
        self.lock().call(|exports, store| call(exports.thread_budget_registry_registry(), store))
    }

    /// A call whose answer about an impossible id is the empty one, without crossing.
    fn query<R: Default>(
        &self,
        thread_id: &str,
        call: impl FnOnce(&wit::Guest, &mut Store<StoreLimits>) -> wasmtime::Result<R>,
    ) -> Result<R, CallError> {
        if check_id(thread_id).is_err() { Ok(R::default()) } else { self.call(call) }
    }

    fn lock(&self) -> MutexGuard<'_, Instance> {
        // A panic while it was held cannot have left the instance in between: wasmtime reports what
        // happens inside as errors, and `lost` is set last.
        self.instance.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A live view of one thread's budget: it sees what others consume and they see what it consumes.
///
/// After the thread is reset or cleaned up it goes on counting on its own, detached. Dropping it
/// frees it inside the instance.
///
/// ```
/// let registry = thread_budget_host::Registry::builder().tokens_per_thread(1_000).build()?;
/// let budget = registry.get_budget("agent-7")?;
/// registry.consume("agent-7", 600, 100)?;
/// assert_eq!(budget.percent_used()?, 70.0);
/// assert!(!budget.can_consume(301)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ThreadBudget {
    registry: Registry,
    handle: ResourceAny,
}

impl fmt::Debug for ThreadBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadBudget").finish_non_exhaustive()
    }
}

impl ThreadBudget {
    /// The thread this budget was created for.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn thread_id(&self) -> Result<String, CallError> {
        self.call(|budget, store| budget.call_thread_id(store, self.handle))
    }

    /// The usage of now.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn usage(&self) -> Result<Usage, CallError> {
        Ok(self.call(|budget, store| budget.call_usage(store, self.handle))?.into())
    }

    /// `total / max * 100`, not rounded; 0 when the limit is 0.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn percent_used(&self) -> Result<f64, CallError> {
        self.call(|budget, store| budget.call_percent_used(store, self.handle))
    }

    /// Whether the total has reached the limit.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn is_exhausted(&self) -> Result<bool, CallError> {
        self.call(|budget, store| budget.call_is_exhausted(store, self.handle))
    }

    /// Whether total + estimate stays within the limit.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn can_consume(&self, estimated_tokens: u64) -> Result<bool, CallError> {
        self.call(|budget, store| budget.call_can_consume(store, self.handle, estimated_tokens))
    }

    /// Record what an LLM call used and report the thresholds it crossed. Cheaper than by id.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn consume(&self, prompt_tokens: u64, completion_tokens: u64) -> Result<Consumed, CallError> {
        let consumed = self.call(|budget, store| {
            budget.call_consume(store, self.handle, prompt_tokens, completion_tokens)
        })?;
        Ok(consumed.into())
    }

    /// The thresholds crossed so far, percent, ascending.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn triggered_thresholds(&self) -> Result<Vec<u32>, CallError> {
        self.call(|budget, store| budget.call_triggered_thresholds(store, self.handle))
    }

    /// Report which of these thresholds are reached and were not reported before, ascending, and
    /// mark them. Of two with the same percent the last counts; one outside 1 to 100 is never reached.
    ///
    /// # Errors
    /// [`InvalidInput::TooManyThresholds`].
    pub fn check_thresholds(&self, thresholds: &[Threshold]) -> Result<Vec<ThresholdCrossed>, CallError> {
        let thresholds = lower_thresholds(thresholds)?;
        let crossed =
            self.call(|budget, store| budget.call_check_thresholds(store, self.handle, &thresholds))?;
        Ok(crossed.into_iter().map(Into::into).collect())
    }

    fn call<R>(
        &self,
        call: impl FnOnce(wit::GuestThreadBudget<'_>, &mut Store<StoreLimits>) -> wasmtime::Result<R>,
    ) -> Result<R, CallError> {
        self.registry.call(|registry, store| call(registry.thread_budget(), store))
    }
}

impl Drop for ThreadBudget {
    fn drop(&mut self) {
        // When the instance is lost, so is the handle with it.
        let _ = self.registry.lock().call(|_, store| self.handle.resource_drop(store));
    }
}

fn check_id(thread_id: &str) -> Result<(), InvalidInput> {
    match thread_id.len() {
        1..=MAX_THREAD_ID_BYTES => Ok(()),
        bytes => Err(InvalidInput::ThreadId { bytes }),
    }
}

fn lower_thresholds(thresholds: &[Threshold]) -> Result<Vec<wit::Threshold>, InvalidInput> {
    if thresholds.len() > MAX_THRESHOLDS {
        return Err(InvalidInput::TooManyThresholds { count: thresholds.len() });
    }
    Ok(thresholds.iter().map(Into::into).collect())
}
