//! The text of a recording, a piece at a time: a line, or a JSON value over several of them.

use memchr::{memchr, memchr_iter, memchr2};
use std::io::{self, Read};

/// Longer lines are not usage records, and reading one whole would take all memory.
const MAX_LINE_BYTES: usize = 1 << 24;
/// A value over several lines may hold many records.
const MAX_VALUE_BYTES: usize = 1 << 28;
/// How much is read at once, at least.
const PIECE: usize = 1 << 16;

/// A piece of the text with the line that it begins in, from 1; or why it cannot be used.
pub(super) type Piece<'t> = (u64, Result<&'t [u8], String>);

pub(super) struct Text<'a> {
    reader: Box<dyn Read + 'a>,
    buffer: Vec<u8>,
    /// What of the buffer is read from the reader and not handed out.
    start: usize,
    end: usize,
    /// What was handed out or skipped.
    bytes: u64,
    lines: u64,
}

impl<'a> Text<'a> {
    pub(super) fn new(reader: Box<dyn Read + 'a>) -> Self {
        Self { reader, buffer: Vec::new(), start: 0, end: 0, bytes: 0, lines: 0 }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many lines have ended so far.
    pub(super) fn line(&self) -> u64 {
        self.lines
    }

    /// What is there and not handed out.
    pub(super) fn ahead(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Read more; whether there was any.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        if self.start > 0 && self.buffer.len() - self.end < PIECE {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() - self.end < PIECE {
            self.buffer.resize((2 * self.buffer.len()).max(2 * PIECE), 0);
        }
        loop {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(bytes) => {
                    self.end += bytes;
                    return Ok(bytes > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.lines += memchr_iter(b'\n', &self.buffer[self.start..self.start + bytes]).count() as u64;
        self.start += bytes;
        self.bytes += bytes as u64;
    }

    /// Skip a byte order mark and what is blank.
    pub(super) fn skip_blank(&mut self) -> io::Result<()> {
        const MARK: &[u8] = b"\xEF\xBB\xBF";
        while self.ahead().len() < MARK.len() && self.fill()? {}
        if self.ahead().starts_with(MARK) {
            self.consume(MARK.len());
        }
        self.skip(u8::is_ascii_whitespace)
    }

    fn skip(&mut self, is_skipped: impl Fn(&u8) -> bool) -> io::Result<()> {
        loop {
            let ahead = self.ahead();
            let skipped = ahead.iter().position(|byte| !is_skipped(byte)).unwrap_or(ahead.len());
            let is_all = skipped == ahead.len();
            self.consume(skipped);
            if !is_all || !self.fill()? {
                return Ok(());
            }
        }
    }

    /// The next line, without white space at its end.
    pub(super) fn next_line(&mut self) -> io::Result<Option<Piece<'_>>> {
        let mut searched = 0;
        let length = loop {
            let ahead = self.ahead();
            if let Some(at) = memchr(b'\n', &ahead[searched..]) {
                break searched + at + 1;
            }
            searched = ahead.len();
            if searched >= MAX_LINE_BYTES {
                let number = self.lines + 1;
                self.skip(|byte| *byte != b'\n')?;
                self.consume(1.min(self.ahead().len()));
                let problem =
                    format!("the line is longer than {MAX_LINE_BYTES} bytes, expected one JSON object");
                return Ok(Some((number, Err(problem))));
            }
            if !self.fill()? {
                break searched;
            }
        };
        if length == 0 {
            return Ok(None);
        }
        let start = self.start;
        let number = self.lines + 1;
        self.start += length;
        self.bytes += length as u64;
        self.lines = number;
        Ok(Some((number, Ok(self.buffer[start..start + length].trim_ascii_end()))))
    }

    /// The next JSON object, whatever brackets and commas are around it.
    pub(super) fn next_value(&mut self) -> io::Result<Option<Piece<'_>>> {
        self.skip(|byte| byte.is_ascii_whitespace() || matches!(byte, b',' | b'[' | b']'))?;
        let number = self.lines + 1;
        if self.ahead().is_empty() {
            return Ok(None);
        }
        if !self.ahead().starts_with(b"{") {
            self.consume(1);
            self.skip(|byte| !matches!(byte, b'\n' | b'{'))?;
            return Ok(Some((number, Err("neither an object nor a list of them, expected JSON".into()))));
        }
        let mut scan = Scan::default();
        let length = loop {
            if let Some(end) = scan.read_on(self.ahead()) {
                break end;
            }
            let length = self.ahead().len();
            if length >= MAX_VALUE_BYTES {
                self.consume(length);
                let problem =
                    format!("the object is longer than {MAX_VALUE_BYTES} bytes, expected lines or a list");
                return Ok(Some((number, Err(problem))));
            }
            if !self.fill()? {
                break length;
            }
        };
        let start = self.start;
        self.consume(length);
        Ok(Some((number, Ok(&self.buffer[start..start + length]))))
    }
}

impl Read for Text<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.ahead().is_empty() && !self.fill()? {
            return Ok(0);
        }
        let bytes = into.len().min(self.ahead().len());
        into[..bytes].copy_from_slice(&self.ahead()[..bytes]);
        self.consume(bytes);
        Ok(bytes)
    }
}

/// Where an object ends.
#[derive(Default)]
struct Scan {
    read: usize,
    depth: usize,
    is_in_string: bool,
}

impl Scan {
    /// Read on in a text that begins with the object; none when its end is not there yet.
    fn read_on(&mut self, text: &[u8]) -> Option<usize> {
        while let Some(byte) = text.get(self.read) {
            if self.is_in_string {
                match memchr2(b'"', b'\\', &text[self.read..]) {
                    // What is escaped may not be there yet.
                    Some(at) if text[self.read + at] == b'\\' => {
                        if self.read + at + 1 >= text.len() {
                            self.read += at;
                            return None;
                        }
                        self.read += at + 2;
                    }
                    Some(at) => {
                        self.read += at + 1;
                        self.is_in_string = false;
                    }
                    None => self.read = text.len(),
                }
                continue;
            }
            self.read += 1;
            match byte {
                b'"' => self.is_in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(self.read);
                    }
                }
                _ => {}
            }
        }
        None
    }
}
