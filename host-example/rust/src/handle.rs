//! Handles on what an instance keeps: a thread's budget, and a reservation. Dropping one frees it there.

use crate::bindings::exports::thread_budget::registry::registry as wit;
use crate::error::CallError;
use crate::operation::Operation;
use crate::registry::{Registry, lower_thresholds};
use crate::shards::Locked;
use crate::types::{Consumed, Threshold, ThresholdCrossed, Usage, each};
use std::fmt;
use wasmtime::component::ResourceAny;
use wasmtime::{Store, StoreLimits};

/// A live view of one thread's budget: it sees what others consume and they see what it consumes.
///
/// After the thread is reset or cleaned up it goes on counting on its own, detached. Dropping it
/// frees it inside the instance. When a registry with a database had to be rebuilt, handles made before
/// say so, [`CallError::StaleHandle`].
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
    shard: usize,
    generation: u64,
    thread_id: Box<str>,
    handle: ResourceAny,
}

impl fmt::Debug for ThreadBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadBudget").finish_non_exhaustive()
    }
}

impl ThreadBudget {
    pub(crate) fn new(
        registry: Registry,
        shard: usize,
        generation: u64,
        thread_id: &str,
        handle: ResourceAny,
    ) -> Self {
        Self { registry, shard, generation, thread_id: thread_id.into(), handle }
    }

    /// The thread this budget was created for.
    #[must_use]
    pub fn thread_id(&self) -> &str {
        &self.thread_id
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

    /// Whether total + held + estimate stays within the limit, here and in every ancestor.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn can_consume(&self, estimated_tokens: u64) -> Result<bool, CallError> {
        self.call(|budget, store| budget.call_can_consume(store, self.handle, estimated_tokens))
    }

    /// Tokens that live reservations hold, of this thread and of those below it.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn held_tokens(&self) -> Result<u64, CallError> {
        self.call(|budget, store| budget.call_held_tokens(store, self.handle))
    }

    /// Whether the registry no longer counts this budget, after a reset, cleanup or clear.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn is_detached(&self) -> Result<bool, CallError> {
        self.call(|budget, store| budget.call_is_detached(store, self.handle))
    }

    /// Record what an LLM call used and report the thresholds it crossed. Cheaper than by id.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn consume(&self, prompt_tokens: u64, completion_tokens: u64) -> Result<Consumed, CallError> {
        self.registry.meter().call("thread-budget.consume", || {
            let mut locked = self.lock()?;
            let consumed = locked.call(|registry, store| {
                registry.thread_budget().call_consume(store, self.handle, prompt_tokens, completion_tokens)
            })?;
            let consumed = consumed.into();
            self.record(locked, |thread_id| Operation::Consume {
                thread_id,
                prompt_tokens,
                completion_tokens,
            })?;
            self.registry.meter().consumed(&consumed, prompt_tokens, completion_tokens);
            Ok(consumed)
        })
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
    /// [`InvalidInput::TooManyThresholds`](crate::InvalidInput::TooManyThresholds).
    pub fn check_thresholds(&self, thresholds: &[Threshold]) -> Result<Vec<ThresholdCrossed>, CallError> {
        let lowered = lower_thresholds(thresholds)?;
        let mut locked = self.lock()?;
        let crossed = locked.call(|registry, store| {
            registry.thread_budget().call_check_thresholds(store, self.handle, &lowered)
        })?;
        if !crossed.is_empty() {
            let thresholds = thresholds.to_vec();
            self.record(locked, |thread_id| Operation::CheckThresholds { thread_id, thresholds })?;
        }
        Ok(each(crossed))
    }

    fn lock(&self) -> Result<Locked<'_>, CallError> {
        self.registry.lock_generation(self.shard, self.generation)
    }

    fn call<R>(
        &self,
        call: impl FnOnce(wit::GuestThreadBudget<'_>, &mut Store<StoreLimits>) -> wasmtime::Result<R>,
    ) -> Result<R, CallError> {
        self.lock()?.call(|registry, store| call(registry.thread_budget(), store))
    }

    /// Record in the database what this budget has done, unless it is detached and none of its concern.
    fn record(
        &self,
        mut locked: Locked<'_>,
        operation: impl FnOnce(String) -> Operation,
    ) -> Result<(), CallError> {
        if !self.registry.has_database() {
            return Ok(());
        }
        let detached =
            locked.call(|registry, store| registry.thread_budget().call_is_detached(store, self.handle))?;
        self.registry.record(locked, (!detached).then(|| operation((*self.thread_id).into())))
    }
}

