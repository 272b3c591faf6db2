//! The `thread-budget` command line.

#![warn(clippy::expect_used, clippy::unwrap_used)]

mod cli;

use std::process::ExitCode;

/// `serve` makes and frees some hundreds of small things for each request: a tenth of its time with the
/// system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
