//! Recordings of LLM usage: three formats, one [`UsageEntry`] a record, and errors that say where and
//! what was expected.
//!
//! No input, however long or malformed, does more than end in an error: a line has at most 16 MiB.
//!
//! ```
//! use thread_budget_host::recording::Records;
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
//! # Ok::<(), thread_budget_host::recording::RecordError>(())
//! ```

use crate::MAX_THREAD_ID_BYTES;
use crate::types::UsageEntry;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::fmt;
use std::io::{self, BufRead, Read};

/// How usage is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
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

/// Longer lines are not usage records, and reading one whole would take all memory.
const MAX_LINE_BYTES: u64 = 1 << 24;

const COUNT_EXPECTED: &str = "expected a whole number of tokens, 0 to 18446744073709551615";

/// The records of a recording, in order. After [`RecordError::Bad`] it goes on with the next one.
pub struct Records<'a> {
    file: String,
    thread: Option<String>,
    source: Source<'a>,
}

enum Source<'a> {
    Json { reader: Box<dyn BufRead + 'a>, read: Position, parse: JsonParser },
    Csv { reader: csv::Reader<Box<dyn BufRead + 'a>>, skipped: Position, columns: Columns },
}

/// How much has been read.
#[derive(Clone, Copy, Default)]
struct Position {
    bytes: u64,
    lines: u64,
}

/// What a record says, before its thread is known to be one.
struct Fields {
    thread_id: Option<String>,
    prompt_tokens: u64,
    completion_tokens: u64,
}

type JsonParser = fn(JsonRecord<'_>) -> Result<Fields, String>;

/// Which column holds what.
struct Columns {
    number: usize,
    thread_id: Option<usize>,
    prompt_tokens: (usize, &'static str),
    completion_tokens: (usize, &'static str),
}

/// What a line of either JSON format may hold, as it is written there.
#[derive(Deserialize)]
struct JsonRecord<'a> {
    #[serde(borrow)]
    thread_id: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    conversation: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens: Option<&'a RawValue>,
}

/// What a provider reports. The Responses API and Anthropic say input and output, Chat Completions
/// prompt and completion.
#[derive(Deserialize)]
struct JsonUsage<'a> {
    #[serde(borrow)]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens: Option<&'a RawValue>,
}

/// An object that may name the thread.
#[derive(Deserialize)]
struct JsonThread<'a> {
    #[serde(borrow)]
    thread_id: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
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
            Format::Jsonl => Source::Json { reader, read: skipped, parse: own_record },
            Format::Openai => Source::Json { reader, read: skipped, parse: openai_record },
            Format::Csv => {
                // Ended by \n alone, so that rows of \r\n are counted as lines too; the \r is trimmed.
                let mut reader = csv::ReaderBuilder::new()
                    .terminator(csv::Terminator::Any(b'\n'))
                    .trim(csv::Trim::All)
                    .flexible(true)
                    .from_reader(reader);
                let header = reader.headers().map_err(|error| from_csv(&file, skipped.lines, error))?;
                let columns = Columns::find(header, thread.is_some()).map_err(|problem| {
                    RecordError::Bad { file: file.clone(), line: 1 + skipped.lines, problem }
                })?;
                Source::Csv { reader, skipped, columns }
            }
        };
        Ok(Self { file, thread, source })
    }

    /// How many bytes of the recording have been read: all up to the next record, or to blank lines
    /// before it.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        match &self.source {
            Source::Json { read, .. } => read.bytes,
            Source::Csv { reader, skipped, .. } => skipped.bytes + reader.position().byte(),
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
            Source::Json { reader, read, parse } => match next_line(reader, read) {
                Ok(None) => return None,
                Ok(Some(Ok(text))) => (read.lines, parse_json(&text).and_then(*parse)),
                Ok(Some(Err(problem))) => (read.lines, Err(problem)),
                Err(source) => return Some(Err(RecordError::Io { file: self.file.clone(), source })),
            },
            Source::Csv { reader, skipped, columns } => {
                let mut row = csv::StringRecord::new();
                // A row of one empty field is a blank line.
                while row.iter().all(str::is_empty) && row.len() <= 1 {
                    match reader.read_record(&mut row) {
                        Ok(true) => {}
                        Ok(false) => return None,
                        Err(error) => return Some(Err(from_csv(&self.file, skipped.lines, error))),
                    }
                }
                (skipped.lines + row.position().map_or(0, csv::Position::line), columns.parse(&row))
            }
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

/// The next line that is not blank, counting what is read; an inner error is a line that cannot be used.
fn next_line(reader: &mut dyn BufRead, read: &mut Position) -> io::Result<Option<Result<String, String>>> {
    loop {
        let mut bytes = Vec::new();
        if reader.take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(None);
        }
        read.lines += 1;
        read.bytes += bytes.len() as u64;
        if bytes.len() as u64 == MAX_LINE_BYTES && !bytes.ends_with(b"\n") {
            read.bytes += reader.skip_until(b'\n')? as u64;
            return Ok(Some(Err(format!(
                "the line is longer than {MAX_LINE_BYTES} bytes, expected one JSON object"
            ))));
        }
        bytes.truncate(bytes.trim_ascii_end().len());
        if !bytes.is_empty() {
            let text = String::from_utf8(bytes);
            return Ok(Some(text.map_err(|_| "the line is not UTF-8, expected one JSON object".into())));
        }
    }
}

fn parse_json(text: &str) -> Result<JsonRecord<'_>, String> {
    // serde would also take an array for a record, field by field.
    if !text.trim_start().starts_with('{') {
        return Err("the line does not start with {, expected one JSON object".into());
    }
    serde_json::from_str(text)
        .map_err(|error| format!("not JSON ({}), expected one JSON object", without_position(&error)))
}

