//! Server-sent events, split as they arrive. <https://html.spec.whatwg.org/multipage/server-sent-events.html>

use std::borrow::Cow;

/// Takes a stream in pieces of any length and gives its events, each whole and as it was sent.
#[derive(Debug, Default)]
pub struct Events {
    buffer: Vec<u8>,
    /// Where the next event begins.
    start: usize,
    /// Up to where no event ends.
    searched: usize,
}

impl Events {
    /// Take what has arrived.
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(piece);
    }

    /// How many bytes have arrived of an event that is not whole.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// The next whole event, with the empty line that ends it.
    #[expect(clippy::should_implement_trait, reason = "it lends the event")]
    pub fn next(&mut self) -> Option<&[u8]> {
        let end = loop {
            let newline =
                self.searched + self.buffer[self.searched..].iter().position(|&byte| byte == b'\n')?;
            self.searched = newline + 1;
            // A line ends with \n or \r\n; a lone \r, which the standard allows too, no provider sends.
            let line = self.buffer[self.start..newline]
                .strip_suffix(b"\r")
                .unwrap_or(&self.buffer[self.start..newline]);
            if line.is_empty() || line.ends_with(b"\n") {
                break self.searched;
            }
        };
        let event = &self.buffer[self.start..end];
        self.start = end;
        Some(event)
    }

    /// What has arrived after the last whole event.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}

/// What an event carries: its `data` lines.
pub fn data(event: &[u8]) -> Cow<'_, [u8]> {
    let mut lines = event.split(|&byte| byte == b'\n').filter_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line).strip_prefix(b"data:")?;
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

    const STREAM: &[u8] = b": hello\n\nevent: a\ndata: 1\n\ndata: 2\r\ndata:3\r\n\r\n\ndata: 4\n\ndata: rest";

    fn split(pieces: impl Iterator<Item = &'static [u8]>) -> (Vec<Vec<u8>>, Vec<u8>) {
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
        assert_eq!(whole.0.len(), 5);
        assert_eq!([&*whole.0.concat(), &whole.1].concat(), STREAM);
        for length in 1..STREAM.len() {
            assert_eq!(split(STREAM.chunks(length)), whole, "{length}");
        }
    }

    #[test]
    fn data_of_an_event() {
        let (events, _) = split([STREAM].into_iter());
        let data: Vec<_> = events.iter().map(|event| data(event).into_owned()).collect();
        assert_eq!(data, [&b""[..], b"1", b"2\n3", b"", b"4"]);
    }
}
