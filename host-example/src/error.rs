//! What can go wrong, one enum per operation. A refusal is among a call's errors because nothing was
//! allowed; it says how much would have been.

use crate::bindings::exports::thread_budget::registry::types;
use crate::types::BudgetExhausted;
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
    #[error("not a component of the world thread-budget:registry/thread-budget@0.1.0: {0:#}")]
    Contract(#[source] wasmtime::Error),
    /// The component could not be instantiated, for lack of memory for example.
    #[error("cannot instantiate the component: {0:#}")]
    Instantiate(#[source] wasmtime::Error),
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
    /// An earlier call trapped or ran out of time, so its state cannot be trusted. Build a new one.
    #[error("the instance is lost since an earlier call failed ({reason}); build a new registry")]
    InstanceLost {
        /// What that call failed of.
        reason: Arc<str>,
    },
}

/// An argument that no registry accepts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidInput {
    /// The thread id is empty or too long.
    #[error("a thread id has 1 to {max} bytes of UTF-8, this one has {bytes}", max = crate::MAX_THREAD_ID_BYTES)]
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
    /// More thresholds than there are percents.
    #[error("{count} thresholds: there can be at most {max}", max = crate::MAX_THRESHOLDS)]
    TooManyThresholds {
        /// How many were given.
        count: usize,
    },
}

/// What a call of the contract answers, as this crate's result. `thread_id` is the one it was made for.
pub(crate) fn from_contract<T>(
    result: Result<T, types::RegistryError>,
    thread_id: &str,
) -> Result<T, CallError> {
    result.map_err(|error| match error {
        types::RegistryError::Exhausted(exhausted) => CallError::Refused(exhausted.into()),
        types::RegistryError::InvalidThreadId(_) => {
            CallError::Invalid(InvalidInput::ThreadId { bytes: thread_id.len() })
        }
        types::RegistryError::TooManyThreads(limit) => CallError::TooManyThreads { limit },
        types::RegistryError::InvalidThreshold(percent) => {
            CallError::Invalid(InvalidInput::Threshold { percent })
        }
        types::RegistryError::OutOfMemory => CallError::OutOfMemory,
    })
}
