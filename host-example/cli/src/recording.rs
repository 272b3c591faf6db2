//! Recordings of LLM usage in the formats that people have at hand: one [`Record`] a call, and errors that say
//! where and what was expected.
//!
//! No input, however long or malformed, does more than end in an error: a line has at most 16 MiB, a value over
//! several lines at most 256 MiB.
//!
//! ```
//! use thread_budget_cli::recording::Records;
//!
//! let recording = br#"
//! {"thread_id": "agent-7", "prompt_tokens": 900, "completion_tokens": 100}
//! {"thread_id": "agent-7", "prompt_tokens": -1, "completion_tokens": 100}
//! "#;
//! let mut records = Records::open("usage.jsonl", &recording[..], None, None)?;
//! assert_eq!(records.next().transpose()?.map(|record| record.tokens.prompt()), Some(900));
//! let bad = records.next().transpose().unwrap_err();
//! assert!(bad.to_string().starts_with("usage.jsonl:3: prompt_tokens is -1, expected a whole number"));
//! assert!(records.next().is_none());
//! # Ok::<(), thread_budget_cli::recording::RecordError>(())
//! ```

mod answers;
mod claude_code;
pub mod codex;
mod csv;
mod json;
mod langfuse;
mod litellm;
pub mod opencode;
mod otlp;
mod own;
mod recognise;
mod text;
pub mod time;

use recognise::{Recognised, Shape, recognise};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read};
use text::Text;
use thread_budget_host::MAX_THREAD_ID_BYTES;
use thread_budget_router_core::usage::Tokens;
use time::Moment;

/// How usage is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// JSON with thread_id, prompt_tokens and completion_tokens.
    Jsonl,
    /// Answers of OpenAI's or Anthropic's APIs, or results of their batches.
    Openai,
    /// CSV with a header.
    Csv,
    /// A session of Claude Code.
    ClaudeCode,
    /// A session of Codex.
    Codex,
    /// The spend log of LiteLLM.
    Litellm,
    /// An export of Langfuse.
    Langfuse,
    /// Spans of the OpenTelemetry protocol, as JSON.
    Otlp,
}

/// What one call used, and whose it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The thread that it counts in.
    pub thread_id: String,
    /// The thread that this one is below, where it says so.
    pub parent: Option<String>,
    /// What it used.
    pub tokens: Tokens,
    /// The model that answered; empty where it is not said.
    pub model: String,
    /// When, where it is said.
    pub at: Option<Moment>,
    /// The folder that its agent worked in, where it is said.
    pub project: Option<String>,
    /// What tells its copies.
    pub identity: Identity,
}

/// Some programs write the same call down more than once: for each part of an answer, or as the history of a
/// session that was continued elsewhere. Hashes, 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// What the record is known by.
    pub names: [u64; 2],
    /// It is a copy of an earlier record that is known by one of these.
    pub copy_of: [u64; 2],
}

impl Identity {
    /// Of a record that has one name, of which there may be copies.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let names = [json::hash(name), 0];
        Self { names, copy_of: names }
    }
}

/// Why there is no next record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// This record cannot be used; the next one may.
    #[error("{file}:{line}: {problem}")]
    Bad {
        /// What the recording was called when it was opened.
        file: String,
        /// The line it stands in, or begins in, from 1.
        line: u64,
        /// Which field is wrong, what it holds, and what was expected.
        problem: String,
    },
    /// It is in none of the formats.
    #[error("{file}:{line}: no known format, found {found}; tried {}", Format::names())]
    Unknown {
        /// What the recording was called when it was opened.
        file: String,
        /// The first line that is not blank, from 1.
        line: u64,
        /// What stands there.
        found: String,
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

/// What a record says, before its thread is known to be one.
#[derive(Default)]
struct Fields {
    thread_id: Option<String>,
    /// The thread where nobody names one.
    or_else: Option<String>,
    record: Record,
}

/// How a format's values are read: JSON, each by itself or with what came before.
trait ReadValue: Send {
    /// Whether a line may hold a record, or something that later ones need. Lines that do not are not looked into.
    fn may_matter(&self, _line: &[u8]) -> bool {
        true
    }

    /// Read a value; one that holds no record adds none.
    fn read(&mut self, value: &str, found: &mut VecDeque<Fields>) -> Result<(), String>;

    /// Add what was kept back.
    fn finish(&mut self, _found: &mut VecDeque<Fields>) {}
}

/// The records of a recording, in order. After [`RecordError::Bad`] it goes on with the next one.
pub struct Records<'a> {
    file: String,
    thread: Option<String>,
    format: Format,
    is_paged: bool,
    source: Source<'a>,
    found: VecDeque<Fields>,
    /// Where those come from.
    line: u64,
}

