//! `thread-budget replay`: records in, warnings and a summary out.

use super::ledger::{self, Bytes, Ledger};
use super::report::{Counts, Crossed, FAINT, Summary};
use super::threads::{largest, threads, total_tokens};
use super::{Failure, Output, ReplayArgs, open_file, report, sample};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, Read, Write};
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};
use thread_budget_cli::recording::{RecordError, Records};
use thread_budget_host::blocking::Registry;
use thread_budget_host::{Cache, CallError, LoadError, MAX_BATCH, ThresholdCrossed, UsageEntry};

/// How long somebody may wait for what they do not notice.
const A_MOMENT: Duration = Duration::from_millis(100);

pub(super) fn run(args: &ReplayArgs, cache: Cache) -> Result<(), Failure> {
    let interrupted = listen_for_interrupts()?;
    let Input { name, identity, reader, size, content } =
        Input::open(args.file.as_deref(), interrupted.clone())?;
    let registry = registry(args, cache)?;

    let progress = progress_bar(size);
    let mut out = anstream::AutoStream::auto(io::stdout().lock());
    let reader = BufReader::with_capacity(1 << 16, progress.wrap_read(reader));
    let started = Instant::now();
    let (file, format, thread) = (name.clone(), args.format, args.thread.clone());
    let is_stream = content.is_none();
    let open = move || Records::open(file, reader, format, thread);

    let mut replay = Replay {
        args,
        registry: &registry,
        progress: &progress,
        ledger: None,
        counts: Counts::default(),
        crossed: Crossed::default(),
    };
    let mut resumed_after = None;
    let mut stopped = if args.db.is_none() {
        replay.run(&mut read(open()?), &interrupted, &mut out)
    } else {
        replay.print_unprinted(&mut out)?;
        let ledger = Ledger::open(&registry, identity, content, args.enforce, args.output == Output::Text)?;
        resumed_after = Some(ledger.noted().counts.requests);
        replay.ledger = Some(ledger);
        if is_stream {
            replay.run(&mut stream(open)?, &interrupted, &mut out)
        } else {
            replay.run(&mut read(open()?), &interrupted, &mut out)
        }
    };
    if !matches!(stopped, Err(Failure::Output(_) | Failure::Call(_))) {
        stopped = replay.write(&mut out).and(stopped);
    }
    progress.finish_and_clear();
    if let Err(Failure::Output(_)) = stopped {
        return stopped;
    }

    let elapsed = started.elapsed();
    let mut summary = replay.summary(resumed_after);
    if let Err(failure) = complete(&mut summary, &registry, args.top) {
        // What stopped the replay says more than what followed from it.
        return stopped.and(Err(failure));
    }
    match args.output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, &summary).map_err(io::Error::from)?;
            writeln!(out)?;
        }
        Output::Text => {
            let database = args.db.as_deref().map(|path| path.display().to_string());
            let thresholds = registry.thresholds()?;
            report::write(&mut out, &name, database.as_deref(), &summary, &thresholds, elapsed)?;
        }
    }
    out.flush()?;
    stopped
}

/// Where records come from.
struct Input {
    /// What messages call it.
    name: String,
    /// What a database calls it.
    identity: String,
    reader: Box<dyn Read + Send>,
    /// In bytes, where it is known.
    size: Option<u64>,
    /// The same bytes once more; not of what can be read only once.
    content: Option<Box<dyn Bytes>>,
}

impl Input {
    fn open(file: Option<&Path>, interrupted: Arc<AtomicBool>) -> Result<Self, Failure> {
        let Some(path) = file else {
            let text = sample::jsonl();
            return Ok(Self {
                name: sample::NAME.into(),
                identity: sample::NAME.into(),
                size: Some(text.len() as u64),
                content: Some(Box::new(Cursor::new(text.clone()))),
                reader: Box::new(Cursor::new(text)),
            });
        };
        if path == Path::new("-") {
            let reader = standard_input(interrupted)
                .map_err(|error| Failure::Input(format!("cannot read standard input: {error}")))?;
            let name = "standard input".to_owned();
            return Ok(Self { identity: name.clone(), name, reader, size: None, content: None });
        }
        let (file, metadata) = open_file(path)?;
        let content =
            if metadata.is_file() { Some(Box::new(open_file(path)?.0) as Box<dyn Bytes>) } else { None };
        Ok(Self {
            name: path.display().to_string(),
            identity: fs::canonicalize(path).unwrap_or_else(|_| path.into()).display().to_string(),
            reader: Box::new(file),
            size: content.is_some().then_some(metadata.len()),
            content,
        })
    }
}

