//! What everything costs, in one table: `cargo bench --workspace --bench bench`.
//!
//! Every row is measured once in every round, so that the ratios hold on a noisy machine too.

mod baselines;
mod component;
mod durable;
mod ids;
mod measure;
mod native;
mod pool;
mod raw;
mod replay;
mod startup;
mod table;

use anstream::{eprintln, print, println};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use measure::Group;
use std::collections::{HashMap, HashSet};
use std::iter::successors;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, thread};

/// Measure what calls cost, and compare.
#[derive(Parser)]
#[command(bin_name = "cargo bench --workspace --bench bench --")]
struct Args {
    /// Only rows with this in their name or in their heading, and what they are compared with
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,

    /// Three rounds, to see that it works; more make the numbers firm
    #[arg(long)]
    quick: bool,

    /// What cargo says to a benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// Odd, so that a median is one of the samples.
const ROUNDS: usize = 15;
const QUICK_ROUNDS: usize = 3;

fn main() -> ExitCode {
    let args = Args::parse();
    let rounds = if args.quick { QUICK_ROUNDS } else { ROUNDS };
    let groups = groups(args.filter.as_deref().unwrap_or_default());
    if groups.is_empty() {
        eprintln!("no row has that in its name or heading; without --filter all are measured");
        return ExitCode::FAILURE;
    }

    let progress = progress_bar(measure::steps(&groups, rounds));
    let measured = measure::measure(groups, rounds, |what| {
        progress.set_message(what.to_owned());
        progress.inc(1);
    });
    progress.finish_and_clear();

    let cores = thread::available_parallelism().map_or(1, usize::from);
    print!("{}", header(cores, rounds));
    println!("{}", table::text(&measured));
    let json = serde_json::json!({"cores": cores, "rounds": rounds, "rows": table::json(&measured)});
    let file = folder("").join("bench.json");
    match fs::write(&file, format!("{json:#}\n")) {
        Ok(()) => {
            println!("all samples: {}", file.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{} cannot be written: {error}", file.display());
            ExitCode::FAILURE
        }
    }
}

/// Those that are asked for, and those that they are compared with.
fn groups(filter: &str) -> Vec<Group> {
    let mut groups = vec![
        native::rows(),
        raw::rows(),
        component::calls(),
        baselines::rows(),
        component::scale(),
        pool::rows(),
        durable::rows(),
        startup::rows(),
        replay::rows(),
        raw::memory(),
    ];
    let mut wanted = HashSet::new();
    for group in &groups {
        for row in &group.rows {
            if group.title.contains(filter) || row.name.contains(filter) {
                wanted.insert(row.name.clone());
            }
        }
    }
    // What a wanted row is compared with may itself be compared with another.
    let against: HashMap<_, _> =
        groups.iter().flat_map(|group| &group.rows).map(|row| (&row.name, row.against.as_ref())).collect();
    for name in wanted.clone() {
        let compared_with = |name: &&String| against.get(*name).copied().flatten();
        wanted.extend(successors(compared_with(&&name), compared_with).cloned());
    }
    for group in &mut groups {
        group.rows.retain(|row| wanted.contains(&row.name));
    }
    groups.retain(|group| !group.rows.is_empty());
    groups
}

fn header(cores: usize, rounds: usize) -> String {
    format!(
        "{cores} cores, {} {}. Median, least and most of {rounds} rounds; ratios are medians of those in each round.\n",
        std::env::consts::ARCH,
        std::env::consts::OS,
    )
}

/// Drawn on standard error, and only when that is a terminal.
fn progress_bar(steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3} %  {eta} left  {msg}") {
        bar.set_style(style);
    }
    bar
}

/// A folder in `target` for that purpose.
fn folder(purpose: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench").join(purpose);
    fs::create_dir_all(&folder).expect("a folder in target");
    folder
}