enum Source<'a> {
    Lines(Text<'a>, Box<dyn ReadValue>),
    Values(Text<'a>, Box<dyn ReadValue>),
    Csv(Box<csv::Rows<'a>>),
}

impl Format {
    fn reader(self) -> Option<Box<dyn ReadValue>> {
        Some(match self {
            Self::Jsonl => Box::new(own::Own),
            Self::Openai => Box::new(answers::Answers),
            Self::ClaudeCode => Box::<claude_code::Session>::default(),
            Self::Codex => Box::<codex::Session>::default(),
            Self::Litellm => Box::new(litellm::SpendLog),
            Self::Langfuse => Box::new(langfuse::Export),
            Self::Otlp => Box::new(otlp::Export),
            Self::Csv => return None,
        })
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Openai => "openai",
            Self::Csv => "csv",
            Self::ClaudeCode => "claude-code",
            Self::Codex => "codex",
            Self::Litellm => "litellm",
            Self::Langfuse => "langfuse",
            Self::Otlp => "otlp",
        }
    }

    fn names() -> String {
        <Self as clap::ValueEnum>::value_variants()
            .iter()
            .map(|format| format.name())
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Whether its files are logs of sessions, of which usage is a small part.
    #[must_use]
    pub fn is_session(self) -> bool {
        matches!(self, Self::ClaudeCode | Self::Codex)
    }
}

impl<'a> Records<'a> {
    /// Recognise the format by the first record, unless it is given, and read what stands before that:
    /// a byte order mark, blank lines, the header of CSV. Errors call the recording `file`; records that
    /// name no thread are those of `thread`.
    ///
    /// # Errors
    /// [`RecordError::Unknown`]; [`RecordError::Bad`] for a header without the columns that are needed;
    /// [`RecordError::Io`].
    pub fn open(
        file: impl Into<String>,
        reader: impl Read + 'a,
        format: Option<Format>,
        thread: Option<String>,
    ) -> Result<Self, RecordError> {
        let file = file.into();
        let unreadable = |source| RecordError::Io { file: file.clone(), source };
        let mut text = Text::new(Box::new(reader));
        text.skip_blank().map_err(unreadable)?;
        let Recognised { format, shape, is_paged } = match recognise(&mut text, format).map_err(unreadable)? {
            Ok(recognised) => recognised,
            Err(found) => return Err(RecordError::Unknown { line: text.line() + 1, found, file }),
        };
        let source = match (format.reader(), shape) {
            (Some(reader), Shape::Lines) => Source::Lines(text, reader),
            (Some(reader), Shape::Values) => Source::Values(text, reader),
            (None, _) => Source::Csv(Box::new(csv::Rows::new(text, &file, thread.is_some())?)),
        };
        Ok(Self { file, thread, format, is_paged, source, found: VecDeque::new(), line: 0 })
    }

    /// The format, recognised or given.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// How many bytes of the recording have been read: all up to the next record, or to blank lines
    /// before it.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        match &self.source {
            Source::Lines(text, _) | Source::Values(text, _) => text.bytes(),
            Source::Csv(rows) => rows.bytes_read(),
        }
    }

    fn bad(&self, line: u64, problem: String) -> RecordError {
        RecordError::Bad { file: self.file.clone(), line, problem }
    }

    fn record(&self, line: u64, fields: Fields) -> Result<Record, RecordError> {
        let Fields { thread_id, or_else, mut record } = fields;
        let Some(thread_id) = thread_id.or_else(|| self.thread.clone()).or(or_else) else {
            return Err(self
                .bad(line, "no thread_id, expected a string, or --thread NAME for all such records".into()));
        };
        for (name, id) in [("thread_id", Some(&thread_id)), ("parent", record.parent.as_ref())] {
            let bytes = id.map_or(1, String::len);
            if !(1..=MAX_THREAD_ID_BYTES).contains(&bytes) {
                let expected = format!("expected 1 to {MAX_THREAD_ID_BYTES} bytes of UTF-8");
                return Err(self.bad(line, format!("{name} has {bytes} bytes, {expected}")));
            }
        }
        record.thread_id = thread_id;
        Ok(record)
    }

    /// Read on until something is found; an inner error is about the line that is also given.
    fn read_on(&mut self) -> Result<bool, ReadOn> {
        let Self { source, found, line, is_paged, .. } = self;
        let mut read = |number: u64, value: Result<&str, String>, reader: &mut dyn ReadValue| {
            *line = number;
            let read =
                |value| if *is_paged { read_page(value, reader, found) } else { reader.read(value, found) };
            value.and_then(read).map_err(|problem| ReadOn::Bad(number, problem))
        };
        match source {
            Source::Lines(text, reader) => {
                let Some((number, bytes)) = text.next_line().map_err(ReadOn::Io)? else {
                    reader.finish(found);
                    return Ok(!found.is_empty());
                };
                match bytes {
                    Ok(bytes) if bytes.is_empty() || !reader.may_matter(bytes) => {}
                    Ok(bytes) => read(number, json::utf8(bytes), &mut **reader)?,
                    Err(problem) if self.format.is_session() => drop(problem),
                    Err(problem) => return Err(ReadOn::Bad(number, problem)),
                }
            }
            Source::Values(text, reader) => {
                let Some((number, bytes)) = text.next_value().map_err(ReadOn::Io)? else {
                    reader.finish(found);
                    return Ok(!found.is_empty());
                };
                read(number, bytes.and_then(json::utf8), &mut **reader)?;
            }
            Source::Csv(rows) => match rows.next() {
                Ok(None) => return Ok(false),
                Ok(Some((number, fields))) => {
                    *line = number;
                    found.push_back(fields.map_err(|problem| ReadOn::Bad(number, problem))?);
                }
                Err(error) => return Err(ReadOn::Csv(error)),
            },
        }
        Ok(true)
    }
}

/// Read the values in the list `data` of an object.
fn read_page(page: &str, reader: &mut dyn ReadValue, found: &mut VecDeque<Fields>) -> Result<(), String> {
    let data = json::field(page, "data").ok_or("no data, expected a list")?;
    let mut problem = Ok(());
    let read = json::items(data, &mut |value| {
        if let Err(why) = reader.read(value, found) {
            problem = Err(why);
        }
    });
    read.map_err(|error| json::not_json(&error)).and(problem)
}

/// Why reading on found nothing.
enum ReadOn {
    Bad(u64, String),
    Io(io::Error),
    Csv(::csv::Error),
}

impl fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("file", &self.file)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(fields) = self.found.pop_front() {
                return Some(self.record(self.line, fields));
            }
            match self.read_on() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(ReadOn::Bad(line, problem)) => return Some(Err(self.bad(line, problem))),
                Err(ReadOn::Io(source)) => {
                    return Some(Err(RecordError::Io { file: self.file.clone(), source }));
                }
                Err(ReadOn::Csv(error)) => {
                    let Source::Csv(rows) = &self.source else { return None };
                    return Some(Err(rows.describe(&self.file, error)));
                }
            }
        }
    }
}
