//! What of the `thread-budget` command line other programs can use: its reader of usage recordings.

#![warn(clippy::expect_used, clippy::unwrap_used)]

pub mod recording;
