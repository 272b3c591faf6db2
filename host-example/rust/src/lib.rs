//! Embed the thread-budget component in a Rust program with wasmtime.
//!
//! ```
//! use thread_budget_host::{CallError, Registry};
//!
//! # pollster::block_on(async {
//! let registry = Registry::builder().tokens_per_thread(1_000).build()?;
//!
//! // Before an LLM call, hold what it may use: 300 prompt tokens, 500 of completion, or at least 100.
//! let mut hold = registry.hold("agent-7", 300, 500, 100).await?;
//! for warning in &hold.held().pending {
//!     println!("{}", warning.message); // for the agent
//! }
//! hold.sent();
//! // After it, say what it used.
//! let consumed = hold.settle(310, 490).await?;
//! assert_eq!(consumed.room, 200);
//! assert!(matches!(registry.check_budget("agent-7", 201).await, Err(CallError::Refused(_))));
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! Programs without async code use [`blocking`].
//!
//! The component is compiled into this crate, imports nothing and runs under a memory cap and a
//! deadline per call. Its compiled form is cached, so that a second start takes milliseconds.

#![warn(clippy::expect_used, clippy::unwrap_used)]

mod bindings;
pub mod blocking;
mod bounds;
mod builder;
mod cache;
mod calls;
mod clock;
mod error;
mod file;
mod handle;
mod hold;
mod instance;
mod lanes;
mod lost;
mod meter;
mod outcome;
mod registry;
mod shards;
mod states;
pub mod store;
mod trees;
mod types;

pub use bounds::{
    MAX_BATCH, MAX_BATCH_ID_BYTES, MAX_REQUEST_ID_BYTES, MAX_THREAD_ID_BYTES, MAX_THRESHOLDS,
    MIN_MEMORY_BYTES, check_id,
};
pub use builder::RegistryBuilder;
pub use cache::Cache;
pub use error::{BatchError, CallError, InvalidInput, LoadError, StorageError};
pub use file::{DATABASE_FORMAT, Durability, Note};
pub use handle::ThreadBudget;
pub use hold::Hold;
pub use instance::keep_time;
pub use lost::LostCalls;
pub use registry::Registry;
pub use types::{
    Acknowledgement, BudgetExhausted, BudgetWarning, Changes, Consumed, FinalBudget, Held, HoldState,
    HoldTerms, LostState, RegistryError, Severity, ThreadOptions, ThreadState, Threshold, ThresholdCrossed,
    Usage, UsageEntry,
};

/// The component itself: a WebAssembly component of the world `thread-budget:registry/thread-budget`.
pub const COMPONENT: &[u8] = include_bytes!("../component/thread_budget.wasm");

/// Tests the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
