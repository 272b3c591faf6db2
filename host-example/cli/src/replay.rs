//! `thread-budget replay`: records in, warnings and a summary out.

use super::input::{Event, Input, read, stream};
use super::ledger::{self, Ledger};
use super::outcomes::{Outcomes, counted};
use super::prices::Prices;
use super::report::{Counts, Crossed, FAINT, Sessions, Summary};
use super::sessions::{self, Found, Place};
use super::threads::{largest, threads, total_tokens};
use super::{Failure, Output, ReplayArgs, html, report, sample};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use thread_budget_cli::recording::time::Moment;
use thread_budget_cli::recording::{Identity, Record, RecordError, Records};
use thread_budget_host::blocking::Registry;
use thread_budget_host::{Cache, CallError, LoadError, ThreadOptions, ThresholdCrossed, UsageEntry};

/// How many of the files and records of a folder that cannot be read are named.
const NAMED_PROBLEMS: u64 = 5;

pub(super) fn run(args: &ReplayArgs, cache: Cache) -> Result<(), Failure> {
    let interrupted = listen_for_interrupts()?;
    let prices = args.weights.as_deref().map(Prices::read).transpose()?.unwrap_or_default();
    let found = find_sessions(args)?;
    let registry = registry(args, cache)?;
    let mut out = anstream::AutoStream::auto(io::stdout().lock());
    let started = Instant::now();
    let progress = progress_bar();
    let mut replay = Replay {
        args,
        registry: &registry,
        prices: &prices,
        progress: &progress,
        ledger: None,
        counts: Counts::default(),
        crossed: Crossed::default(),
        seen: HashSet::new(),
        opened: HashSet::new(),
        outcomes: Outcomes::default(),
        number: 0,
    };
    let (Ran { name, resumed_after, mut stopped }, places) = match found {
        Some(Found { places, .. }) if places.is_empty() => {
            return Err(Failure::Input(match &args.sessions {
                Some(folder) => {
                    format!("no sessions in {}, expected files that end in .jsonl", folder.display())
                }
                None => "no sessions since then".into(),
            }));
        }
        Some(found) => {
            let name = names(&found.places);
            let stopped = replay.run_sessions(&found, &interrupted);
            (Ran { name, resumed_after: None, stopped }, found.places)
        }
        None => (replay.run_input(&interrupted, &mut out)?, Vec::new()),
    };
    if !matches!(stopped, Err(Failure::Output(_) | Failure::Call(_))) {
        stopped = replay.write(&mut out).and(stopped);
    }
    progress.finish_and_clear();
    if let Err(Failure::Output(_)) = stopped {
        return stopped;
    }

    let elapsed = started.elapsed();
    let (mut summary, outcomes) = replay.summary(resumed_after);
    summary.found = places;
    if let Err(failure) = complete(&mut summary, &registry, &outcomes, args.top) {
        // What stopped the replay says more than what followed from it.
        return stopped.and(Err(failure));
    }
    let thresholds = registry.thresholds()?;
    match args.output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, &summary).map_err(io::Error::from)?;
            writeln!(out)?;
        }
        Output::Text => {
            let database = args.db.as_deref().map(|path| path.display().to_string());
            report::write(&mut out, &name, database.as_deref(), &summary, &thresholds, elapsed)?;
            if name == sample::NAME && args.db.is_none() {
                writeln!(
                    out,
                    "\n{FAINT}no sessions of Claude Code, Codex or OpenCode are on this machine{FAINT:#}"
                )?;
            }
        }
    }
    if let Some(path) = &args.html {
        let page = html::page(&name, &summary, &thresholds);
        let cannot = |error| Failure::Input(format!("cannot write {}: {error}", path.display()));
        fs::write(path, page).map_err(cannot)?;
        if args.output == Output::Text {
            writeln!(out, "\n{FAINT}the report is in {}{FAINT:#}", path.display())?;
        }
    }
    out.flush()?;
    stopped
}

/// The sessions to be replayed; none where a recording is, or the sample.
fn find_sessions(args: &ReplayArgs) -> Result<Option<Found>, Failure> {
    let found = match &args.sessions {
        Some(folder) => Some(sessions::within(folder, args.since)),
        None if args.file.is_none() && args.db.is_none() => Some(sessions::usual(args.since)),
        None => None,
    };
    let found = found.transpose().map_err(Failure::Input)?;
    let is_asked_for = args.sessions.is_some() || args.since.is_some() || args.project.is_some();
    Ok(found.filter(|found| is_asked_for || !found.places.is_empty()))
}

