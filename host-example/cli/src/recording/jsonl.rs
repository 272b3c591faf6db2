//! Lines that are JSON objects, and the format of our own among them.

use super::{COUNT_EXPECTED, Fields, Parsed, Position};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::io::{self, BufRead, Read};

/// Longer lines are not usage records, and reading one whole would take all memory.
const MAX_LINE_BYTES: u64 = 1 << 24;

/// What a format makes of a line.
type Parse = fn(JsonRecord<'_>) -> Result<Fields, String>;

/// What a line of either JSON format may hold, as it is written there.
#[derive(Deserialize)]
pub(super) struct JsonRecord<'a> {
    #[serde(borrow)]
    pub(super) thread_id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) conversation: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens: Option<&'a RawValue>,
}

/// The lines of a recording that are not blank.
pub(super) struct Lines<'a> {
    reader: Box<dyn BufRead + 'a>,
    read: Position,
    parse: Parse,
}

impl<'a> Lines<'a> {
    pub(super) fn new(reader: Box<dyn BufRead + 'a>, read: Position, parse: Parse) -> Self {
        Self { reader, read, parse }
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.read.bytes
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Parsed>> {
        let Self { reader, read, parse } = self;
        let line = next_line(reader, read)?;
        Ok(line.map(|line| (read.lines, line.and_then(|text| parse(parse_json(&text)?)))))
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

pub(super) fn record(record: JsonRecord<'_>) -> Result<Fields, String> {
    Ok(Fields {
        thread_id: thread(record.thread_id, "thread_id")?,
        prompt_tokens: count(record.prompt_tokens, "prompt_tokens")?,
        completion_tokens: count(record.completion_tokens, "completion_tokens")?,
    })
}

pub(super) fn thread(value: Option<&RawValue>, name: &str) -> Result<Option<String>, String> {
    value
        .map(|value| {
            serde_json::from_str(value.get())
                .map_err(|_| format!("{name} is {}, expected a string", excerpt(value)))
        })
        .transpose()
}

pub(super) fn count(value: Option<&RawValue>, name: &str) -> Result<u64, String> {
    let value = value.ok_or_else(|| format!("no {name}, {COUNT_EXPECTED}"))?;
    value.get().parse().map_err(|_| format!("{name} is {}, {COUNT_EXPECTED}", excerpt(value)))
}

/// As much of a value as a message can show.
pub(super) fn excerpt(value: &RawValue) -> String {
    const SHOWN: usize = 40;
    let mut text: String = value.get().chars().take(SHOWN).collect();
    if value.get().chars().count() > SHOWN {
        text.push('…');
    }
    text
}
