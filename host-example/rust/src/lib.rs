//! Embed the thread-budget component in a Rust program with wasmtime.
//!
//! ```
//! use thread_budget_host::{CallError, Registry};
//!
//! let registry = Registry::builder().tokens_per_thread(1_000).build()?;
//!
//! registry.check_budget("agent-7", 800)?; // before the LLM call
//! let consumed = registry.consume("agent-7", 700, 220)?; // after it
//! for crossed in &consumed.crossed {
//!     println!("{}", registry.budget_warning(crossed)?.message); // for the agent
//! }
//! assert!(matches!(registry.check_budget("agent-7", 81), Err(CallError::Refused(_))));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The component is compiled into this crate, imports nothing and runs under a memory cap and a
//! deadline per call. Its compiled form is cached, so that a second start takes milliseconds.

#![warn(clippy::expect_used, clippy::unwrap_used)]

mod bindings;
mod builder;
mod cache;
mod error;
mod handle;
mod instance;
mod journal;
mod meter;
mod operation;
mod overlay;
mod registry;
mod shards;
mod types;

pub use builder::RegistryBuilder;
pub use cache::Cache;
pub use error::{BatchError, CallError, InvalidInput, LoadError, StorageError, check_id};
pub use handle::{Reservation, ThreadBudget};
pub use instance::keep_time;
pub use journal::{DATABASE_FORMAT, Durability, Note};
pub use registry::Registry;
pub use types::{
    BudgetExhausted, BudgetWarning, Consumed, FinalBudget, Severity, ThreadOptions, ThreadState, Threshold,
    ThresholdCrossed, Usage, UsageEntry,
};

/// The component itself: a WebAssembly component of the world `thread-budget:registry/thread-budget`.
pub const COMPONENT: &[u8] = include_bytes!("../component/thread_budget.wasm");

/// The longest thread id, in bytes of UTF-8. The shortest is one byte.
pub const MAX_THREAD_ID_BYTES: usize = 1_024;

/// The longest request id, in bytes of UTF-8. The shortest is one byte.
pub const MAX_REQUEST_ID_BYTES: usize = 256;

/// The smallest memory cap: with less than this an argument may not fit, and that is a trap.
pub const MIN_MEMORY_BYTES: usize = 1 << 20;

/// The most entries of a batch.
pub const MAX_BATCH: usize = 4_096;

/// The most bytes that the thread ids of a batch may have together: what an instance can take even at
/// its memory cap.
pub const MAX_BATCH_ID_BYTES: usize = 128 << 10;

/// The most thresholds there can be: one for each percent.
pub const MAX_THRESHOLDS: usize = 100;

/// Tests the README's example.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
