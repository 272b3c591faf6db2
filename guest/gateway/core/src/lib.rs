//! What the LLM router decides. Pure: no I/O, no clock, no bindings.

#![warn(clippy::expect_used, clippy::unwrap_used)]

mod config;

pub use config::{Config, ConfigError, Severity, Threshold, UnmeteredPaths, Upstream, UrlParts, VARIABLE};
