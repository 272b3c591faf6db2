//! Puts the client libraries that agents use in front of the router, and prints a matrix.
//!
//! `cargo build --release --workspace && cargo test --release --workspace --test clients`

use clap::Parser;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use thread_budget_tests::provider::Provider;
use thread_budget_tests::serving::{Serving, router};

/// The programs in tests/clients, and what each is asked to put to the cases.
const CLIENTS: [(&str, &str); 3] = [("python", "openai"), ("python", "anthropic"), ("node", "openai")];

/// Tokens of a thread. The cases know it.
const LIMIT: u64 = 20_000;

/// Put the client libraries that agents use in front of a stand-in for the providers, directly and
/// through the router, and print a matrix.
///
/// The libraries are unmodified and are told nothing but a base URL. Each is set up first, which takes a
/// while the first time.
#[derive(Parser)]
#[command(
    name = "clients",
    after_help = "Exit codes: 0 every case passed; 1 one failed, or a required part did not run."
)]
struct Arguments {
    /// Fail when something cannot run instead of only saying why.
    #[arg(long)]
    require: bool,
}

/// What a client says of a case.
#[derive(Deserialize)]
struct Line {
    client: String,
    case: String,
    outcome: Outcome,
    #[serde(default)]
    detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Passed,
    Failed,
    /// It is about the router, and there is none.
    Skipped,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let provider = Provider::start().unwrap_or_else(|error| panic!("{error}"));
    let mut skipped = Vec::new();
    let thread_budget = Path::new(env!("CARGO_BIN_EXE_stub_provider")).with_file_name("thread-budget");
    let router = Serving::start(&mut router(&thread_budget, &provider.url(), LIMIT))
        .map_err(|error| {
            skipped.push(format!(
                "the router: {}: {error}; is it built? cargo build --release --workspace",
                thread_budget.display()
            ));
        })
        .ok();

    let mut failed = false;
    for (folder, library) in CLIENTS {
        eprintln!("running {library}, {folder} …");
        let mut run = |router| {
            cases(folder, library, &provider, router)
                .map_err(|reason| skipped.push(format!("{library}, {folder}: {reason}")))
                .ok()
        };
        let Some(directly) = run(None) else { continue };
        let through_router = router.as_ref().and_then(|router| run(Some(router))).unwrap_or_default();
        print_matrix(&directly, &through_router);
        failed |= directly.iter().chain(&through_router).any(|line| line.outcome == Outcome::Failed);
    }
    for reason in &skipped {
        println!("\nSKIPPED {reason}");
    }
    if failed || (arguments.require && !skipped.is_empty()) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Put a client to all cases.
fn cases(
    folder: &str,
    library: &str,
    provider: &Provider,
    router: Option<&Serving>,
) -> Result<Vec<Line>, String> {
    let program: PathBuf = [env!("CARGO_MANIFEST_DIR"), "clients", folder, "cases"].iter().collect();
    let output = Command::new(&program)
        .arg(library)
        .arg(provider.url())
        .args(router.map(Serving::url))
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let lines: Result<Vec<_>, _> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(serde_json::from_slice)
        .collect();
    match lines {
        Ok(lines) if output.status.success() && !lines.is_empty() => Ok(lines),
        _ => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let last_lines: Vec<_> = stderr.lines().rev().take(5).collect();
            Err(last_lines.into_iter().rev().collect::<Vec<_>>().join("\n  "))
        }
    }
}

fn print_matrix(directly: &[Line], through_router: &[Line]) {
    let client = directly.first().map_or("", |line| &line.client);
    println!("\n{client:<40}  {:<8}  through the router", "directly");
    for (index, line) in directly.iter().enumerate() {
        let through = through_router.get(index);
        let outcome = |line: Option<&Line>| match line.map(|line| line.outcome) {
            Some(Outcome::Passed) => "passed",
            Some(Outcome::Failed) => "FAILED",
            Some(Outcome::Skipped) | None => "-",
        };
        println!("{:<40}  {:<8}  {}", line.case, outcome(Some(line)), outcome(through));
    }
    for (way, lines) in [("directly", directly), ("through the router", through_router)] {
        for Line { client, case, detail, .. } in lines.iter().filter(|line| line.outcome == Outcome::Failed) {
            println!("\nFAILED {client}, {case}, {way}: {detail}");
        }
    }
}
