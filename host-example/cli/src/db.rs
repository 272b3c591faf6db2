//! `thread-budget db`: what is in a database, read without changing it.

use super::report::{self, BOLD, FAINT};
use super::threads::{Shown, largest, pages, threads};
use super::{DbCommand, Failure, Output, open_file};
use indicatif::{DecimalBytes, HumanCount};
use serde::Serialize;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use thread_budget_host::blocking::Registry;
use thread_budget_host::{Cache, DATABASE_FORMAT, HoldState, Threshold};

/// What `show` and `verify` say of a file.
#[derive(Debug, Serialize)]
struct Database {
    file: String,
    format: &'static str,
    bytes: u64,
    threads: u64,
    /// Calls since the last checkpoint.
    logged_calls: u64,
    #[serde(flatten)]
    details: Option<Details>,
}

/// What only `show` says.
#[derive(Debug, Serialize)]
struct Details {
    max_tokens_per_thread: u64,
    thresholds: Vec<Threshold>,
    /// None is no limit.
    max_threads: Option<u32>,
    /// Warnings that no agent has.
    pending_warnings: u64,
    /// Calls that were in flight; whoever opens the file next to write settles them as lost.
    calls_in_flight: u64,
    /// What they hold.
    held_tokens: u64,
    top: Vec<Shown>,
}

pub(super) fn run(command: &DbCommand, cache: Cache) -> Result<(), Failure> {
    match command {
        DbCommand::Show { file, top, output } => show(file, *top, *output, cache),
        DbCommand::Export { file } => export(file, cache),
        DbCommand::Verify { file, output } => verify(file, *output, cache),
    }
}

/// The file's threads in an instance, and how long the file is. It must exist.
fn open(file: &Path, cache: Cache) -> Result<(Registry, u64), Failure> {
    let (_, metadata) = open_file(file)?;
    let registry = thread_budget_host::Registry::builder().cache(cache).database(file).read_only().build()?;
    Ok((registry.blocking(), metadata.len()))
}

fn show(file: &Path, top: usize, output: Output, cache: Cache) -> Result<(), Failure> {
    let (registry, bytes) = open(file, cache)?;
    let threads = threads(&registry)?;
    let pending = threads.iter().map(|thread| thread.pending_thresholds.len() as u64).sum();
    let held = |hold: &HoldState| hold.prompt_tokens.saturating_add(hold.completion_tokens);
    let holds: Vec<u64> = threads.iter().flat_map(|thread| &thread.holds).map(held).collect();
    let database = Database {
        file: file.display().to_string(),
        format: DATABASE_FORMAT,
        bytes,
        threads: threads.len() as u64,
        logged_calls: registry.logged_calls(),
        details: Some(Details {
            max_tokens_per_thread: registry.max_tokens_per_thread()?,
            thresholds: registry.thresholds()?,
            max_threads: Some(registry.max_threads()?).filter(|threads| *threads < u32::MAX),
            pending_warnings: pending,
            calls_in_flight: holds.len() as u64,
            held_tokens: holds.into_iter().fold(0, u64::saturating_add),
            top: largest(&registry, threads, top, true)?,
        }),
    };
    print(&database, output, "")
}

fn verify(file: &Path, output: Output, cache: Cache) -> Result<(), Failure> {
    let (registry, bytes) = open(file, cache)?;
    let database = Database {
        file: file.display().to_string(),
        format: DATABASE_FORMAT,
        bytes,
        threads: threads(&registry)?.len() as u64,
        logged_calls: registry.logged_calls(),
        details: None,
    };
    print(&database, output, " is sound")
}

fn export(file: &Path, cache: Cache) -> Result<(), Failure> {
    let (registry, _) = open(file, cache)?;
    let mut out = BufWriter::new(io::stdout().lock());
    for page in pages(&registry) {
        for thread in page? {
            serde_json::to_writer(&mut out, &thread).map_err(io::Error::from)?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(())
}

fn print(database: &Database, output: Output, verdict: &str) -> Result<(), Failure> {
    let mut out = anstream::AutoStream::auto(io::stdout().lock());
    if output == Output::Json {
        serde_json::to_writer_pretty(&mut out, database).map_err(io::Error::from)?;
        writeln!(out)?;
        return Ok(());
    }
    let Database { file, format, bytes, threads, logged_calls, details } = database;
    let size = DecimalBytes(*bytes);
    writeln!(
        out,
        "{BOLD}{}{BOLD:#}{verdict} {FAINT}{size}, {format}{FAINT:#}\n",
        report::shown(file, usize::MAX)
    )?;
    let mut line = |label: &str, value: &str| writeln!(out, "  {label:<22}{value:>16}");
    line("threads", &HumanCount(*threads).to_string())?;
    line("calls in the log", &HumanCount(*logged_calls).to_string())?;
    if let Some(details) = details {
        line("warnings pending", &HumanCount(details.pending_warnings).to_string())?;
        line("calls in flight", &HumanCount(details.calls_in_flight).to_string())?;
        line("tokens they hold", &HumanCount(details.held_tokens).to_string())?;
        line("limit of a new thread", &HumanCount(details.max_tokens_per_thread).to_string())?;
        let limit =
            details.max_threads.map_or("none".into(), |threads| HumanCount(threads.into()).to_string());
        line("limit of threads", &limit)?;
        if !details.top.is_empty() {
            report::write_threads(&mut out, &details.top, &details.thresholds)?;
        }
    }
    out.flush()?;
    Ok(())
}