fn names(places: &[Place]) -> String {
    let mut names: Vec<&str> = places.iter().map(|place| place.agent).collect();
    names.dedup();
    names.join(", ")
}

fn registry(args: &ReplayArgs, cache: Cache) -> Result<Registry, LoadError> {
    let mut builder = thread_budget_host::Registry::builder().cache(cache);
    if let Some(path) = &args.db {
        builder = builder.database(path).durability(args.durability.into());
    }
    if let Some(tokens) = args.max_tokens {
        builder = builder.tokens_per_thread(tokens);
    }
    if !args.thresholds.is_empty() {
        builder = builder.thresholds(args.thresholds.clone());
    }
    Ok(builder.build()?.blocking())
}

/// The first Ctrl-C ends the replay with a summary, the second at once.
fn listen_for_interrupts() -> Result<Arc<AtomicBool>, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            process::exit(130);
        }
    })
    .map_err(|error| Failure::Other(format!("cannot listen for Ctrl-C: {error}")))?;
    Ok(interrupted)
}

/// Drawn on standard error, and only when that is a terminal.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::no_length();
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {bytes} read  {msg} records") {
        bar.set_style(style);
    }
    bar
}

/// Say how much of it there is.
fn measure(bar: &ProgressBar, size: u64) {
    bar.set_length(size);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg} records  {eta} left") {
        bar.set_style(style);
    }
}

/// How a replay went.
struct Ran {
    /// What was replayed.
    name: String,
    /// With a database, how many of its requests were counted before.
    resumed_after: Option<u64>,
    /// Why it ended.
    stopped: Result<(), Failure>,
}

struct Replay<'a> {
    args: &'a ReplayArgs,
    registry: &'a Registry,
    prices: &'a Prices,
    progress: &'a ProgressBar,
    /// With a database.
    ledger: Option<Ledger<'a>>,
    /// Without one, like `crossed` and `outcomes`.
    counts: Counts,
    crossed: Crossed,
    outcomes: Outcomes,
    /// What the records so far are known by.
    seen: HashSet<u64>,
    /// Threads that are there and below others, where they belong there.
    opened: HashSet<String>,
    /// How many records there were.
    number: u64,
}

impl<'a> Replay<'a> {
    /// Replay a file, standard input, or the sample.
    fn run_input(&mut self, interrupted: &Arc<AtomicBool>, out: &mut impl Write) -> Result<Ran, Failure> {
        let args = self.args;
        let Input { name, identity, reader, size, content } =
            Input::open(args.file.as_deref(), interrupted.clone())?;
        if let Some(size) = size {
            measure(self.progress, size);
        }
        let reader = self.progress.wrap_read(reader);
        let (file, format, thread) = (name.clone(), args.format, args.thread.clone());
        let is_stream = content.is_none();
        let open = move || Records::open(file, reader, format, thread);
        if args.db.is_none() {
            let stopped = self.run(&mut read(open()?), interrupted, out);
            return Ok(Ran { name, resumed_after: None, stopped });
        }
        self.print_unprinted(out)?;
        let is_text = args.output == Output::Text;
        let ledger = Ledger::open(self.registry, identity, content, args.enforce, is_text)?;
        let resumed_after = Some(ledger.noted().counts.requests);
        self.ledger = Some(ledger);
        let stopped = if is_stream {
            self.run(&mut stream(open)?, interrupted, out)
        } else {
            self.run(&mut read(open()?), interrupted, out)
        };
        Ok(Ran { name, resumed_after, stopped })
    }

    /// Replay sessions, a tree at a time.
    fn run_sessions(&mut self, found: &Found, interrupted: &AtomicBool) -> Result<(), Failure> {
        measure(self.progress, found.bytes());
        let is_stopped = || interrupted.load(Ordering::Relaxed);
        let (mut problems, mut unknown) = (0_u64, 0_u64);
        for tree in &found.trees {
            let reader = |file: File| Box::new(self.progress.wrap_read(file)) as Box<dyn Read>;
            let contents = tree.read(self.args.thread.as_deref(), reader, is_stopped);
            for problem in contents.problems {
                if let RecordError::Unknown { .. } = problem {
                    unknown += 1;
                    continue;
                }
                self.counts.skipped += 1;
                problems += 1;
                if problems <= NAMED_PROBLEMS {
                    self.report_skipped(&problem);
                }
            }
            if is_stopped() {
                return Err(Failure::Interrupted);
            }
            if !self.is_of_project(&contents.records) {
                continue;
            }
            for record in contents.records {
                if !self.is_copy(record.identity) && record.at.is_none_or(|at| Some(at) >= self.args.since) {
                    self.record(record, 0, &mut io::sink())?;
                    self.count();
                }
            }
        }
        let more = problems.saturating_sub(NAMED_PROBLEMS);
        if more > 0 {
            anstream::eprintln!("{FAINT}skipped{FAINT:#} {more} more");
        }
        if unknown > 0 {
            let files = counted(unknown, "file");
            anstream::eprintln!("{FAINT}passed over{FAINT:#} {files} in no known format");
        }
        Ok(())
    }

