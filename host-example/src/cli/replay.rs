//! `thread-budget replay`: records in, warnings and a summary out.

use super::report::{Summary, TopThread};
use super::{Failure, Output, ReplayArgs, report, sample};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cmp::Reverse;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Write};
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use thread_budget_host::records::{RecordError, Records};
use thread_budget_host::{Cache, CallError, LoadError, Registry};

pub(super) fn run(args: &ReplayArgs, cache: Cache) -> Result<(), Failure> {
    let interrupted = listen_for_interrupts()?;
    let Input { name, reader, size } = Input::open(args.file.as_deref(), interrupted.clone())?;
    let registry = registry(args, cache)?;

    let progress = progress_bar(size);
    let mut out = anstream::AutoStream::auto(io::stdout().lock());
    let reader = BufReader::with_capacity(1 << 16, progress.wrap_read(reader));
    let started = Instant::now();
    let mut summary = Summary::default();
    let records = Records::open(&name, reader, args.format, args.thread.clone())?;
    let mut replay = Replay { args, registry: &registry, progress: &progress, summary: &mut summary };
    let stopped = replay.run(records, &interrupted, &mut out);
    progress.finish_and_clear();
    if let Err(Failure::Output(_)) = stopped {
        return stopped;
    }

    let elapsed = started.elapsed();
    if let Err(failure) = complete(&mut summary, &registry, args.top) {
        // What stopped the replay says more than what followed from it.
        return stopped.and(Err(failure));
    }
    match args.output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, &summary).map_err(io::Error::from)?;
            writeln!(out)?;
        }
        Output::Text => report::write(&mut out, &name, &summary, &registry.thresholds()?, elapsed)?,
    }
    out.flush()?;
    stopped
}

/// Where records come from.
struct Input {
    /// What messages call it.
    name: String,
    reader: Box<dyn Read>,
    /// In bytes, where it is known.
    size: Option<u64>,
}

impl Input {
    fn open(file: Option<&Path>, interrupted: Arc<AtomicBool>) -> Result<Self, Failure> {
        let Some(path) = file else {
            let text = sample::jsonl();
            let size = Some(text.len() as u64);
            return Ok(Self { name: sample::NAME.into(), reader: Box::new(Cursor::new(text)), size });
        };
        if path == Path::new("-") {
            let reader = standard_input(interrupted)
                .map_err(|error| Failure::Input(format!("cannot read standard input: {error}")))?;
            return Ok(Self { name: "standard input".into(), reader, size: None });
        }
        let name = path.display().to_string();
        let cannot = |why: &dyn Display| Failure::Input(format!("cannot open {name}: {why}"));
        let file = File::open(path).map_err(|error| cannot(&error))?;
        let metadata = file.metadata().map_err(|error| cannot(&error))?;
        if metadata.is_dir() {
            return Err(cannot(&"it is a folder, expected a file"));
        }
        let size = metadata.is_file().then_some(metadata.len());
        Ok(Self { name, reader: Box::new(file), size })
    }
}

/// Standard input, which ends when the user interrupts, also while nothing is coming in.
#[cfg(unix)]
fn standard_input(interrupted: Arc<AtomicBool>) -> io::Result<Box<dyn Read>> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::os::fd::AsFd;

    struct Interruptible {
        input: File,
        interrupted: Arc<AtomicBool>,
    }

    impl Read for Interruptible {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            const A_MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            while !self.interrupted.load(Ordering::Relaxed) {
                match poll(&mut [PollFd::new(&self.input, PollFlags::IN)], Some(&A_MOMENT)) {
                    Ok(0) | Err(rustix::io::Errno::INTR) => {}
                    Ok(_) => return self.input.read(buffer),
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(0)
        }
    }

    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    Ok(Box::new(Interruptible { input, interrupted }))
}

#[cfg(not(unix))]
fn standard_input(_: Arc<AtomicBool>) -> io::Result<Box<dyn Read>> {
    Ok(Box::new(io::stdin()))
}