impl Drop for ThreadBudget {
    fn drop(&mut self) {
        self.registry.free(self.shard, self.generation, self.handle);
    }
}

/// Tokens held for an LLM call in flight; every check counts them as taken. Dropping it releases them,
/// so that a cancelled future or an early return leaks nothing.
///
/// It stays with the budgets it was made on: what replaces one of them after a reset starts without
/// the hold.
#[must_use = "dropping it releases what it holds"]
pub struct Reservation {
    registry: Registry,
    shard: usize,
    generation: u64,
    thread_id: Box<str>,
    tokens: u64,
    /// Until it is committed.
    handle: Option<ResourceAny>,
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("thread_id", &self.thread_id)
            .field("tokens", &self.tokens)
            .finish_non_exhaustive()
    }
}

impl Reservation {
    pub(crate) fn new(
        registry: Registry,
        shard: usize,
        generation: u64,
        thread_id: &str,
        tokens: u64,
        handle: ResourceAny,
    ) -> Self {
        registry.meter().reservations(1.0);
        Self { registry, shard, generation, thread_id: thread_id.into(), tokens, handle: Some(handle) }
    }

    /// The thread it was made for.
    #[must_use]
    pub fn thread_id(&self) -> &str {
        &self.thread_id
    }

    /// How many tokens it holds.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The thread that a commit counts on: the one it was made for or, when the registry has forgotten
    /// that, its nearest ancestor that is left.
    ///
    /// # Errors
    /// [`CallError::StaleHandle`] when the registry was rebuilt; a commit then counts on the thread.
    pub fn charged_thread(&self) -> Result<Option<String>, CallError> {
        let Some(handle) = self.handle else { return Ok(None) };
        self.registry
            .lock_generation(self.shard, self.generation)?
            .call(|registry, store| registry.reservation().call_charged_thread(store, handle))
    }

    /// Replace the hold by what was really used, more or less; an overshoot is recorded. When the
    /// registry had to be rebuilt meanwhile the hold is gone, and what was used is recorded all the same.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`]. The hold is released in any case.
    pub fn commit(mut self, prompt_tokens: u64, completion_tokens: u64) -> Result<Consumed, CallError> {
        let registry = self.registry.clone();
        registry.meter().call("reservation.commit", || {
            let mut locked = match registry.lock_generation(self.shard, self.generation) {
                Ok(locked) => locked,
                Err(CallError::StaleHandle) => {
                    return registry.consume(&self.thread_id, prompt_tokens, completion_tokens);
                }
                Err(error) => return Err(error),
            };
            let Some(handle) = self.handle else { return Err(CallError::StaleHandle) };
            let charged = if registry.has_database() {
                locked.call(|registry, store| registry.reservation().call_charged_thread(store, handle))?
            } else {
                None
            };
            self.handle = None;
            let consumed = locked.call(|registry, store| {
                registry.reservation().call_commit(store, handle, prompt_tokens, completion_tokens)
            })?;
            let consumed = consumed.into();
            registry.record(
                locked,
                charged.map(|thread_id| Operation::Consume { thread_id, prompt_tokens, completion_tokens }),
            )?;
            registry.meter().consumed(&consumed, prompt_tokens, completion_tokens);
            Ok(consumed)
        })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(handle) = self.handle {
            self.registry.free(self.shard, self.generation, handle);
        }
        self.registry.meter().reservations(-1.0);
    }
}
