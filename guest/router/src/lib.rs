//! The router's policy as a component: the contract in `wit/router/`, translated to and from
//! `thread_budget_router_core` and nothing else. Empty on targets other than WebAssembly.
#![cfg_attr(target_family = "wasm", no_std)]
#![warn(clippy::expect_used, clippy::unwrap_used)]

#[cfg(target_family = "wasm")]
mod component;
#[cfg(target_family = "wasm")]
mod runtime;
