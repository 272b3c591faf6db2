//! What can go wrong, one enum per operation. A refusal is among a call's errors because nothing was
//! allowed; it says how much would have been.

use crate::store::StoreError;
use crate::types::{BudgetExhausted, RegistryError};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Why a component could not be made into a [`Registry`](crate::Registry).
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The component's file could not be read.
    #[error("cannot read the component {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// wasmtime did not accept this crate's configuration on this machine.
    #[error("wasmtime cannot run here: {0:#}")]
    Engine(#[source] wasmtime::Error),
    /// The thread that keeps the time of deadlines could not be started.
    #[error("cannot start the thread that keeps deadlines: {0}")]
    Clock(#[source] std::io::Error),
    /// The bytes are not a component that wasmtime can compile.
    #[error("not a usable WebAssembly component: {0:#}")]
    Compile(#[source] wasmtime::Error),
    /// The component imports something, or lacks an export of the contract.
    #[error("not a component of the world thread-budget:registry/thread-budget@0.2.0: {0:#}")]
    Contract(#[source] wasmtime::Error),
    /// The memory cap is too small for the component to keep its promises.
    #[error("a memory cap of {bytes} bytes: at least {min} are wanted", min = crate::MIN_MEMORY_BYTES)]
    MemoryCap {
        /// The cap asked for.
        bytes: usize,
    },
    /// The component could not be instantiated.
    #[error("cannot instantiate the component: {0:#}")]
    Instantiate(#[source] wasmtime::Error),
    /// The database cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The thread that keeps the connection to the store could not be started.
    #[error("cannot start the thread that keeps the connection to the store: {0}")]
    Keeper(#[source] std::io::Error),
    /// A registry with a database or a store has one instance.
    #[error("a registry with a database or a store has one instance, {instances} were asked for")]
    TooManyInstances {
        /// How many were asked for.
        instances: usize,
    },
    /// The component started but did not accept the settings.
    #[error("cannot apply the settings: {0}")]
    Settings(#[from] CallError),
}

/// Why a call on a [`Registry`](crate::Registry) did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The budget is used up, or the estimate does not fit. The registry is fine.
    #[error(transparent)]
    Refused(#[from] BudgetExhausted),
    /// An argument is out of range. Nothing was changed.
    #[error(transparent)]
    Invalid(#[from] InvalidInput),
    /// The thread is new and the registry already keeps as many as it may. Clean up a thread.
    #[error("there are already {limit} threads, the most there may be; clean up a thread first")]
    TooManyThreads {
        /// The most there may be.
        limit: u32,
    },
    /// The instance's memory is used up. Threads that exist go on working.
    #[error("the instance's memory is used up; clean up a thread or raise the memory cap")]
    OutOfMemory,
    /// The call took longer than allowed and was stopped. The instance is lost.
    #[error("the call took longer than {deadline:?} and was stopped; the instance is lost")]
    Deadline {
        /// The time a call may take.
        deadline: Duration,
    },
    /// The component trapped, which is a bug in it. The instance is lost.
    #[error("the component trapped and the instance is lost: {reason}")]
    Trap {
        /// wasmtime's account of it.
        reason: Arc<str>,
    },
    /// The thread to be the parent does not exist. Open it first.
    #[error("the parent {parent} does not exist; open it first")]
    UnknownParent {
        /// The parent asked for.
        parent: String,
    },
    /// The thread to be the parent is the thread itself or below it.
    #[error("the parent {parent} is the thread itself or below it")]
    ParentCycle {
        /// The parent asked for.
        parent: String,
    },
    /// The line of ancestors would get too long.
    #[error("a line of threads, each the parent of the next, has at most {max}")]
    TooDeep {
        /// The most threads there may be in a line.
        max: u32,
    },
    /// The thread exists with another limit or another parent. Clean it up first.
    #[error("thread {thread_id} exists with another limit or parent; clean it up first")]
    OptionsDiffer {
        /// The thread.
        thread_id: String,
    },
    /// The thread has as many holds as it may. Settle or release some.
    #[error("the thread already has {max} holds, the most there may be; settle or release some first")]
    TooManyHolds {
        /// The most holds of a thread.
        max: u32,
    },
    /// Nothing is held for that request, and nothing was counted: it was settled or released before, or its
    /// thread and all ancestors of that time are gone.
    #[error("nothing is held for that request; it was settled or released, or its threads are gone")]
    UnknownHold,
    /// What the call did could not be written to the database. Whether it is there is unknown; the
    /// next call starts from what the file says. `settle` is safe to repeat.
    #[error("not recorded: {0}")]
    Storage(#[from] StorageError),
    /// The store could not be asked, or does not take what the call did; [`StoreError::is_temporary`] says
    /// whether it may later. [`StoreError::wrote`] says whether what the call did may be there all the same.
    /// `settle` is safe to repeat.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The instance was rebuilt from its database after this handle was made, or, with a store, the thread that
    /// it was made for is gone. Get a new one.
    #[error("the instance was rebuilt since this handle was made, or its thread is gone; get a new one")]
    StaleHandle,
    /// An earlier call trapped or ran out of time, so its state cannot be trusted. Build a new one.
    #[error("the instance is lost since an earlier call failed ({reason}); build a new registry")]
    InstanceLost {
        /// What that call failed of.
        reason: Arc<str>,
    },
}

impl From<RegistryError> for CallError {
    fn from(error: RegistryError) -> Self {
        let invalid = |reason| Self::Invalid(InvalidInput::State { reason });
        match error {
            RegistryError::Exhausted(exhausted) => Self::Refused(exhausted),
            RegistryError::TooManyThreads(limit) => Self::TooManyThreads { limit },
            RegistryError::InvalidThreshold(percent) => Self::Invalid(InvalidInput::Threshold { percent }),
            RegistryError::OutOfMemory => Self::OutOfMemory,
            RegistryError::UnknownParent(parent) => Self::UnknownParent { parent },
            RegistryError::ParentCycle(parent) => Self::ParentCycle { parent },
            RegistryError::TooDeep(max) => Self::TooDeep { max },
            RegistryError::OptionsDiffer(thread_id) => Self::OptionsDiffer { thread_id },
            RegistryError::TooManyHolds(max) => Self::TooManyHolds { max },
            RegistryError::UnknownHold => Self::UnknownHold,
            RegistryError::InvalidState(reason) => invalid(reason),
            // The host looks at ids and batches first: these cannot come from a call of its own.
            RegistryError::InvalidThreadId(reason) | RegistryError::InvalidRequestId(reason) => {
                invalid(reason)
            }
            RegistryError::BatchTooLarge(most) => invalid(format!("a batch has at most {most} entries")),
        }
    }
}

/// An argument that no registry accepts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidInput {
    /// The thread id is empty or too long.
    #[error("a thread id has 1 to 1,024 bytes of UTF-8, this one has {bytes}")]
    ThreadId {
        /// Its length in bytes.
        bytes: usize,
    },
    /// A threshold's percent is outside 1 to 100 or given twice.
    #[error("threshold {percent} %: a percent is 1 to 100 and given once")]
    Threshold {
        /// The percent.
        percent: u32,
    },
    /// The request id is empty or too long.
    #[error("a request id has 1 to {max} bytes of UTF-8, this one has {bytes}", max = crate::MAX_REQUEST_ID_BYTES)]
    RequestId {
        /// Its length in bytes.
        bytes: usize,
    },
    /// More entries, or more bytes of thread ids, than a batch may have.
    #[error(
        "a batch of {entries} entries with {id_bytes} bytes of thread ids: at most {} and {} are allowed",
        crate::MAX_BATCH,
        crate::MAX_BATCH_ID_BYTES
    )]
    BatchTooLarge {
        /// How many entries were given.
        entries: usize,
        /// How long their ids are together, in bytes.
        id_bytes: usize,
    },
    /// A thread's state that no snapshot can have given, or that does not fit here.
    #[error("{reason}")]
    State {
        /// Which thread, and why.
        reason: String,
    },
    /// More thresholds than there are percents.
    #[error("{count} thresholds: there can be at most {max}", max = crate::MAX_THRESHOLDS)]
    TooManyThresholds {
        /// How many were given.
        count: usize,
    },
}

/// Why a database cannot be opened, read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// This or another process has it open.
    #[error("{} is in use by another registry; one process at a time can open it", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is not a database, or is damaged. It was left as it is.
    #[error("{} is not a usable database: {reason}; restore it from a copy", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: Arc<str>,
    },
    /// It was written by another version of this program.
    #[error("{} has format {found:?}, this program reads {expected:?}", path.display(), expected = crate::DATABASE_FORMAT)]
    Format {
        /// The file.
        path: PathBuf,
        /// What it says of itself.
        found: String,
    },
    /// What it holds cannot be brought back into an instance, for lack of memory for example.
    #[error("{} cannot be restored: {reason}", path.display())]
    Unrestorable {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: Arc<str>,
    },
    /// The machine refused: permissions, no space left, a failing disk.
    #[error("cannot use the database {}: {reason}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        reason: Arc<str>,
    },
}

/// Why not all of a batch was recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} entries of the batch were not recorded: {error}", unrecorded.len())]
pub struct BatchError {
    /// What went wrong first.
    pub error: CallError,
    /// The entries, by their place in the batch, that were not recorded. All of them, in a registry of
    /// one instance; with several each instance takes its part of a batch or leaves it.
    pub unrecorded: Vec<usize>,
}
