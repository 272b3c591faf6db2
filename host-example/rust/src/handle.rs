//! A handle on a thread's budget. Dropping it frees what it stands for.

use crate::bindings::exports::thread_budget::registry::registry as wit;
use crate::calls::{CheckThresholds, Consume, check_thresholds};
use crate::error::CallError;
use crate::instance::{Handle, Instance};
use crate::registry::Registry;
use crate::types::{Consumed, Threshold, ThresholdCrossed, Usage};
use std::fmt;
use wasmtime::component::ResourceAny;
use wasmtime::{Store, StoreLimits};

/// A live view of one thread's budget: it sees what others consume and they see what it consumes.
///
/// After the thread is reset or cleaned up it goes on counting on its own, detached. Dropping it
/// frees it inside the instance. When a registry with a database had to be rebuilt, handles made before
/// say so, [`CallError::StaleHandle`].
///
/// With a store it is the thread's id and birth: when that thread is gone, all but
/// [`ThreadBudget::is_detached`] say [`CallError::StaleHandle`].
///
/// ```
/// # pollster::block_on(async {
/// let registry = thread_budget_host::Registry::builder().tokens_per_thread(1_000).build()?;
/// let budget = registry.get_budget("agent-7").await?;
/// registry.consume("agent-7", 600, 100).await?;
/// assert_eq!(budget.percent_used().await?, 70.0);
/// assert!(!budget.can_consume(301).await?);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
pub struct ThreadBudget {
    registry: Registry,
    thread_id: Box<str>,
    budget: Budget,
}

/// What stands for a thread's budget.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Budget {
    /// It, in its instance.
    Handle(Handle),
    /// The birth of the thread of that id, in a store.
    Birth(u64),
}

impl fmt::Debug for ThreadBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadBudget").field("thread_id", &self.thread_id).finish_non_exhaustive()
    }
}

impl ThreadBudget {
    pub(crate) fn new(registry: Registry, thread_id: &str, budget: Budget) -> Self {
        Self { registry, thread_id: thread_id.into(), budget }
    }

    async fn ask<R>(
        &self,
        question: impl Fn(wit::GuestThreadBudget<'_>, &mut Store<StoreLimits>, ResourceAny) -> wasmtime::Result<R>,
    ) -> Result<R, CallError> {
        self.registry.ask_on(&self.thread_id, self.budget, question).await
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
    pub async fn usage(&self) -> Result<Usage, CallError> {
        self.ask(|budget, store, handle| budget.call_usage(store, handle)).await
    }

    /// `total / max * 100`, not rounded; 0 when the limit is 0.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub async fn percent_used(&self) -> Result<f64, CallError> {
        self.ask(|budget, store, handle| budget.call_percent_used(store, handle)).await
    }

    /// Whether the total has reached the limit.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub async fn is_exhausted(&self) -> Result<bool, CallError> {
        self.ask(|budget, store, handle| budget.call_is_exhausted(store, handle)).await
    }

    /// Whether total + held + estimate stays within the limit, here and in every ancestor.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub async fn can_consume(&self, estimated_tokens: u64) -> Result<bool, CallError> {
        self.ask(|budget, store, handle| budget.call_can_consume(store, handle, estimated_tokens)).await
    }

    /// Tokens held for requests in flight, of this thread and of those below it.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub async fn held_tokens(&self) -> Result<u64, CallError> {
        self.ask(|budget, store, handle| budget.call_held_tokens(store, handle)).await
    }

    /// Whether the registry no longer counts this budget, after a reset, cleanup or clear.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub async fn is_detached(&self) -> Result<bool, CallError> {
        match self.ask(|budget, store, handle| budget.call_is_detached(store, handle)).await {
            Err(CallError::StaleHandle) if matches!(self.budget, Budget::Birth(_)) => Ok(true),
            other => other,
        }
    }

    /// Record what an LLM call used and report the thresholds it crossed. Cheaper than by id.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub async fn consume(&self, prompt_tokens: u64, completion_tokens: u64) -> Result<Consumed, CallError> {
        let by_id = Consume { thread_id: (&*self.thread_id).into(), prompt_tokens, completion_tokens };
        let by_handle = |instance: &mut Instance, handle: Handle| {
            instance.call(|registry, store| {
                registry.thread_budget().call_consume(
                    store,
                    handle.resource,
                    prompt_tokens,
                    completion_tokens,
                )
            })
        };
        let consumed = self.registry.run_on(self.budget, &by_id, by_handle).await?;
        self.registry.meter().consumed(&consumed, prompt_tokens, completion_tokens);
        Ok(consumed)
    }

    /// The thresholds crossed so far, percent, ascending.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub async fn triggered_thresholds(&self) -> Result<Vec<u32>, CallError> {
        self.ask(|budget, store, handle| budget.call_triggered_thresholds(store, handle)).await
    }

    /// Report which of these thresholds are reached and were not reported before, ascending, and
    /// mark them. Of two with the same percent the last counts; one outside 1 to 100 is never reached.
    ///
    /// # Errors
    /// [`InvalidInput::TooManyThresholds`](crate::InvalidInput::TooManyThresholds).
    pub async fn check_thresholds(
        &self,
        thresholds: &[Threshold],
    ) -> Result<Vec<ThresholdCrossed>, CallError> {
        let by_id = CheckThresholds { thread_id: (&*self.thread_id).into(), thresholds: thresholds.into() };
        let by_handle = |instance: &mut Instance, handle| check_thresholds(instance, handle, thresholds);
        self.registry.run_on(self.budget, &by_id, by_handle).await
    }
}

impl Drop for ThreadBudget {
    fn drop(&mut self) {
        self.registry.free(self.budget);
    }
}
