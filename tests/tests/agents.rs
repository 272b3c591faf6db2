//! Puts agents that people run, as they are published, in front of the router, and looks at what they and a stand-in
//! for their provider see. The cases are data: `tests/agents/cases`, see the README there.
//!
//! `cargo build --release --workspace && cargo test --release --workspace --test agents`

#[path = "agents/case.rs"]
mod case;
#[path = "agents/notes.rs"]
mod notes;

use case::Case;
use clap::Parser;
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// How many cases run at a time: agents wait more than they work.
const AT_ONCE: usize = 3;

/// Put unmodified agents in front of the router, and a stand-in for their provider behind it.
///
/// They run in a network namespace that has nothing but loopback. They are installed first, which takes minutes the
/// first time.
#[derive(Parser)]
#[command(
    name = "agents",
    after_help = "Exit codes: 0 every case passed; 1 one failed, or a required part did not run."
)]
struct Arguments {
    /// Fail when something cannot run instead of only saying why.
    #[arg(long)]
    require: bool,

    /// Only cases whose name has this in it
    #[arg(default_value = "")]
    filter: String,

    /// Within the namespace
    #[arg(long, hide = true)]
    inside: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = if arguments.inside { run(&arguments.filter) } else { enter(&arguments) };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            println!("\nSKIPPED all agents: {reason}");
            if arguments.require { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
    }
}

/// Install the agents, and run this program again where there is no network but loopback.
fn enter(arguments: &Arguments) -> Result<bool, String> {
    // A user of its own is needed by whoever is not root.
    let namespace = if rustix::process::geteuid().is_root() { "-n" } else { "-rn" };
    let unshare = || {
        let mut command = Command::new("unshare");
        command.arg(namespace);
        command
    };
    let may = unshare().arg("true").output().map_err(|error| format!("unshare: {error}"))?;
    if !may.status.success() {
        return Err(format!("no namespace: {}", String::from_utf8_lossy(&may.stderr).trim()));
    }
    eprintln!("installing agents …");
    let installed = Command::new(folder().join("install")).status();
    if !installed.map_err(|error| format!("tests/agents/install: {error}"))?.success() {
        return Err("they cannot be installed".into());
    }
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let status = unshare()
        .args(["sh", "-c", r#"ip link set lo up && exec "$@""#, "sh"])
        .arg(this)
        .args(["--inside", &arguments.filter])
        .status();
    Ok(status.map_err(|error| error.to_string())?.success())
}

/// Run the cases, and say of each how it went.
fn run(filter: &str) -> Result<bool, String> {
    let thread_budget = Path::new(env!("CARGO_BIN_EXE_stub_provider")).with_file_name("thread-budget");
    if !thread_budget.exists() {
        return Err(format!("{} is not there: cargo build --release --workspace", thread_budget.display()));
    }
    let mut files: VecDeque<_> = case_files()?;
    files.retain(|file| file.to_string_lossy().contains(filter));
    let (queue, failed) = (Mutex::new(files), Mutex::new(0));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(file) = lock(&queue).pop_front() {
                    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                    let wrong = match Case::read(&file).and_then(|case| case.run(&thread_budget)) {
                        Ok(wrong) => wrong,
                        Err(error) => vec![error],
                    };
                    // One line at a time.
                    let mut failed = lock(&failed);
                    if wrong.is_empty() {
                        println!("{name} … ok");
                    } else {
                        *failed += 1;
                        println!("{name} … FAILED\n    {}", wrong.join("\n    "));
                    }
                }
            });
        }
    });
    let failed = *lock(&failed);
    Ok(failed == 0)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("agents")
}

fn case_files() -> Result<VecDeque<PathBuf>, String> {
    let entries = fs::read_dir(folder().join("cases")).map_err(|error| error.to_string())?;
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    Ok(files.into())
}
