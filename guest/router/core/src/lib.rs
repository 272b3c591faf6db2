//! What the LLM router decides. Pure: no I/O, no clock, no bindings.
//!
//! An [`Exchange`] is a client's request and its answer. Everything that happens goes through one function,
//! [`Exchange::step`], which says what to do. It is a state machine and knows the order of things; what is
//! decided at each point is in the other modules, each about one question.

#![cfg_attr(not(test), no_std)]
#![warn(clippy::expect_used, clippy::unwrap_used)]

extern crate alloc;

mod allowance;
mod api;
mod attempts;
mod background;
mod body;
mod client;
mod clients;
mod config;
mod door;
mod estimate;
mod exchange;
mod extras;
mod gzip;
mod headers;
mod identity;
pub mod json;
mod metered;
mod note;
mod pass;
mod refusal;
mod registry;
mod retry;
mod scopes;
mod splice;
mod sse;
mod standing;
mod stream;
mod tally;
mod text;
mod turn;
mod upstream;
pub mod usage;
pub mod weights;

pub use config::{
    ClientNames, Config, ConfigError, Every, LostCalls, Scope, ScopeBy, Severity, Threshold, Unidentified,
    UnmeteredPaths, Upstream,
};
pub use exchange::Exchange;
pub use refusal::{ErrorKind, error_body};
pub use registry::{
    Acknowledgement, BudgetExhausted, BudgetWarning, Consumed, Held, Opening, RegistryError, ThreadOptions,
    Usage,
};
pub use turn::{
    Acknowledged, Action, Answer, Event, Failure, FailureKind, Header, Hold, HoldName, Kept, KeyConflict,
    Level, LogEntry, Next, OwnKey, ProviderRequest, Request, RequestBody, Response, ResponseBody, Settle,
    Turn,
};
