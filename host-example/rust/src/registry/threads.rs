//! What makes, shows, changes and ends a thread.

use super::{Of, Place, Registry};
use crate::bounds::check_id;
use crate::calls::{
    AcknowledgeWarnings, Call, CheckBudget, CleanupThread, GetBudget, OpenThread, ResetThread, SetLimit,
};
use crate::error::CallError;
use crate::handle::{Budget, ThreadBudget};
use crate::instance::Instance;
use crate::types::{Acknowledgement, BudgetWarning, FinalBudget, ThreadOptions, ThresholdCrossed, Usage};
use std::borrow::Cow;

/// What stands for a thread in a store that was made or found there.
fn in_store(birth: Option<u64>) -> Result<Budget, CallError> {
    birth.map(Budget::Birth).ok_or(CallError::StaleHandle)
}

impl Registry {
    /// A live handle on the thread's budget; the thread is created when it does not exist.
    ///
    /// # Errors
    /// [`InvalidInput::ThreadId`](crate::InvalidInput::ThreadId), [`CallError::TooManyThreads`],
    /// [`CallError::OutOfMemory`].
    pub async fn get_budget(&self, thread_id: &str) -> Result<ThreadBudget, CallError> {
        let call = GetBudget { thread_id: thread_id.into() };
        let budget = match &self.inner.place {
            Place::Store(lanes) => {
                let started = self.inner.meter.start();
                let found = lanes.find(thread_id, |instance| call.replay(instance)).await;
                self.inner.meter.end(GetBudget::NAME, started, found.as_ref().err());
                in_store(found?.1)?
            }
            _ => Budget::Handle(self.run(&call).await?),
        };
        Ok(ThreadBudget::new(self.clone(), thread_id, budget))
    }

    /// A live handle on the thread's budget, if it exists.
    ///
    /// # Errors
    /// [`CallError::OutOfMemory`], and those of every method, see [`Registry`].
    pub async fn find_budget(&self, thread_id: &str) -> Result<Option<ThreadBudget>, CallError> {
        if check_id(thread_id).is_err() {
            return Ok(None);
        }
        let get_budget = GetBudget { thread_id: thread_id.into() };
        if let Place::Store(lanes) = &self.inner.place {
            let birth = lanes.find(thread_id, |_| Ok(())).await?.1;
            let budget = birth.map(Budget::Birth);
            return Ok(budget.map(|budget| ThreadBudget::new(self.clone(), thread_id, budget)));
        }
        let find = |instance: &mut Instance| {
            let exists = instance.call(|registry, store| registry.call_has_budget(store, thread_id))?;
            exists.then(|| get_budget.apply(instance)).transpose()
        };
        let budget = self.with(Of::Thread(thread_id), find).await?.map(Budget::Handle);
        Ok(budget.map(|budget| ThreadBudget::new(self.clone(), thread_id, budget)))
    }

    /// Create a thread with a limit of its own, or below a parent, or both. A thread that exists is
    /// returned as it is when it has the limit and the parent asked for.
    ///
    /// # Errors
    /// [`CallError::ParentCycle`], [`CallError::UnknownParent`], [`CallError::TooDeep`],
    /// [`CallError::OptionsDiffer`]; otherwise as [`Registry::get_budget`].
    pub async fn open_thread(
        &self,
        thread_id: &str,
        options: &ThreadOptions,
    ) -> Result<ThreadBudget, CallError> {
        let call = OpenThread { thread_id: thread_id.into(), options: Cow::Borrowed(options) };
        let started = self.inner.meter.start();
        let result = match &self.inner.place {
            Place::Memory(shards) => shards.open(&call).map(Budget::Handle),
            Place::File(file) => file.run(&call).await.map(Budget::Handle),
            Place::Store(lanes) => lanes.open(&call).await.and_then(in_store),
        };
        self.inner.meter.end(OpenThread::NAME, started, result.as_ref().err());
        Ok(ThreadBudget::new(self.clone(), thread_id, result?))
    }