    fn is_of_project(&self, records: &[Record]) -> bool {
        let Some(project) = &self.args.project else { return true };
        records
            .iter()
            .filter_map(|record| record.project.as_ref())
            .any(|folder| folder.contains(project.as_str()))
    }

    fn run(
        &mut self,
        events: &mut dyn Iterator<Item = Event>,
        interrupted: &AtomicBool,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let counted_before = self.ledger.as_ref().map_or(0, Ledger::counted_records);
        for event in events {
            if interrupted.load(Ordering::Relaxed) {
                break;
            }
            match event {
                Event::Unreadable(error)
                | Event::Record(Err(error @ (RecordError::Io { .. } | RecordError::Unknown { .. })), _) => {
                    return Err(error.into());
                }
                Event::Record(Ok(record), _) if self.is_copy(record.identity) => continue,
                Event::Record(..) if self.number < counted_before => {}
                Event::Record(Ok(record), bytes) => self.record(record, bytes, out)?,
                Event::Record(Err(bad), bytes) if self.args.keep_going => {
                    self.skip(&bad, bytes);
                }
                Event::Record(Err(bad), _) => return Err(bad.into()),
                Event::Write => {
                    self.write(out)?;
                    continue;
                }
            }
            self.count();
        }
        if interrupted.load(Ordering::Relaxed) { Err(Failure::Interrupted) } else { Ok(()) }
    }

    fn count(&mut self) {
        self.number += 1;
        if self.number.is_multiple_of(1_024) {
            self.progress.set_message(indicatif::HumanCount(self.number).to_string());
        }
    }

    /// Whether there was one of the same; from now on there was.
    fn is_copy(&mut self, Identity { names, copy_of }: Identity) -> bool {
        let is_copy = copy_of.iter().any(|name| *name != 0 && self.seen.contains(name));
        self.seen.extend(names.into_iter().filter(|name| *name != 0));
        is_copy
    }

    fn skip(&mut self, bad: &RecordError, bytes: u64) {
        match &mut self.ledger {
            Some(ledger) => ledger.skip(bytes),
            None => self.counts.skipped += 1,
        }
        self.report_skipped(bad);
    }

    fn report_skipped(&self, bad: &RecordError) {
        self.progress.suspend(|| anstream::eprintln!("{FAINT}skipped{FAINT:#} {bad}"));
    }

    fn record(&mut self, record: Record, bytes: u64, out: &mut impl Write) -> Result<(), Failure> {
        let [prompt_tokens, completion_tokens] = self.prices.of(&record.model, record.tokens);
        self.open(&record)?;
        if self.ledger.as_ref().is_some_and(|ledger| ledger.is_full(&record.thread_id)) {
            self.write(out)?;
        }
        if let Some(ledger) = &mut self.ledger {
            let entry = UsageEntry { thread_id: record.thread_id, prompt_tokens, completion_tokens };
            return ledger.add(entry, bytes);
        }
        self.counts.requests += 1;
        let tokens = prompt_tokens.saturating_add(completion_tokens);
        let refuses = self.outcomes.request(self.registry, &record, tokens, self.args.enforce)?;
        if self.args.enforce && refuses {
            self.counts.refused += 1;
            return Ok(());
        }
        let consumed = self.registry.consume(&record.thread_id, prompt_tokens, completion_tokens)?;
        self.counts.recorded += 1;
        for crossed in &consumed.crossed {
            self.crossed.count(crossed.severity);
        }
        self.outcomes.crossed(&consumed.crossed, record.at);
        self.print(&consumed.crossed, out)
    }

    /// Open the thread of a record below its parent. One that cannot be there counts by itself.
    fn open(&mut self, record: &Record) -> Result<(), Failure> {
        let Some(parent) = record.parent.as_ref().filter(|_| !self.opened.contains(&record.thread_id)) else {
            return Ok(());
        };
        let options = ThreadOptions { max_tokens: None, parent: Some(parent.clone()) };
        let opened = self
            .registry
            .open_thread(parent, &ThreadOptions::default())
            .and_then(|_| self.registry.open_thread(&record.thread_id, &options));
        match opened {
            Ok(_) => {
                if let Some(ledger) = &mut self.ledger {
                    ledger.opened(&record.thread_id, parent);
                }
            }
            Err(
                CallError::ParentCycle { .. } | CallError::TooDeep { .. } | CallError::OptionsDiffer { .. },
            ) => {}
            Err(error) => return Err(error.into()),
        }
        self.opened.insert(record.thread_id.clone());
        Ok(())
    }

