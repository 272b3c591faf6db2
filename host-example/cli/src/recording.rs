//! Recordings of LLM usage: three formats, one [`UsageEntry`] a record, and errors that say where and
//! what was expected.
//!
//! No input, however long or malformed, does more than end in an error: a line has at most 16 MiB.
//!
//! ```
//! use thread_budget_cli::recording::Records;
//!
//! let recording = br#"
//! {"thread_id": "agent-7", "prompt_tokens": 900, "completion_tokens": 100}
//! {"thread_id": "agent-7", "prompt_tokens": -1, "completion_tokens": 100}
//! "#;
//! let mut records = Records::open("usage.jsonl", &recording[..], None, None)?;
//! assert_eq!(records.next().transpose()?.map(|entry| entry.prompt_tokens), Some(900));
//! let bad = records.next().transpose().unwrap_err();
//! assert!(bad.to_string().starts_with("usage.jsonl:3: prompt_tokens is -1, expected a whole number"));
//! assert!(records.next().is_none());
//! # Ok::<(), thread_budget_cli::recording::RecordError>(())
//! ```

mod csv;
mod jsonl;
mod openai;

use jsonl::JsonRecord;
use std::fmt;
use std::io::{self, BufRead};
use thread_budget_host::{MAX_THREAD_ID_BYTES, UsageEntry};

/// How usage is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// JSON Lines with thread_id, prompt_tokens and completion_tokens.
    Jsonl,
    /// JSON Lines of OpenAI-style responses.
    Openai,
    /// CSV with a header.
    Csv,
}

/// Why there is no next record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// This record cannot be used; the next one may.
    #[error("{file}:{line}: {problem}")]
    Bad {
        /// What the recording was called when it was opened.
        file: String,
        /// The line it stands in, from 1.
        line: u64,
        /// Which field is wrong, what it holds, and what was expected.
        problem: String,
    },
    /// The recording cannot be read on.
    #[error("cannot read {file}: {source}")]
    Io {
        /// What the recording was called when it was opened.
        file: String,
        /// Why.
        source: io::Error,
    },
}

const COUNT_EXPECTED: &str = "expected a whole number of tokens, 0 to 18446744073709551615";

/// The records of a recording, in order. After [`RecordError::Bad`] it goes on with the next one.
pub struct Records<'a> {
    file: String,
    thread: Option<String>,
    source: Source<'a>,
}

enum Source<'a> {
    Json(jsonl::Lines<'a>),
    Csv(csv::Rows<'a>),
}

/// How much has been read.
#[derive(Clone, Copy, Default)]
struct Position {
    bytes: u64,
    lines: u64,
}

/// A record's line, and what it says or what is wrong with it.
type Parsed = (u64, Result<Fields, String>);

/// What a record says, before its thread is known to be one.
struct Fields {
    thread_id: Option<String>,
    prompt_tokens: u64,
    completion_tokens: u64,
}

impl<'a> Records<'a> {
    /// Recognise the format by the first record, unless it is given, and read what stands before that:
    /// a byte order mark, blank lines, the header of CSV. Errors call the recording `file`; records that
    /// name no thread are those of `thread`.
    ///
    /// # Errors
    /// [`RecordError::Bad`] for a header without the columns that are needed, [`RecordError::Io`].
    pub fn open(
        file: impl Into<String>,
        reader: impl BufRead + 'a,
        format: Option<Format>,
        thread: Option<String>,
    ) -> Result<Self, RecordError> {
        let file = file.into();
        let mut reader: Box<dyn BufRead + 'a> = Box::new(reader);
        let (start, skipped) =
            peek(&mut reader).map_err(|source| RecordError::Io { file: file.clone(), source })?;
        let format = format.unwrap_or_else(|| recognise(&start));
        let source = match format {
            Format::Jsonl => Source::Json(jsonl::Lines::new(reader, skipped, jsonl::record)),
            Format::Openai => Source::Json(jsonl::Lines::new(reader, skipped, openai::record)),
            Format::Csv => Source::Csv(csv::Rows::new(reader, skipped, &file, thread.is_some())?),
        };
        Ok(Self { file, thread, source })
    }

    /// How many bytes of the recording have been read: all up to the next record, or to blank lines
    /// before it.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        match &self.source {
            Source::Json(lines) => lines.bytes_read(),
            Source::Csv(rows) => rows.bytes_read(),
        }
    }

    fn bad(&self, line: u64, problem: String) -> RecordError {
        RecordError::Bad { file: self.file.clone(), line, problem }
    }

    fn record(
        &self,
        line: u64,
        Fields { thread_id, prompt_tokens, completion_tokens }: Fields,
    ) -> Result<UsageEntry, RecordError> {
        let Some(thread_id) = thread_id.or_else(|| self.thread.clone()) else {
            return Err(self
                .bad(line, "no thread_id, expected a string, or --thread NAME for all such records".into()));
        };
        match thread_id.len() {
            1..=MAX_THREAD_ID_BYTES => Ok(UsageEntry { thread_id, prompt_tokens, completion_tokens }),
            bytes => Err(self.bad(
                line,
                format!("thread_id has {bytes} bytes, expected 1 to {MAX_THREAD_ID_BYTES} bytes of UTF-8"),
            )),
        }
    }
}

impl fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Iterator for Records<'_> {
    type Item = Result<UsageEntry, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (line, parsed) = match &mut self.source {
            Source::Json(lines) => match lines.next() {
                Ok(record) => record?,
                Err(source) => return Some(Err(RecordError::Io { file: self.file.clone(), source })),
            },
            Source::Csv(rows) => match rows.next() {
                Ok(record) => record?,
                Err(error) => return Some(Err(rows.describe(&self.file, error))),
            },
        };
        Some(match parsed {
            Ok(fields) => self.record(line, fields),
            Err(problem) => Err(self.bad(line, problem)),
        })
    }
}

/// The start of the first line that is not blank, and what was skipped before it.
fn peek(reader: &mut Box<dyn BufRead + '_>) -> io::Result<(Vec<u8>, Position)> {
    let mut skipped = Position::default();
    if reader.fill_buf()?.starts_with(b"\xEF\xBB\xBF") {
        reader.consume(3);
        skipped.bytes += 3;
    }
    loop {
        let buffer = reader.fill_buf()?;
        let first = buffer.iter().position(|byte| !byte.is_ascii_whitespace());
        let blank = first.unwrap_or(buffer.len());
        skipped.lines += buffer[..blank].iter().filter(|byte| **byte == b'\n').count() as u64;
        skipped.bytes += blank as u64;
        reader.consume(blank);
        if first.is_some() || blank == 0 {
            return Ok((reader.fill_buf()?.to_vec(), skipped));
        }
    }
}

fn recognise(start: &[u8]) -> Format {
    if !start.is_empty() && !start.starts_with(b"{") {
        return Format::Csv;
    }
    let first_line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match serde_json::from_slice::<JsonRecord<'_>>(first_line) {
        Ok(record) if record.usage.is_some() => Format::Openai,
        _ => Format::Jsonl,
    }
}
