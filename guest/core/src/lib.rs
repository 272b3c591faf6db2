//! The rules of a token budget per LLM agent thread.
//!
//! Pure decisions: no clock, no I/O, no bindings, no entropy. The `thread-budget` crate wraps this
//! one as a WebAssembly component; the same code runs natively for tests and benchmarks.
//!
//! ```
//! use thread_budget_core::{CheckError, Registry, Severity};
//!
//! let mut registry = Registry::new();
//! registry.configure(1_000);
//!
//! registry.check_budget("agent-7", 800)?;
//! let consumed = registry.consume("agent-7", 600, 160)?;
//! assert_eq!(consumed.usage.remaining, 240);
//! assert_eq!(consumed.crossed[0].severity, Severity::Warning);
//!
//! let refused = registry.check_budget("agent-7", 241);
//! assert!(matches!(refused, Err(CheckError::Exhausted(_))));
//! # Ok::<(), CheckError>(())
//! ```
//!
//! Token counts are `u64` and saturate. The arithmetic agrees, number for number, with the Python
//! class that this crate replaces, but for one deliberate difference: a threshold is compared in
//! exact integers, so that 29 tokens of 100 reach a 29 % threshold.
#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::expect_used, clippy::unwrap_used)]

extern crate alloc;

mod answer;
mod budget;
mod cell;
mod changes;
mod crossings;
mod error;
mod index;
mod memory;
mod percent;
mod registry;
mod request;
mod request_window;
mod requests;
mod same;
mod state;
mod thread;
mod threads;
mod threshold;
mod tokens;
mod warning;

pub use answer::{Consumed, FinalBudget, Held, ThresholdCrossed};
pub use budget::{Budget, Usage};
pub use changes::Changes;
pub use error::{
    BatchError, BudgetExhausted, CheckError, CreateError, HoldError, InvalidRequestId, InvalidThreadId,
    OpenError, RestoreError, SettleError,
};
pub use percent::{percent_of, round_to_tenth};
pub use registry::{Registry, Wanted};
pub use request_window::WINDOW as REQUEST_WINDOW;
pub use state::{HoldState, LostState, ThreadState};
pub use thread::ThreadBudget;
pub use threshold::{InvalidThreshold, PercentSet, Severity, Threshold, Thresholds};
pub use warning::BudgetWarning;

/// The limit, in tokens, of a new thread until [`Registry::configure`] is called.
pub const DEFAULT_MAX_TOKENS: u64 = 100_000;

/// The longest thread id, in bytes of UTF-8. The shortest is one byte.
pub const MAX_THREAD_ID_BYTES: usize = 1_024;

/// The longest request id, in bytes of UTF-8. The shortest is one byte.
pub const MAX_REQUEST_ID_BYTES: usize = 256;

/// The most holds of a thread's own.
pub const MAX_HOLDS: usize = 256;

/// The longest line of threads, each the parent of the next.
pub const MAX_DEPTH: u32 = 16;

/// The most entries of a batch.
pub const MAX_BATCH: usize = 4_096;

/// The most threads in a page of a snapshot, or of changes.
pub const MAX_PAGE: usize = 4_096;
