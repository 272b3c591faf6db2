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
//!
//! With `default-features = false` the crate is the library alone, without the command line.

#![warn(clippy::expect_used, clippy::unwrap_used)]

mod bindings;
mod builder;
mod cache;
mod error;
mod registry;
mod types;

pub use builder::RegistryBuilder;
pub use cache::Cache;
pub use error::{CallError, InvalidInput, LoadError};
pub use registry::{Registry, ThreadBudget};
pub use types::{
    BudgetExhausted, BudgetWarning, Consumed, FinalBudget, Severity, Threshold, ThresholdCrossed, Usage,
};

/// The component itself: a WebAssembly component of the world `thread-budget:registry/thread-budget`.
pub const COMPONENT: &[u8] = include_bytes!(env!("THREAD_BUDGET_COMPONENT"));

/// The longest thread id, in bytes of UTF-8. The shortest is one byte.
pub const MAX_THREAD_ID_BYTES: usize = 1_024;

/// The most thresholds there can be: one for each percent.
pub const MAX_THRESHOLDS: usize = 100;

/// Tests the README's example.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
