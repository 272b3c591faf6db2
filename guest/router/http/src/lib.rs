//! The LLM router as a `wasi:http` component: the policy decides, this crate reads, sends and writes. Empty on
//! targets other than WebAssembly.
//!
//! There is one request per instance, so it is straight-line code that blocks; nothing waits for it but
//! its own client.

#![warn(clippy::expect_used, clippy::unwrap_used)]

#[cfg(target_family = "wasm")]
mod bindings;
#[cfg(target_family = "wasm")]
mod budgets;
#[cfg(target_family = "wasm")]
mod client;
#[cfg(target_family = "wasm")]
mod exchange;
#[cfg(target_family = "wasm")]
mod handler;
#[cfg(target_family = "wasm")]
mod headers;
#[cfg(target_family = "wasm")]
mod io;
#[cfg(target_family = "wasm")]
mod upstream;
