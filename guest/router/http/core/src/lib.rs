//! What the LLM router decides. Pure: no I/O, no clock, no bindings; so it is tested natively.

#![warn(clippy::expect_used, clippy::unwrap_used)]

mod answer;
mod config;
mod dialect;
mod request;
pub mod retry;
pub mod route;
mod splice;
pub mod sse;
mod stream;
mod text;
mod usage;

pub use answer::Answer;
pub use config::{Config, ConfigError, Severity, Threshold, UnmeteredPaths, Upstream, UrlParts, VARIABLE};
pub use dialect::{Dialect, ErrorType};
pub use request::{BadRequest, Estimate, Request};
pub use stream::Stream;
pub use usage::{Usage, reported_usage};
