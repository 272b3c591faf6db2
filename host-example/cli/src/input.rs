//! What a replay reads: a file, standard input, or the sample; at once, or as it comes in.

use super::ledger::Bytes;
use super::{A_MOMENT, Failure, open_file, sample};
use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;
use thread_budget_cli::recording::{Record, RecordError, Records};
use thread_budget_host::MAX_BATCH;

/// Where records come from.
pub(super) struct Input {
    /// What messages call it.
    pub(super) name: String,
    /// What a database calls it.
    pub(super) identity: String,
    pub(super) reader: Box<dyn Read + Send>,
    /// In bytes, where it is known.
    pub(super) size: Option<u64>,
    /// The same bytes once more; not of what can be read only once.
    pub(super) content: Option<Box<dyn Bytes>>,
}

impl Input {
    pub(super) fn open(file: Option<&Path>, interrupted: Arc<AtomicBool>) -> Result<Self, Failure> {
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

/// What comes of an input.
pub(super) enum Event {
    /// A record, or why there is none, and how many bytes have been read up to its end.
    Record(Result<Record, RecordError>, u64),
    /// It could not be begun to read.
    Unreadable(RecordError),
    /// Time to write what has come together.
    Write,
}

/// What there is to read, without waiting.
pub(super) fn read<'a>(mut records: Records<'a>) -> impl Iterator<Item = Event> + 'a {
    std::iter::from_fn(move || records.next().map(|record| Event::Record(record, records.bytes_read())))
}

/// What comes in, when it comes in, and from time to time the time to write.
pub(super) fn stream(
    open: impl FnOnce() -> Result<Records<'static>, RecordError> + Send + 'static,
) -> Result<impl Iterator<Item = Event>, Failure> {
    let (sender, receiver) = mpsc::sync_channel(MAX_BATCH);
    let read = move || match open() {
        Ok(records) => _ = read(records).all(|event| sender.send(event).is_ok()),
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
