//! CSV with a header: our own, traces, LiteLLM's spend log.

use super::text::Text;
use super::time::Moment;
use super::{COUNT_EXPECTED, Fields, Record, RecordError, litellm};
use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord, Terminator, Trim};
use thread_budget_router_core::usage::Tokens;

/// The rows of a recording that are not blank.
pub(super) struct Rows<'a> {
    reader: Reader<Text<'a>>,
    /// Before the header.
    skipped_bytes: u64,
    skipped_lines: u64,
    columns: Columns,
}

/// A row's line, and what it says or what is wrong with it.
type Row = (u64, Result<Fields, String>);

/// Which column holds what.
struct Columns {
    number: usize,
    thread_id: Option<usize>,
    /// Of LiteLLM, which leaves it empty where there is none.
    session_id: Option<usize>,
    model: Option<usize>,
    at: Option<usize>,
    metadata: Option<usize>,
    prompt_tokens: (usize, &'static str),
    completion_tokens: (usize, &'static str),
}

impl<'a> Rows<'a> {
    /// Read the header.
    pub(super) fn new(text: Text<'a>, file: &str, thread_is_given: bool) -> Result<Self, RecordError> {
        let (skipped_bytes, skipped_lines) = (text.bytes(), text.line());
        // Ended by \n alone, so that rows of \r\n are counted as lines too; the \r is trimmed.
        let mut reader = ReaderBuilder::new()
            .terminator(Terminator::Any(b'\n'))
            .trim(Trim::All)
            .flexible(true)
            .from_reader(text);
        let header = reader.headers().map_err(|error| describe(file, skipped_lines, error))?;
        let columns = Columns::find(header, thread_is_given).map_err(|problem| RecordError::Bad {
            file: file.to_owned(),
            line: 1 + skipped_lines,
            problem,
        })?;
        Ok(Self { reader, skipped_bytes, skipped_lines, columns })
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.skipped_bytes + self.reader.position().byte()
    }

    pub(super) fn next(&mut self) -> csv::Result<Option<Row>> {
        let mut row = StringRecord::new();
        // A row of one empty field is a blank line.
        while row.iter().all(str::is_empty) && row.len() <= 1 {
            if !self.reader.read_record(&mut row)? {
                return Ok(None);
            }
        }
        let line = self.skipped_lines + row.position().map_or(0, csv::Position::line);
        Ok(Some((line, self.columns.parse(&row))))
    }

    pub(super) fn describe(&self, file: &str, error: csv::Error) -> RecordError {
        describe(file, self.skipped_lines, error)
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
            session_id: find("session_id").map(|(at, _)| at),
            model: find("model").map(|(at, _)| at),
            at: ["timestamp", "startTime", "TIMESTAMP"].into_iter().find_map(find).map(|(at, _)| at),
            metadata: find("metadata").map(|(at, _)| at),
        };
        if columns.thread_id.or(columns.session_id).is_none() && !thread_is_given {
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
        let get = |column: Option<usize>| column.and_then(|at| row.get(at));
        let (input, output) = (count(self.prompt_tokens)?, count(self.completion_tokens)?);
        let metadata = get(self.metadata).filter(|metadata| metadata.contains("usage_object"));
        let tokens = match metadata {
            None => Tokens { input, output, ..Tokens::default() },
            Some(_) => {
                let row = format!(r#"{{"prompt_tokens":{input},"completion_tokens":{output}}}"#);
                litellm::used(&row, metadata)
            }
        };
        let record = Record {
            tokens,
            model: get(self.model).unwrap_or_default().to_owned(),
            at: get(self.at).and_then(Moment::parse),
            ..Record::default()
        };
        let session = get(self.session_id).filter(|session| !session.is_empty());
        Ok(Fields { thread_id: get(self.thread_id).or(session).map(str::to_owned), or_else: None, record })
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