/// Standard input, which ends when the user interrupts, also while nothing is coming in.
#[cfg(unix)]
fn standard_input(interrupted: Arc<AtomicBool>) -> io::Result<Box<dyn Read + Send>> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::os::fd::AsFd;

    struct Interruptible {
        input: File,
        interrupted: Arc<AtomicBool>,
    }

    impl Read for Interruptible {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let a_moment = Timespec { tv_sec: 0, tv_nsec: A_MOMENT.subsec_nanos().into() };
            while !self.interrupted.load(Ordering::Relaxed) {
                match poll(&mut [PollFd::new(&self.input, PollFlags::IN)], Some(&a_moment)) {
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
fn standard_input(_: Arc<AtomicBool>) -> io::Result<Box<dyn Read + Send>> {
    Ok(Box::new(io::stdin()))
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

/// What comes of an input.
enum Event {
    /// A record, or why there is none, and how many bytes have been read up to its end.
    Record(Result<UsageEntry, RecordError>, u64),
    /// It could not be begun to read.
    Unreadable(RecordError),
    /// Time to write what has come together.
    Write,
}

/// What there is to read, without waiting.
fn read<'a>(mut records: Records<'a>) -> impl Iterator<Item = Event> + 'a {
    std::iter::from_fn(move || records.next().map(|record| Event::Record(record, records.bytes_read())))
}

/// What comes in, when it comes in, and from time to time the time to write.
fn stream(
    open: impl FnOnce() -> Result<Records<'static>, RecordError> + Send + 'static,
) -> Result<impl Iterator<Item = Event>, Failure> {
    let (sender, receiver) = mpsc::sync_channel(MAX_BATCH);
    let read = move || match open() {
        Ok(records) => _ = read(records).try_for_each(|event| sender.send(event)),
        Err(error) => _ = sender.send(Event::Unreadable(error)),
    };
    // Not waited for: whoever stops listening leaves it behind, where it waits for input.
    thread::Builder::new()
        .name("thread-budget-input".into())
        .spawn(read)
        .map_err(|error| Failure::Other(format!("cannot start the thread that reads: {error}")))?;
    let mut since = Instant::now();
    Ok(std::iter::from_fn(move || match receiver.recv_timeout(A_MOMENT.saturating_sub(since.elapsed())) {
        Ok(event) => Some(event),
        Err(RecvTimeoutError::Timeout) => {
            since = Instant::now();
            Some(Event::Write)
        }
        Err(RecvTimeoutError::Disconnected) => None,
    }))
}

struct Replay<'a> {
    args: &'a ReplayArgs,
    registry: &'a Registry,
    progress: &'a ProgressBar,
    /// With a database.
    ledger: Option<Ledger<'a>>,
    /// Without one, like `crossed`.
    counts: Counts,
    crossed: Crossed,
}

impl Replay<'_> {
    fn run(
        &mut self,
        events: &mut dyn Iterator<Item = Event>,
        interrupted: &AtomicBool,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let counted_before = self.ledger.as_ref().map_or(0, Ledger::counted_records);
        let mut number = 0_u64;
        for event in events {
            if interrupted.load(Ordering::Relaxed) {
                break;
            }
            match event {
                Event::Unreadable(error) | Event::Record(Err(error @ RecordError::Io { .. }), _) => {
                    return Err(error.into());
                }
                Event::Record(..) if number < counted_before => {}
                Event::Record(Ok(entry), bytes) => self.record(entry, bytes, out)?,
                Event::Record(Err(bad), bytes) if self.args.keep_going => {
                    self.skip(&bad, bytes);
                }
                Event::Record(Err(bad), _) => return Err(bad.into()),
                Event::Write => {
                    self.write(out)?;
                    continue;
                }
            }
            number += 1;
            if number.is_multiple_of(1_024) {
                self.progress.set_message(indicatif::HumanCount(number).to_string());
            }
        }
        if interrupted.load(Ordering::Relaxed) { Err(Failure::Interrupted) } else { Ok(()) }
    }

    fn skip(&mut self, bad: &RecordError, bytes: u64) {
        match &mut self.ledger {
            Some(ledger) => ledger.skip(bytes),
            None => self.counts.skipped += 1,
        }
        self.progress.suspend(|| anstream::eprintln!("{FAINT}skipped{FAINT:#} {bad}"));
    }

    fn record(&mut self, entry: UsageEntry, bytes: u64, out: &mut impl Write) -> Result<(), Failure> {
        if self.ledger.as_ref().is_some_and(|ledger| ledger.is_full(&entry.thread_id)) {
            self.write(out)?;
        }
        if let Some(ledger) = &mut self.ledger {
            return ledger.add(entry, bytes);
        }
        let UsageEntry { thread_id, prompt_tokens, completion_tokens } = &entry;
        self.counts.requests += 1;
        if self.args.enforce {
            let estimate = prompt_tokens.saturating_add(*completion_tokens);
            match self.registry.check_budget(thread_id, estimate) {
                Err(CallError::Refused(_)) => {
                    self.counts.refused += 1;
                    return Ok(());
                }
                allowed => allowed?,
            }
        }
        let consumed = self.registry.consume(thread_id, *prompt_tokens, *completion_tokens)?;
        self.counts.recorded += 1;
        for crossed in &consumed.crossed {
            self.crossed.count(crossed.severity);
        }
        self.print(&consumed.crossed, out)
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
    fn summary(self, resumed_after: Option<u64>) -> Summary {
        let (counts, crossed) = match &self.ledger {
            Some(ledger) => (ledger.noted().counts.clone(), ledger.noted().crossed.clone()),
            None => (self.counts, self.crossed),
        };
        Summary { counts, crossed, resumed_after, ..Summary::default() }
    }
}

/// What only the registry knows: its threads, and who used most.
fn complete(summary: &mut Summary, registry: &Registry, top: usize) -> Result<(), Failure> {
    let threads = threads(registry)?;
    summary.threads = threads.len() as u64;
    // What a thread with a parent used is counted there too.
    for thread in threads.iter().filter(|thread| thread.parent.is_none()) {
        summary.prompt_tokens = summary.prompt_tokens.saturating_add(thread.prompt_tokens);
        summary.completion_tokens = summary.completion_tokens.saturating_add(thread.completion_tokens);
        summary.total_tokens = summary.total_tokens.saturating_add(total_tokens(thread));
    }
    summary.exhausted_threads =
        threads.iter().filter(|thread| total_tokens(thread) >= thread.max_tokens).count() as u64;
    summary.top = largest(registry, threads, top, false)?;
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
