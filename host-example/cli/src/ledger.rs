//! What a database knows of the recordings that were replayed into it, so that each record is counted
//! once and each warning is printed.
//!
//! A recording is known by its bytes: those of it that were counted are passed over, whether a replay
//! of it was killed or it has grown since. The note that says how far it was counted is written with the
//! records it speaks of. It also keeps the thresholds that they crossed until these are printed.

use super::Failure;
use super::accepted::Accepted;
use super::report::{Counts, Crossed};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};
use thread_budget_host::blocking::Registry;
use thread_budget_host::{MAX_BATCH, MAX_BATCH_ID_BYTES, Note, ThresholdCrossed, UsageEntry};

/// How far a recording was counted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Recording {
    /// Where it was last.
    file: String,
    /// How many of its bytes were counted, and their hash.
    bytes: u64,
    sha256: [u8; 32],
    pub(super) counts: Counts,
    pub(super) crossed: Crossed,
    /// Thresholds that were crossed, until they are printed.
    unprinted: Vec<ThresholdCrossed>,
}

/// What streams are noted under: nobody can tell one from another, so each is counted whole.
const STREAM_KEY: &str = "replay/stream";

fn key(number: usize) -> String {
    format!("replay/{number}")
}

/// The bytes of a recording, to be hashed apart from reading its records.
pub(super) trait Bytes: Read + Seek {}

impl<T: Read + Seek> Bytes for T {}

/// The file's record of one recording, and the records on their way there.
pub(super) struct Ledger<'a> {
    registry: &'a Registry,
    key: String,
    /// As it is on disk.
    noted: Recording,
    /// What those in the batch, and those refused or skipped with them, make of it.
    counts: Counts,
    /// How far the recording has been read.
    bytes: u64,
    entries: Vec<UsageEntry>,
    id_bytes: usize,
    /// Where records are refused.
    accepted: Option<Accepted>,
    /// Not for a stream.
    content: Option<(Box<dyn Bytes>, Sha256)>,
    keeps_warnings: bool,
}

impl<'a> Ledger<'a> {
    /// Find out how much of the recording was counted before. Warnings are kept until they are printed
    /// when there is somebody to print them.
    pub(super) fn open(
        registry: &'a Registry,
        file: String,
        content: Option<Box<dyn Bytes>>,
        enforces: bool,
        keeps_warnings: bool,
    ) -> Result<Self, Failure> {
        let mut ledger = Self {
            registry,
            key: STREAM_KEY.into(),
            noted: Recording { file, ..Recording::default() },
            counts: Counts::default(),
            bytes: 0,
            entries: Vec::new(),
            id_bytes: 0,
            accepted: enforces.then(|| Accepted::new(registry)).transpose()?,
            content: None,
            keeps_warnings,
        };
        match content {
            Some(content) => ledger.recognise(content)?,
            None => ledger.noted.unprinted = read(registry, STREAM_KEY)?.unwrap_or_default().unprinted,
        }
        Ok(ledger)
    }

    fn recognise(&mut self, mut content: Box<dyn Bytes>) -> Result<(), Failure> {
        let known = known(self.registry)?;
        let unreadable = |error| Failure::Other(format!("cannot read {}: {error}", self.noted.file));
        let mut by_length: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (number, recording) in known.iter().enumerate() {
            by_length.entry(recording.bytes).or_default().push(number);
        }
        let (mut hasher, mut hashed) = (Sha256::new(), 0);
        let mut found: Option<(usize, Sha256)> = None;
        let mut changed = known.iter().find(|recording| recording.file == self.noted.file);
        for (bytes, numbers) in by_length {
            hashed +=
                io::copy(&mut content.as_mut().take(bytes - hashed), &mut hasher).map_err(unreadable)?;
            if hashed < bytes {
                break;
            }
            let sha256: [u8; 32] = hasher.clone().finalize().into();
            for number in numbers.into_iter().filter(|number| known[*number].sha256 == sha256) {
                changed = changed.filter(|recording| recording.sha256 != sha256);
                found = Some((number, hasher.clone()));
            }
        }
        if let Some(changed) = changed {
            return Err(Failure::Input(format!(
                "{} has changed in what was counted of it before, {} records: rename it to count it as \
                 another recording, or bring back what it was",
                changed.file,
                changed.counts.records(),
            )));
        }
        let number = found.as_ref().map_or(known.len(), |(number, _)| *number);
        self.key = key(number);
        let file = std::mem::take(&mut self.noted.file);
        let hasher = match found {
            Some((_, hasher)) => {
                self.noted = Recording { file, ..known[number].clone() };
                hasher
            }
            None => {
                self.noted.file = file;
                Sha256::new()
            }
        };
        self.counts = self.noted.counts.clone();
        self.bytes = self.noted.bytes;
        content
            .seek(SeekFrom::Start(self.bytes))
            .map_err(|error| Failure::Other(format!("cannot read {}: {error}", self.noted.file)))?;
        self.content = Some((content, hasher));
        Ok(())
    }