/// serde_json counts lines within the line it is given, which would only confuse.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    format!("{} at column {}", &text[..end], error.column())
}

fn own_record(record: JsonRecord<'_>) -> Result<Fields, String> {
    Ok(Fields {
        thread_id: json_thread(record.thread_id, "thread_id")?,
        prompt_tokens: json_count(record.prompt_tokens, "prompt_tokens")?,
        completion_tokens: json_count(record.completion_tokens, "completion_tokens")?,
    })
}

fn openai_record(record: JsonRecord<'_>) -> Result<Fields, String> {
    const EXPECTED: &str = "expected an object with prompt_tokens and completion_tokens";
    let usage = record.usage.ok_or_else(|| format!("no usage, {EXPECTED}"))?;
    let counts: JsonUsage<'_> =
        object(usage).ok_or_else(|| format!("usage is {}, {EXPECTED}", excerpt(usage)))?;
    let (prompt, completion) = if counts.input_tokens.is_some() {
        ((counts.input_tokens, "usage.input_tokens"), (counts.output_tokens, "usage.output_tokens"))
    } else {
        ((counts.prompt_tokens, "usage.prompt_tokens"), (counts.completion_tokens, "usage.completion_tokens"))
    };
    Ok(Fields {
        thread_id: openai_thread(&record)?,
        prompt_tokens: json_count(prompt.0, prompt.1)?,
        completion_tokens: json_count(completion.0, completion.1)?,
    })
}

fn openai_thread(record: &JsonRecord<'_>) -> Result<Option<String>, String> {
    if record.thread_id.is_some() {
        return json_thread(record.thread_id, "thread_id");
    }
    let named_in = |value: Option<_>| value.and_then(object::<JsonThread<'_>>);
    if let Some(thread_id) = named_in(record.metadata).and_then(|metadata| metadata.thread_id) {
        return json_thread(Some(thread_id), "metadata.thread_id");
    }
    // The Responses API answers with an object, its requests may hold the id alone.
    match named_in(record.conversation) {
        Some(conversation) => json_thread(conversation.id, "conversation.id"),
        None => json_thread(record.conversation, "conversation"),
    }
}

/// The value as an object of that kind, if it is one.
fn object<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Option<T> {
    let is_object = value.get().starts_with('{');
    is_object.then(|| serde_json::from_str(value.get()).ok()).flatten()
}

fn json_thread(value: Option<&RawValue>, name: &str) -> Result<Option<String>, String> {
    value
        .map(|value| {
            serde_json::from_str(value.get())
                .map_err(|_| format!("{name} is {}, expected a string", excerpt(value)))
        })
        .transpose()
}

fn json_count(value: Option<&RawValue>, name: &str) -> Result<u64, String> {
    let value = value.ok_or_else(|| format!("no {name}, {COUNT_EXPECTED}"))?;
    value.get().parse().map_err(|_| format!("{name} is {}, {COUNT_EXPECTED}", excerpt(value)))
}

/// As much of a value as a message can show.
fn excerpt(value: &RawValue) -> String {
    const SHOWN: usize = 40;
    let mut text: String = value.get().chars().take(SHOWN).collect();
    if value.get().chars().count() > SHOWN {
        text.push('…');
    }
    text
}

impl Columns {
    fn find(header: &csv::StringRecord, thread_is_given: bool) -> Result<Self, String> {
        let find = |name: &'static str| header.iter().position(|column| column == name).map(|at| (at, name));
        let either = |own, azure| {
            find(own).or_else(|| find(azure)).ok_or_else(|| {
                let found = header.iter().collect::<Vec<_>>().join(",");
                format!("no column {own} or {azure}, expected a header that names the columns; found {found}")
            })
        };
        let columns = Self {
            number: header.len(),
            prompt_tokens: either("prompt_tokens", "ContextTokens")?,
            completion_tokens: either("completion_tokens", "GeneratedTokens")?,
            thread_id: find("thread_id").map(|(at, _)| at),
        };
        if columns.thread_id.is_none() && !thread_is_given {
            return Err(
                "no column thread_id, expected one, or --thread NAME to make the file one thread".into()
            );
        }
        Ok(columns)
    }

    fn parse(&self, row: &csv::StringRecord) -> Result<Fields, String> {
        if row.len() != self.number {
            return Err(format!("fields: {}, expected {} as in the header", row.len(), self.number));
        }
        let count = |(at, name)| {
            let text = row.get(at).unwrap_or_default();
            text.parse().map_err(|_| format!("{name} is {text:?}, {COUNT_EXPECTED}"))
        };
        Ok(Fields {
            thread_id: self.thread_id.and_then(|at| row.get(at)).map(str::to_owned),
            prompt_tokens: count(self.prompt_tokens)?,
            completion_tokens: count(self.completion_tokens)?,
        })
    }
}

fn from_csv(file: &str, skipped_lines: u64, error: csv::Error) -> RecordError {
    let file = file.to_owned();
    let line = skipped_lines + error.position().map_or(1, csv::Position::line);
    match error.into_kind() {
        csv::ErrorKind::Io(source) => RecordError::Io { file, source },
        csv::ErrorKind::Utf8 { err, .. } => RecordError::Bad {
            file,
            line,
            problem: format!("field {} is not UTF-8, expected CSV text", err.field() + 1),
        },
        other => RecordError::Bad { file, line, problem: format!("{other:?}, expected CSV text") },
    }
}
