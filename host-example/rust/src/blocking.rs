//! The registry for programs without async code. Every method waits for that of the same name.
//!
//! ```
//! let registry = thread_budget_host::Registry::builder().tokens_per_thread(1_000).build()?.blocking();
//! let mut hold = registry.hold("agent-7", 300, 500, 100)?;
//! hold.sent();
//! let consumed = hold.settle(310, 140)?; // after the LLM call
//! assert_eq!(consumed.usage.total_tokens, 450);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! In async code use what these are made of: a method here holds up the thread that it is called on, and with
//! a database that is until the disk has answered.

use crate::error::{BatchError, CallError};
use crate::file::Note;
use crate::types::{
    Acknowledgement, BudgetWarning, Consumed, FinalBudget, Held, HoldTerms, ThreadOptions, ThreadState,
    Threshold, ThresholdCrossed, Usage, UsageEntry,
};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Wait for a future, which is mostly ready at once.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => pollster::block_on(future),
    }
}

/// Methods that wait for those of the same name.
macro_rules! wait_for {
    ($of:ident: $($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        impl $of {
            $(
                #[doc = concat!("As [`", stringify!($of), "::", stringify!($name), "`](crate::", stringify!($of), "::", stringify!($name), ").")]
                #[doc = ""]
                #[doc = "# Errors"]
                #[doc = "The same."]
                pub fn $name(&self $(, $argument: $type)*) -> $answer {
                    wait(self.0.$name($($argument),*)).map(Into::into)
                }
            )*
        }
    };
}

/// A [`crate::Registry`] whose methods return when they are done.
#[derive(Clone, Debug)]
pub struct Registry(crate::Registry);

impl From<crate::Registry> for Registry {
    fn from(registry: crate::Registry) -> Self {
        Self(registry)
    }
}

impl From<Registry> for crate::Registry {
    fn from(Registry(registry): Registry) -> Self {
        registry
    }
}

wait_for! { Registry:
    configure(max_tokens_per_thread: u64) -> Result<(), CallError>;
    max_tokens_per_thread() -> Result<u64, CallError>;
    set_thresholds(thresholds: &[Threshold]) -> Result<(), CallError>;
    thresholds() -> Result<Vec<Threshold>, CallError>;
    set_max_threads(max_threads: u32) -> Result<(), CallError>;
    max_threads() -> Result<u32, CallError>;
    get_budget(thread_id: &str) -> Result<ThreadBudget, CallError>;
    open_thread(thread_id: &str, options: &ThreadOptions) -> Result<ThreadBudget, CallError>;
    set_limit(thread_id: &str, max_tokens: u64) -> Result<Usage, CallError>;
    check_budget(thread_id: &str, estimated_tokens: u64) -> Result<(), CallError>;
    hold(
        thread_id: &str, prompt_tokens: u64, completion_tokens: u64, least_completion_tokens: u64
    ) -> Result<Hold, CallError>;
    hold_once(
        thread_id: &str, request_id: &str, prompt_tokens: u64, completion_tokens: u64,
        least_completion_tokens: u64
    ) -> Result<Hold, CallError>;
    set_hold(thread_id: &str, request_id: &str, terms: &HoldTerms) -> Result<Held, CallError>;
    settle(
        thread_id: &str, request_id: &str, prompt_tokens: u64, completion_tokens: u64, remember: bool
    ) -> Result<Consumed, CallError>;
    settle_lost(
        thread_id: &str, request_id: &str, prompt_tokens: u64, completion_tokens: u64
    ) -> Result<Consumed, CallError>;
    release(thread_id: &str, request_id: &str) -> Result<bool, CallError>;
    consume(thread_id: &str, prompt_tokens: u64, completion_tokens: u64) -> Result<Consumed, CallError>;
    consume_batch(entries: &[UsageEntry]) -> Result<Vec<ThresholdCrossed>, BatchError>;
    consume_batch_noting(
        entries: &[UsageEntry], note: impl FnOnce(&[ThresholdCrossed]) -> Option<Note>
    ) -> Result<Vec<ThresholdCrossed>, BatchError>;
    note(key: &str) -> Result<Option<Vec<u8>>, CallError>;
    pending_warnings(thread_id: &str) -> Result<Vec<BudgetWarning>, CallError>;
    acknowledge_warnings(thread_id: &str, acknowledgements: &[Acknowledgement]) -> Result<(), CallError>;
    budget_warning(crossed: &ThresholdCrossed) -> Result<BudgetWarning, CallError>;
    has_budget(thread_id: &str) -> Result<bool, CallError>;
    get_usage(thread_id: &str) -> Result<Option<Usage>, CallError>;
    get_all_usage() -> Result<Vec<(String, Usage)>, CallError>;
    held_tokens(thread_id: &str) -> Result<u64, CallError>;
    reset_thread(thread_id: &str) -> Result<(), CallError>;
    cleanup_thread(thread_id: &str) -> Result<Option<FinalBudget>, CallError>;
    clear() -> Result<(), CallError>;
    snapshot(after: Option<&str>, limit: u32) -> Result<Vec<ThreadState>, CallError>;
    restore(states: &[ThreadState]) -> Result<(), CallError>;
    answers() -> Result<(), CallError>;
}

impl Registry {
    /// As [`Registry::has_database`](crate::Registry::has_database).
    #[must_use]
    pub fn has_database(&self) -> bool {
        self.0.has_database()
    }

    /// As [`Registry::instance_of`](crate::Registry::instance_of).
    #[must_use]
    pub fn instance_of(&self, thread_id: &str) -> usize {
        self.0.instance_of(thread_id)
    }

    /// As [`Registry::logged_calls`](crate::Registry::logged_calls).
    #[must_use]
    pub fn logged_calls(&self) -> u64 {
        self.0.logged_calls()
    }

    /// As [`Registry::holder`](crate::Registry::holder).
    #[must_use]
    pub fn holder(&self) -> u64 {
        self.0.holder()
    }

    /// As [`Registry::find_budget`](crate::Registry::find_budget).
    ///
    /// # Errors
    /// The same.
    pub fn find_budget(&self, thread_id: &str) -> Result<Option<ThreadBudget>, CallError> {
        Ok(wait(self.0.find_budget(thread_id))?.map(ThreadBudget))
    }
}

/// A [`crate::ThreadBudget`] whose methods return when they are done.
#[derive(Debug)]
pub struct ThreadBudget(crate::ThreadBudget);

impl From<crate::ThreadBudget> for ThreadBudget {
    fn from(budget: crate::ThreadBudget) -> Self {
        Self(budget)
    }
}

wait_for! { ThreadBudget:
    usage() -> Result<Usage, CallError>;
    percent_used() -> Result<f64, CallError>;
    is_exhausted() -> Result<bool, CallError>;
    can_consume(estimated_tokens: u64) -> Result<bool, CallError>;
    held_tokens() -> Result<u64, CallError>;
    is_detached() -> Result<bool, CallError>;
    consume(prompt_tokens: u64, completion_tokens: u64) -> Result<Consumed, CallError>;
    triggered_thresholds() -> Result<Vec<u32>, CallError>;
    check_thresholds(thresholds: &[Threshold]) -> Result<Vec<ThresholdCrossed>, CallError>;
}

impl ThreadBudget {
    /// The thread this budget was created for.
    #[must_use]
    pub fn thread_id(&self) -> &str {
        self.0.thread_id()
    }
}

/// A [`crate::Hold`] whose methods return when they are done.
#[derive(Debug)]
#[must_use = "dropping it ends the hold"]
pub struct Hold(crate::Hold);

impl From<crate::Hold> for Hold {
    fn from(hold: crate::Hold) -> Self {
        Self(hold)
    }
}

impl Hold {
    /// The thread it was made for.
    #[must_use]
    pub fn thread_id(&self) -> &str {
        self.0.thread_id()
    }

    /// The request that names it.
    #[must_use]
    pub fn request_id(&self) -> &str {
        self.0.request_id()
    }

    /// What was granted last, and where the thread stood then.
    #[must_use]
    pub fn held(&self) -> &Held {
        self.0.held()
    }

    /// As [`Hold::sent`](crate::Hold::sent).
    pub fn sent(&mut self) {
        self.0.sent();
    }

    /// As [`Hold::set`](crate::Hold::set).
    ///
    /// # Errors
    /// The same.
    pub fn set(
        &mut self,
        prompt_tokens: u64,
        completion_tokens: u64,
        least_completion_tokens: u64,
    ) -> Result<&Held, CallError> {
        wait(self.0.set(prompt_tokens, completion_tokens, least_completion_tokens))
    }

    /// As [`Hold::settle`](crate::Hold::settle).
    ///
    /// # Errors
    /// The same.
    pub fn settle(self, prompt_tokens: u64, completion_tokens: u64) -> Result<Consumed, CallError> {
        wait(self.0.settle(prompt_tokens, completion_tokens))
    }

    /// As [`Hold::release`](crate::Hold::release).
    ///
    /// # Errors
    /// The same.
    pub fn release(self) -> Result<(), CallError> {
        wait(self.0.release())
    }
}