    /// With a database, record what has come together, and then print the warnings.
    fn write(&mut self, out: &mut impl Write) -> Result<(), Failure> {
        let Some(ledger) = &mut self.ledger else { return Ok(()) };
        let crossed = ledger.write()?;
        self.print(&crossed, out)?;
        self.ledger.as_mut().map_or(Ok(()), Ledger::printed)
    }

    /// Print the warnings that another replay into the database has left.
    fn print_unprinted(&self, out: &mut impl Write) -> Result<(), Failure> {
        if self.args.output == Output::Json {
            return Ok(());
        }
        ledger::print_unprinted(self.registry, |crossed| {
            anstream::eprintln!(
                "{FAINT}{} warnings of a replay that was stopped, perhaps printed then:{FAINT:#}",
                crossed.len()
            );
            self.print(crossed, out)
        })
    }

    /// Print warnings, in one piece, so that who is stopped has printed all or none.
    fn print(&self, crossed: &[ThresholdCrossed], out: &mut impl Write) -> Result<(), Failure> {
        if crossed.is_empty() || self.args.output == Output::Json {
            return Ok(());
        }
        let mut text = Vec::new();
        for crossed in crossed {
            report::write_warning(&mut text, &crossed.thread_id, &self.registry.budget_warning(crossed)?)?;
        }
        self.progress.suspend(|| out.write_all(&text).and_then(|()| out.flush()))?;
        Ok(())
    }

    /// What was counted, so far without what only the registry knows.
    fn summary(self, resumed_after: Option<u64>) -> (Summary, Outcomes) {
        let (counts, crossed) = match &self.ledger {
            Some(ledger) => (ledger.noted().counts.clone(), ledger.noted().crossed.clone()),
            None => (self.counts, self.crossed),
        };
        (Summary { counts, crossed, resumed_after, ..Summary::default() }, self.outcomes)
    }
}

/// What only the registry knows: its threads, and who used most.
fn complete(
    summary: &mut Summary,
    registry: &Registry,
    outcomes: &Outcomes,
    top: usize,
) -> Result<(), Failure> {
    let threads = threads(registry)?;
    summary.threads = threads.len() as u64;
    // What a thread with a parent used is counted there too.
    let roots = threads.iter().filter(|thread| thread.parent.is_none());
    for thread in roots.clone() {
        summary.prompt_tokens = summary.prompt_tokens.saturating_add(thread.prompt_tokens);
        summary.completion_tokens = summary.completion_tokens.saturating_add(thread.completion_tokens);
        summary.total_tokens = summary.total_tokens.saturating_add(total_tokens(thread));
    }
    if !summary.found.is_empty() {
        summary.sessions = Sessions::of(roots.map(total_tokens).collect());
    }
    summary.exhausted_threads =
        threads.iter().filter(|thread| total_tokens(thread) >= thread.max_tokens).count() as u64;
    summary.top = largest(registry, threads, top, false)?;
    for shown in &mut summary.top {
        if let Some(outcome) = outcomes.of(&shown.thread_id) {
            shown.outcome = Some(outcome.clone());
        }
    }
    Ok(())
}

/// A moment that somebody named: a date or time by UTC, or how many days or hours ago.
pub(super) fn parse_since(text: &str) -> Result<Moment, String> {
    let ago = |unit: char, milliseconds: i64| {
        let number: i64 = text.strip_suffix(unit)?.parse().ok().filter(|number| *number >= 0)?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
        let now = i64::try_from(now.as_millis()).ok()?;
        Some(Moment::from_milliseconds(now.saturating_sub(number.saturating_mul(milliseconds))))
    };
    ago('d', 86_400_000).or_else(|| ago('h', 3_600_000)).or_else(|| Moment::parse(text)).ok_or_else(|| {
        "expected a date such as 2026-11-25, a time by UTC such as 2026-11-25T20:30, or 7d or 12h".into()
    })
}

impl From<RecordError> for Failure {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Bad { .. } | RecordError::Unknown { .. } => Self::Input(error.to_string()),
            RecordError::Io { .. } => Self::Other(error.to_string()),
        }
    }
}