    /// Give a thread another limit, in tokens, which it keeps over a reset, and return its usage under it;
    /// the thread is created when it does not exist. What it has used and holds, its parent and its
    /// children stay, and handles on it see the limit.
    ///
    /// A limit below what is used exhausts the thread. Thresholds that are not reached under the new one
    /// fire, and their warnings are pending, when they are reached again; those that it newly reaches
    /// fire with the next consumption.
    ///
    /// # Errors
    /// As [`Registry::get_budget`].
    pub async fn set_limit(&self, thread_id: &str, max_tokens: u64) -> Result<Usage, CallError> {
        self.run(&SetLimit { thread_id: thread_id.into(), max_tokens }).await
    }

    /// Ask, before an LLM call, whether the thread may use `estimated_tokens` more, beside what is
    /// held. The thread is created when it does not exist; nothing is recorded.
    ///
    /// # Errors
    /// [`CallError::Refused`] when all is used or held or the estimate does not fit, in the thread or
    /// in an ancestor; otherwise as [`Registry::get_budget`].
    pub async fn check_budget(&self, thread_id: &str, estimated_tokens: u64) -> Result<(), CallError> {
        self.run(&CheckBudget { thread_id: thread_id.into(), estimated_tokens }).await
    }

    /// The warnings for thresholds that the thread has crossed and nobody has acknowledged, ascending by
    /// percent, with the numbers of now. They stay pending until they are acknowledged.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub async fn pending_warnings(&self, thread_id: &str) -> Result<Vec<BudgetWarning>, CallError> {
        self.ask("pending-warnings", thread_id, |registry, store| {
            registry.call_pending_warnings(store, thread_id)
        })
        .await
    }

    /// The agent has these warnings: they are no longer pending. One that is not, or under another limit, is
    /// passed over. See [`BudgetWarning::acknowledgement`].
    ///
    /// # Errors
    /// [`InvalidInput::TooManyThresholds`](crate::InvalidInput::TooManyThresholds) for more than a thread can
    /// have.
    pub async fn acknowledge_warnings(
        &self,
        thread_id: &str,
        acknowledgements: &[Acknowledgement],
    ) -> Result<(), CallError> {
        let acknowledgements = acknowledgements.into();
        self.run(&AcknowledgeWarnings { thread_id: thread_id.into(), acknowledgements }).await
    }

    /// The warning for the agent whose thread crossed a threshold.
    ///
    /// # Errors
    /// [`InvalidInput::ThreadId`](crate::InvalidInput::ThreadId) for an id that is too long; otherwise those of
    /// every method, see [`Registry`].
    pub async fn budget_warning(&self, crossed: &ThresholdCrossed) -> Result<BudgetWarning, CallError> {
        if !crossed.thread_id.is_empty() {
            check_id(&crossed.thread_id)?;
        }
        let ask = |instance: &mut Instance| {
            instance.enter(|exports, store| {
                exports.thread_budget_registry_warnings().call_budget_warning(store, crossed)
            })
        };
        self.with(Of::Number(0), ask).await
    }

    /// Whether the thread exists. An id that no thread can have does not.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub async fn has_budget(&self, thread_id: &str) -> Result<bool, CallError> {
        self.ask("has-budget", thread_id, |registry, store| registry.call_has_budget(store, thread_id)).await
    }

    /// The thread's usage, if it exists.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub async fn get_usage(&self, thread_id: &str) -> Result<Option<Usage>, CallError> {
        self.ask("get-usage", thread_id, |registry, store| registry.call_get_usage(store, thread_id)).await
    }

    /// Tokens held for requests in flight, of the thread and of those below it; 0 when it does not exist.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub async fn held_tokens(&self, thread_id: &str) -> Result<u64, CallError> {
        self.ask("held-tokens", thread_id, |registry, store| registry.call_held_tokens(store, thread_id))
            .await
    }

    /// Start the thread over: its next use starts from zero. Handles on it go on counting, detached; what is
    /// held moves to its nearest ancestor. One that was opened keeps its limit and its place in its tree.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub async fn reset_thread(&self, thread_id: &str) -> Result<(), CallError> {
        self.run(&ResetThread { thread_id: thread_id.into() }).await
    }

    /// Forget the thread, and every thread below it, and return its final budget, if it existed. Its ancestors
    /// keep what was used, and take over what is still held.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub async fn cleanup_thread(&self, thread_id: &str) -> Result<Option<FinalBudget>, CallError> {
        self.run(&CleanupThread { thread_id: thread_id.into() }).await
    }
}