    /// How many records, at the start of the recording, were counted before. Told by number, since the
    /// last of them may have been without an end of line, and have one now.
    pub(super) fn counted_records(&self) -> u64 {
        self.noted.counts.records()
    }

    /// What is on disk of the recording.
    pub(super) fn noted(&self) -> &Recording {
        &self.noted
    }

    /// Take a record, if it is allowed. The recording has been read up to `bytes`.
    pub(super) fn add(&mut self, entry: UsageEntry, bytes: u64) -> Result<(), Failure> {
        self.counts.requests += 1;
        self.bytes = bytes;
        let tokens = entry.prompt_tokens.saturating_add(entry.completion_tokens);
        if let Some(accepted) = &mut self.accepted
            && !accepted.accept(self.registry, &entry.thread_id, tokens)?
        {
            self.counts.refused += 1;
            return Ok(());
        }
        self.counts.recorded += 1;
        self.id_bytes += entry.thread_id.len();
        self.entries.push(entry);
        Ok(())
    }

    /// Take note of a thread that is now below another.
    pub(super) fn opened(&mut self, thread_id: &str, parent: &str) {
        self.accepted.iter_mut().for_each(|accepted| accepted.opened(thread_id, parent));
    }

    /// Take note of a record that could not be read.
    pub(super) fn skip(&mut self, bytes: u64) {
        self.counts.skipped += 1;
        self.bytes = bytes;
    }

    /// Whether there is no room for a record of that thread before the others are recorded.
    pub(super) fn is_full(&self, thread_id: &str) -> bool {
        self.counts.records() >= self.noted.counts.records() + MAX_BATCH as u64
            || self.id_bytes + thread_id.len() > MAX_BATCH_ID_BYTES
    }

    /// Record what has come together, and hand over the thresholds that it crossed; they have to be
    /// printed and then [`Ledger::printed`].
    pub(super) fn write(&mut self) -> Result<Vec<ThresholdCrossed>, Failure> {
        if self.counts == self.noted.counts {
            return Ok(Vec::new());
        }
        let mut next = Recording { bytes: self.bytes, counts: self.counts.clone(), ..self.noted.clone() };
        if let Some((content, hasher)) = &mut self.content {
            let more = self.bytes - self.noted.bytes;
            let hashed = io::copy(&mut content.as_mut().take(more), hasher)
                .map_err(|error| Failure::Other(format!("cannot read {}: {error}", next.file)))?;
            if hashed < more {
                return Err(Failure::Other(format!("{} was cut off while it was read", next.file)));
            }
            next.sha256 = hasher.clone().finalize().into();
        }
        let crossed = self
            .registry
            .consume_batch_noting(&self.entries, |crossed| {
                for crossed in crossed {
                    next.crossed.count(crossed.severity);
                }
                if self.keeps_warnings {
                    next.unprinted = crossed.to_vec();
                }
                Some(note(&self.key, &next))
            })
            .map_err(|error| Failure::Call(error.error))?;
        self.noted = next;
        self.entries.clear();
        self.id_bytes = 0;
        self.accepted.iter_mut().for_each(Accepted::clear);
        Ok(crossed)
    }

    /// Take note that the warnings are printed.
    pub(super) fn printed(&mut self) -> Result<(), Failure> {
        if !self.noted.unprinted.is_empty() {
            self.noted.unprinted.clear();
            keep(self.registry, &self.key, &self.noted)?;
        }
        Ok(())
    }
}

/// What was counted before and is perhaps not printed: whoever counted it was stopped in between. Once
/// `print` has done so it is.
pub(super) fn print_unprinted(
    registry: &Registry,
    mut print: impl FnMut(&[ThresholdCrossed]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let stream = read(registry, STREAM_KEY)?.map(|stream| (STREAM_KEY.to_owned(), stream));
    let files = known(registry)?.into_iter().enumerate().map(|(number, file)| (key(number), file));
    for (key, mut recording) in stream.into_iter().chain(files) {
        if !recording.unprinted.is_empty() {
            print(&recording.unprinted)?;
            recording.unprinted.clear();
            keep(registry, &key, &recording)?;
        }
    }
    Ok(())
}

/// Every recording that is no stream, in the order of their numbers.
pub(super) fn known(registry: &Registry) -> Result<Vec<Recording>, Failure> {
    (0..).map_while(|number| read(registry, &key(number)).transpose()).collect()
}

fn read(registry: &Registry, key: &str) -> Result<Option<Recording>, Failure> {
    let Some(value) = registry.note(key)? else { return Ok(None) };
    postcard::from_bytes(&value).map(Some).map_err(|error| {
        Failure::Input(format!(
            "the database's note on a replay cannot be read: {error}; replay into another"
        ))
    })
}

fn keep(registry: &Registry, key: &str, recording: &Recording) -> Result<(), Failure> {
    let noted = registry.consume_batch_noting(&[], |_| Some(note(key, recording)));
    noted.map(drop).map_err(|error| Failure::Call(error.error))
}

fn note(key: &str, recording: &Recording) -> Note {
    // Only what has no known length, or no end, cannot be written into a Vec.
    Note { key: key.into(), value: postcard::to_stdvec(recording).unwrap_or_default() }
}
