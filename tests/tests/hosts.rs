//! Puts every vector to every host that this machine can run, and prints a matrix.

use clap::Parser;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;
use thread_budget_host::{COMPONENT, Registry};
use thread_budget_tests::{Component, vector};

/// Put every conformance vector to every host that this machine can run, and print a matrix.
///
/// The Rust host runs in this process. Each other host is a folder of host-example with a program
/// `vectors`, which gets the component's file and the vectors' folder and prints a JSON object. It sets
/// itself up first, which takes a while the first time.
#[derive(Parser)]
#[command(
    name = "hosts",
    after_help = "Exit codes: 0 every vector passed; 1 one failed, or a required host did not run."
)]
struct Arguments {
    /// Only these hosts: rust, or a folder of host-example. All of them when left out.
    hosts: Vec<String>,
    /// Fail when a host cannot run instead of only saying why.
    #[arg(long)]
    require: bool,
}

/// What a host says of itself.
#[derive(Deserialize)]
struct Report {
    host: String,
    groups: BTreeMap<String, Passed>,
    failures: Vec<Failure>,
    nanoseconds_per_call: BTreeMap<String, f64>,
}

#[derive(Default, Deserialize)]
struct Passed {
    passed: u32,
    failed: u32,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Failure {
    Step { vector: String, step: u32, expected: Value, got: Value },
    Message(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step { vector, step, expected, got } => {
                write!(f, "{vector} step {step}\n  expected  {expected}\n  got       {got}")
            }
            Self::Message(message) => f.write_str(message),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let names = if arguments.hosts.is_empty() {
        ["rust", "python", "node", "browser", "c"].map(String::from).into()
    } else {
        arguments.hosts
    };
    let mut reports = Vec::new();
    let mut skipped = Vec::new();
    for name in names {
        eprintln!("running {name} …");
        match if name == "rust" { Ok(rust()) } else { other(&name) } {
            Ok(report) => reports.push(report),
            Err(reason) => skipped.push((name, reason)),
        }
    }
    print_matrix(&reports);
    for (name, reason) in &skipped {
        println!("\nSKIPPED {name}: {reason}");
    }
    let mut failed = false;
    for report in &reports {
        for failure in &report.failures {
            println!("\nFAILED {}: {failure}", report.host);
            failed = true;
        }
    }
    if failed || (arguments.require && !skipped.is_empty()) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The host of this workspace.
fn rust() -> Report {
    let mut report = Report {
        host: "Rust, wasmtime".into(),
        groups: BTreeMap::new(),
        failures: Vec::new(),
        nanoseconds_per_call: BTreeMap::new(),
    };
    for vector in vector::all() {
        let group = vector.name.split('/').next().unwrap_or_default();
        let Passed { passed, failed } = report.groups.entry(group.into()).or_default();
        match vector.check(&mut Component::new()) {
            Ok(()) => *passed += 1,
            Err(failure) => {
                *failed += 1;
                report.failures.push(Failure::Message(failure));
            }
        }
    }
    let registry = Registry::builder().tokens_per_thread(u64::MAX).build();
    let registry = registry.unwrap_or_else(|error| panic!("{error}")).blocking();
    registry.consume("a", 1, 1).unwrap_or_else(|error| panic!("{error}"));
    for (name, call) in [
        ("has-budget", &(|| drop(registry.has_budget("a"))) as &dyn Fn()),
        ("check-budget", &|| drop(registry.check_budget("a", 1))),
        ("consume", &|| drop(registry.consume("a", 1, 1))),
    ] {
        report.nanoseconds_per_call.insert(name.into(), median_of_rounds(call));
    }
    report
}

fn median_of_rounds(call: &dyn Fn()) -> f64 {
    const CALLS: u32 = 10_000;
    let mut rounds: Vec<_> = (0..15)
        .map(|_| {
            let started = Instant::now();
            (0..CALLS).for_each(|_| call());
            started.elapsed().as_nanos() as f64 / f64::from(CALLS)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

/// A host with a folder of its own.
fn other(name: &str) -> Result<Report, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let program: PathBuf = root.join("host-example").join(name).join("vectors");
    let mut component = tempfile::NamedTempFile::with_suffix(".wasm").map_err(|error| error.to_string())?;
    component.write_all(COMPONENT).map_err(|error| error.to_string())?;
    let output = Command::new(&program)
        .arg(component.path())
        .arg(root.join("tests/vectors"))
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last_lines: Vec<_> = stderr.lines().rev().take(5).collect();
        last_lines.into_iter().rev().collect::<Vec<_>>().join("\n  ")
    })
}

fn print_matrix(reports: &[Report]) {
    let groups: BTreeSet<_> = reports.iter().flat_map(|report| report.groups.keys()).collect();
    let calls: BTreeSet<_> = reports.iter().flat_map(|report| report.nanoseconds_per_call.keys()).collect();
    print_row("vectors passed", reports, |report| report.host.clone());
    for group in groups {
        print_row(group, reports, |report| match report.groups.get(group) {
            Some(Passed { passed, failed: 0 }) => passed.to_string(),
            Some(Passed { passed, failed }) => format!("{passed}, {failed} FAILED"),
            None => "none".into(),
        });
    }
    for call in calls {
        print_row(&format!("{call}, µs"), reports, |report| match report.nanoseconds_per_call.get(call) {
            Some(nanoseconds) => format!("{:.2}", nanoseconds / 1_000.0),
            None => "-".into(),
        });
    }
}

/// A column is as wide as the host's name.
fn print_row(name: &str, reports: &[Report], cell: impl Fn(&Report) -> String) {
    print!("{name:<16}");
    for report in reports {
        print!("  {:>width$}", cell(report), width = report.host.chars().count());
    }
    println!();
}
