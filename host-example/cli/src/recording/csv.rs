//! CSV with a header.

use super::{COUNT_EXPECTED, Fields, Parsed, Position, RecordError};
use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord, Terminator, Trim};
use std::io::BufRead;

/// The rows of a recording that are not blank.
pub(super) struct Rows<'a> {
    reader: Reader<Box<dyn BufRead + 'a>>,
    skipped: Position,
    columns: Columns,
}

/// Which column holds what.
struct Columns {
    number: usize,
    thread_id: Option<usize>,
    prompt_tokens: (usize, &'static str),
    completion_tokens: (usize, &'static str),
}

impl<'a> Rows<'a> {
    /// Read the header.
    pub(super) fn new(
        reader: Box<dyn BufRead + 'a>,
        skipped: Position,
        file: &str,
        thread_is_given: bool,
    ) -> Result<Self, RecordError> {
        // Ended by \n alone, so that rows of \r\n are counted as lines too; the \r is trimmed.
        let mut reader = ReaderBuilder::new()
            .terminator(Terminator::Any(b'\n'))
            .trim(Trim::All)
            .flexible(true)
            .from_reader(reader);
        let header = reader.headers().map_err(|error| describe(file, skipped.lines, error))?;
        let columns = Columns::find(header, thread_is_given).map_err(|problem| RecordError::Bad {
            file: file.to_owned(),
            line: 1 + skipped.lines,
            problem,
        })?;
        Ok(Self { reader, skipped, columns })
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.skipped.bytes + self.reader.position().byte()
    }

    pub(super) fn next(&mut self) -> csv::Result<Option<Parsed>> {
        let mut row = StringRecord::new();
        // A row of one empty field is a blank line.
        while row.iter().all(str::is_empty) && row.len() <= 1 {
            if !self.reader.read_record(&mut row)? {
                return Ok(None);
            }
        }
        let line = self.skipped.lines + row.position().map_or(0, csv::Position::line);
        Ok(Some((line, self.columns.parse(&row))))
    }

    pub(super) fn describe(&self, file: &str, error: csv::Error) -> RecordError {
        describe(file, self.skipped.lines, error)
    }
}

impl Columns {
    fn find(header: &StringRecord, thread_is_given: bool) -> Result<Self, String> {
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

    fn parse(&self, row: &StringRecord) -> Result<Fields, String> {
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

fn describe(file: &str, skipped_lines: u64, error: csv::Error) -> RecordError {
    let file = file.to_owned();
    let line = skipped_lines + error.position().map_or(1, csv::Position::line);
    match error.into_kind() {
        ErrorKind::Io(source) => RecordError::Io { file, source },
        ErrorKind::Utf8 { err, .. } => RecordError::Bad {
            file,
            line,
            problem: format!("field {} is not UTF-8, expected CSV text", err.field() + 1),
        },
        other => RecordError::Bad { file, line, problem: format!("{other:?}, expected CSV text") },
    }
}
