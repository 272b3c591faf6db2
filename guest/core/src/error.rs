//! Why a call was not carried out.

use crate::threshold::InvalidThreshold;
use alloc::string::String;
use core::fmt;

/// Why a check refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[error(
    "thread {thread_id}: {used} of {max_tokens} tokens are used{}, {requested} more do not fit",
    AlsoHeld(*held)
)]
pub struct BudgetExhausted {
    /// The thread that has no room: the one that was checked, or an ancestor of it.
    pub thread_id: String,
    /// Total tokens used.
    pub used: u64,
    /// Tokens held, of that thread and of those below it.
    pub held: u64,
    /// The thread's limit in tokens.
    pub max_tokens: u64,
    /// What was asked for: the estimate of a check, the prompt and the least completion of a hold.
    pub requested: u64,
}

/// What to add to what is used.
struct AlsoHeld(u64);

impl fmt::Display for AlsoHeld {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            held => write!(formatter, " and {held} are held"),
        }
    }
}

/// A thread id that is empty or has more than [`MAX_THREAD_ID_BYTES`](crate::MAX_THREAD_ID_BYTES).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", Self::TEXT)]
pub struct InvalidThreadId;

impl InvalidThreadId {
    /// What an id has to be, in words.
    pub const TEXT: &'static str = "a thread id has 1 to 1,024 bytes of UTF-8";
}

/// A request id that is empty or has more than [`MAX_REQUEST_ID_BYTES`](crate::MAX_REQUEST_ID_BYTES).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", Self::TEXT)]
pub struct InvalidRequestId;

impl InvalidRequestId {
    /// What an id has to be, in words.
    pub const TEXT: &'static str = "a request id has 1 to 256 bytes of UTF-8";
}

/// Why a call was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The budget is used up, or the estimate does not fit.
    #[error(transparent)]
    Exhausted(#[from] BudgetExhausted),
    /// The thread id is empty or too long.
    #[error(transparent)]
    InvalidThreadId(#[from] InvalidThreadId),
    /// The thread is new and there are as many as there may be: this many.
    #[error("there are already {0} threads, the most there may be")]
    TooManyThreads(u32),
    /// A threshold's percent is outside 1 to 100 or given twice.
    #[error(transparent)]
    InvalidThreshold(#[from] InvalidThreshold),
    /// There is not enough memory to grow and still answer later calls.
    #[error("the memory of this instance is used up")]
    OutOfMemory,
    /// The thread to be the parent does not exist.
    #[error("the parent {0} does not exist")]
    UnknownParent(String),
    /// The thread to be the parent is the thread itself, or below it.
    #[error("the parent {0} is the thread itself or below it")]
    ParentCycle(String),
    /// The line of ancestors would be longer than this many threads, the new one included.
    #[error("a line of threads, each the parent of the next, has at most {0}")]
    TooDeep(u32),
    /// The thread exists with another limit or another parent.
    #[error("the thread {0} exists with another limit or parent")]
    OptionsDiffer(String),
    /// The request id is empty or too long.
    #[error(transparent)]
    InvalidRequestId(#[from] InvalidRequestId),
    /// The thread has this many holds of its own, the most it may.
    #[error("a thread has at most {0} holds")]
    TooManyHolds(u32),
    /// Nothing is held for the request, and it is not to be remembered: nothing was counted.
    #[error("nothing is held for this request")]
    UnknownHold,
    /// The batch has more entries than this.
    #[error("a batch has at most {0} entries")]
    BatchTooLarge(u32),
    /// A thread's state that cannot have come from a snapshot, or does not fit here: which, and why.
    #[error("{0}")]
    InvalidState(String),
}
