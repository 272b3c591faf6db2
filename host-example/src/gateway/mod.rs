//! The LLM router: the gateway component in a sandbox per request, on a registry that lasts.

pub mod admin;
mod events;

pub use admin::{Admin, AdminError};
pub use events::{Event, Events};

/// The gateway component: a WebAssembly component of the world `thread-budget:gateway/gateway`.
pub const GATEWAY_COMPONENT: &[u8] = include_bytes!(env!("THREAD_BUDGET_GATEWAY_COMPONENT"));
