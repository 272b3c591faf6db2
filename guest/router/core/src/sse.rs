//! Server-sent events, split as they arrive. <https://html.spec.whatwg.org/multipage/server-sent-events.html>

use crate::json;
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// Takes a stream in pieces of any length and gives its events, each whole and as it was sent. Each byte is
/// looked at once, however long an event is and however it arrives.
#[derive(Debug, Default)]
pub(crate) struct Events {
    buffer: Vec<u8>,
    /// Where the next event begins.
    start: usize,
    /// Up to where no event ends.
    searched: usize,
    /// Where the line begins that is being searched.
    line: usize,
}

impl Events {
    /// Take what has arrived.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        // What has been given is dropped once it is most of the buffer, so that dropping costs no more than
        // what was taken.
        if self.start * 2 >= self.buffer.len() {
            self.buffer.drain(..self.start);
            self.searched -= self.start;
            self.line -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(piece);
    }

    /// How many bytes have arrived of an event that is not whole.
    pub(crate) fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// The next whole event, with the empty line that ends it. A line ends with CR, LF or both.
    pub(crate) fn next(&mut self) -> Option<&[u8]> {
        loop {
            let rest = &self.buffer[self.searched..];
            let Some(at) = rest.iter().position(|&byte| matches!(byte, b'\n' | b'\r')) else {
                self.searched = self.buffer.len();
                return None;
            };
            let end = self.searched + at;
            let after = match &self.buffer[end..] {
                [b'\r', b'\n', ..] => end + 2,
                // Its other half may be on its way.
                [b'\r'] => {
                    self.searched = end;
                    return None;
                }
                _ => end + 1,
            };
            let line = self.line..end;
            let is_end = line.is_empty()
                || match begins_event(&self.buffer[after..]) {
                    Some(begins) => begins && is_whole(&self.buffer[line]),
                    // What comes next decides it.
                    None => {
                        self.searched = end;
                        return None;
                    }
                };
            self.searched = after;
            self.line = after;
            if is_end {
                let event = self.start..after;
                self.start = after;
                return Some(&self.buffer[event]);
            }
        }
    }

    /// What has arrived after the last whole event.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}

/// Whether a line begins an event; none while that cannot be told.
fn begins_event(line: &[u8]) -> Option<bool> {
    let starts = [&b"data:"[..], b"event:"];
    if starts.iter().any(|start| line.starts_with(start)) {
        return Some(true);
    }
    if starts.iter().any(|start| start.starts_with(line)) { None } else { Some(false) }
}

/// Whether what has come of an event is all that it carries. Some providers leave the empty line out behind it.
pub(crate) fn is_whole(event: &[u8]) -> bool {
    let data = data(event);
    let is_object =
        || core::str::from_utf8(&data).is_ok_and(|data| json::fields(data, &mut |_, _| {}).is_ok());
    data.trim_ascii() == b"[DONE]" || is_object()
}

/// Without the byte-order mark that a text may begin with.
pub(crate) fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// Whether an event says by its name, or by that of its field, that there is an error.
pub(crate) fn is_error(event: &[u8]) -> bool {
    let mut lines = event.split(|byte| matches!(byte, b'\n' | b'\r'));
    lines.any(|line| {
        line.starts_with(b"error:")
            || line.strip_prefix(b"event:").is_some_and(|name| name.trim_ascii() == b"error")
    })
}

/// What an event carries: its `data` lines. A byte-order mark before the first event is no part of it.
pub(crate) fn data(event: &[u8]) -> Cow<'_, [u8]> {
    let event = without_mark(event);
    // Between CR and LF there is an empty line too many, which is no data.
    let mut lines = event.split(|byte| matches!(byte, b'\n' | b'\r')).filter_map(|line| {
        let line = line.strip_prefix(b"data:")?;
        Some(line.strip_prefix(b" ").unwrap_or(line))
    });
    let first = lines.next().unwrap_or_default();
    let Some(second) = lines.next() else { return Cow::Borrowed(first) };
    let mut all = [first, second].join(&b'\n');
    for line in lines {
        all.push(b'\n');
        all.extend_from_slice(line);
    }
    Cow::Owned(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] =
        b": hello\n\nevent: a\ndata: 1\n\ndata: 2\r\ndata:3\r\n\r\n\ndata: 4\n\ndata: 5\r\rdata: 6\r\n\rdata: rest";

    fn split<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut events = Events::default();
        let mut all = Vec::new();
        for piece in pieces {
            events.push(piece);
            while let Some(event) = events.next() {
                all.push(event.to_vec());
            }
        }
        (all, events.rest().to_vec())
    }

    #[test]
    fn events_are_the_same_however_they_arrive() {
        let whole = split([STREAM].into_iter());
        assert_eq!(whole.0.len(), 7);
        assert_eq!([&*whole.0.concat(), &whole.1].concat(), STREAM);
        for length in 1..STREAM.len() {
            assert_eq!(split(STREAM.chunks(length)), whole, "{length}");
        }
    }

    #[test]
    fn data_of_an_event() {
        let (events, _) = split([STREAM].into_iter());
        let data: Vec<_> = events.iter().map(|event| data(event).into_owned()).collect();
        assert_eq!(data, [&b""[..], b"1", b"2\n3", b"", b"4", b"5", b"6"]);
        assert_eq!(&*super::data(b"\xef\xbb\xbfdata: x\n\n"), b"x");
    }

    /// Counted, since time also passes for other reasons.
    #[test]
    fn each_byte_of_a_long_event_is_looked_at_once() {
        let event = [b"data: ", &vec![b'x'; 1 << 20][..], b"\n\n"].concat();
        let mut events = Events::default();
        let mut looked_at = 0;
        for piece in event.chunks(1_400) {
            events.push(piece);
            looked_at += events.buffer.len() - events.searched;
            let is_last = events.pending() == event.len();
            assert_eq!(events.next().is_some(), is_last);
        }
        assert_eq!(looked_at, event.len());
    }
}
