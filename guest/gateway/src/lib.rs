//! The LLM router: budgets for any agent that changes its base URL.

#![warn(clippy::expect_used, clippy::unwrap_used)]

#[cfg(target_family = "wasm")]
mod handler;