fn registry(args: &ReplayArgs, cache: Cache) -> Result<Registry, LoadError> {
    let mut builder = Registry::builder().cache(cache);
    if let Some(tokens) = args.max_tokens {
        builder = builder.tokens_per_thread(tokens);
    }
    if !args.thresholds.is_empty() {
        builder = builder.thresholds(args.thresholds.clone());
    }
    builder.build()
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
fn progress_bar(size: Option<u64>) -> ProgressBar {
    let (bar, template) = match size {
        Some(size) => (ProgressBar::new(size), "{bar:40} {percent:>3} %  {msg} records  {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} read  {msg} records"),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

struct Replay<'a> {
    args: &'a ReplayArgs,
    registry: &'a Registry,
    progress: &'a ProgressBar,
    summary: &'a mut Summary,
}

impl Replay<'_> {
    fn run(
        &mut self,
        records: Records<'_>,
        interrupted: &AtomicBool,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        for record in records {
            if interrupted.load(Ordering::Relaxed) {
                break;
            }
            match record {
                Ok(record) => {
                    self.record(&record.thread_id, record.prompt_tokens, record.completion_tokens, out)?;
                }
                Err(bad @ RecordError::Bad { .. }) if self.args.keep_going => {
                    self.summary.skipped += 1;
                    self.progress
                        .suspend(|| anstream::eprintln!("{}skipped{:#} {bad}", report::FAINT, report::FAINT));
                }
                Err(error) => return Err(error.into()),
            }
            if self.summary.requests.is_multiple_of(1_024) {
                self.progress.set_message(indicatif::HumanCount(self.summary.requests).to_string());
            }
        }
        if interrupted.load(Ordering::Relaxed) { Err(Failure::Interrupted) } else { Ok(()) }
    }

    fn record(
        &mut self,
        thread_id: &str,
        prompt_tokens: u64,
        completion_tokens: u64,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        self.summary.requests += 1;
        if self.args.enforce {
            let estimate = prompt_tokens.saturating_add(completion_tokens);
            match self.registry.check_budget(thread_id, estimate) {
                Ok(()) => {}
                Err(CallError::Refused(_)) => {
                    self.summary.refused += 1;
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        let consumed = self.registry.consume(thread_id, prompt_tokens, completion_tokens)?;
        self.summary.recorded += 1;
        for crossed in &consumed.crossed {
            self.summary.crossed.count(crossed.severity);
            if self.args.output == Output::Text {
                let warning = self.registry.budget_warning(crossed)?;
                self.progress.suspend(|| report::write_warning(out, thread_id, &warning))?;
            }
        }
        Ok(())
    }
}

/// What only the registry knows: its threads, and who used most.
fn complete(summary: &mut Summary, registry: &Registry, top: usize) -> Result<(), Failure> {
    let mut threads = registry.get_all_usage()?;
    if threads.is_empty() && summary.requests > 0 {
        return Err(CallError::OutOfMemory.into());
    }
    summary.threads = threads.len() as u64;
    for (_, usage) in &threads {
        summary.prompt_tokens = summary.prompt_tokens.saturating_add(usage.prompt_tokens);
        summary.completion_tokens = summary.completion_tokens.saturating_add(usage.completion_tokens);
        summary.total_tokens = summary.total_tokens.saturating_add(usage.total_tokens);
        summary.exhausted_threads += u64::from(usage.total_tokens >= usage.max_tokens);
    }
    // Stable, so that threads that used the same stay in the order of their ids.
    threads.sort_by_key(|(_, usage)| Reverse(usage.total_tokens));
    threads.truncate(top);
    for (thread_id, usage) in threads {
        summary.top.push(TopThread {
            total_tokens: usage.total_tokens,
            max_tokens: usage.max_tokens,
            percent_used: registry.get_budget(&thread_id)?.percent_used()?,
            thread_id,
        });
    }
    Ok(())
}

impl From<RecordError> for Failure {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Bad { .. } => Self::Input(error.to_string()),
            RecordError::Io { .. } => Self::Other(error.to_string()),
        }
    }
}
