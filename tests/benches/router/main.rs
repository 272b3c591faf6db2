//! What the router costs in front of a provider, beside no proxy, nginx and other LLM proxies:
//! `cargo build --release --workspace && tests/benches/router/setup && cargo bench --workspace --bench router`.
//!
//! Every proxy is measured once in every round, so that the ratios hold on a noisy machine too. The provider
//! is the stub, which answers at once.

mod load;
mod process_tree;
mod proxies;
mod streams;
mod table;

use anstream::{eprintln, println};
use clap::Parser;
use load::{CONNECTIONS, Load};
use process_tree::mebibytes;
use proxies::{Proxy, Running};
use serde_json::json;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;
use std::{fs, io};
use table::Measured;
use thread_budget_tests::serving::Serving;

/// Measure what the router costs, and compare.
#[derive(Parser)]
#[command(bin_name = "cargo bench --workspace --bench router --")]
struct Args {
    /// Only proxies with this in their name, and what they are compared with
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,

    /// One short round, to see that it works; more make the numbers firm
    #[arg(long)]
    quick: bool,

    /// What cargo says to a benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// How much is measured.
struct Plan {
    /// Odd, so that a median is one of the samples.
    rounds: usize,
    /// How long one load is put on one proxy.
    load: Duration,
    /// How many streams go on at the same time.
    streams: usize,
    /// After how many requests the router's memory is looked at.
    memory_at: &'static [u64],
}

const FULL: Plan = Plan {
    rounds: 5,
    load: Duration::from_secs(4),
    streams: 500,
    memory_at: &[25_000, 50_000, 75_000, 100_000],
};
const QUICK: Plan = Plan { rounds: 1, load: Duration::from_secs(1), streams: 20, memory_at: &[1_000] };

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> io::Result<()> {
    let plan = if args.quick { QUICK } else { FULL };
    let filter = args.filter.as_deref().unwrap_or_default();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("router-bench");
    fs::create_dir_all(&folder)?;
    let stub = lean_stub()?;

    let mut measured = Vec::new();
    let mut running = Vec::new();
    for proxy in Proxy::ALL.into_iter().filter(|proxy| *proxy == Proxy::None || proxy.name().contains(filter))
    {
        eprintln!("starting {} …", proxy.name());
        match proxy.start(stub.url(), &folder) {
            Ok(started) => {
                let warm_up = Load { connections: 16, duration: Duration::from_secs(1) };
                warm_up.put_on(&started, stub.url())?;
                measured.push(Measured::new(proxy, started.memory()));
                running.push(started);
            }
            Err(error) => println!("SKIPPED {}: {error}", proxy.name()),
        }
    }

    for round in 1..=plan.rounds {
        for connections in CONNECTIONS {
            for (measured, running) in measured.iter_mut().zip(&running) {
                eprintln!(
                    "round {round} of {}: {connections} connections, {}",
                    plan.rounds,
                    measured.proxy.name()
                );
                let load = Load { connections, duration: plan.load };
                measured.add(connections, load.put_on(running, stub.url())?);
            }
        }
    }
    for (measured, running) in measured.iter_mut().zip(&running) {
        measured.memory_after = running.memory();
    }
    drop(running);

    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "\n{cores} cores, {} rounds of {} s for each number, medians; p50 and p99 are latencies\n",
        plan.rounds,
        plan.load.as_secs()
    );
    println!("{}", table::text(&measured));

    drop(stub);
    println!("{}", streams::measure(filter, &folder, plan.streams)?);

    let stub = lean_stub()?;
    let routers = Proxy::ALL.into_iter().filter(|proxy| proxy.is_router() && proxy.name().contains(filter));
    for proxy in routers {
        match proxy.start(stub.url(), &folder) {
            Ok(started) => println!("{}", memory_over_time(proxy, &started, &stub, plan.memory_at)?),
            Err(error) => println!("SKIPPED memory of {}: {error}", proxy.name()),
        }
    }

    let file = folder.join("router.json");
    let json = json!({"cores": cores, "rounds": plan.rounds, "rows": table::json(&measured)});
    fs::write(&file, format!("{json:#}\n"))?;
    println!("all samples: {}", file.display());
    Ok(())
}

fn lean_stub() -> io::Result<Serving> {
    Serving::start(Command::new(env!("CARGO_BIN_EXE_stub_provider")).arg("--lean"))
}

/// The memory of a proxy that has just started, after so many requests.
fn memory_over_time(proxy: Proxy, running: &Running, stub: &Serving, marks: &[u64]) -> io::Result<String> {
    let mut text = format!("memory of {}: {} at the start", proxy.name(), mebibytes(running.memory()));
    let mut requests = 0;
    for mark in marks {
        while requests < *mark {
            let load = Load { connections: 16, duration: Duration::from_secs(1) };
            requests += load.put_on(running, stub.url())?.requests;
        }
        text += &format!(", {} after {requests} requests", mebibytes(running.memory()));
    }
    Ok(text)
}
