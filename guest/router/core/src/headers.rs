//! Headers as HTTP/1.1 writes them.

use alloc::vec::Vec;
use core::ops::Range;

/// The headers of a request or an answer.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    lines: Vec<u8>,
    /// Name and value of each, its name in lower case.
    places: Vec<(Range<usize>, Range<usize>)>,
}

/// A header is there more than once: another reader might take another one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Twice;

impl Headers {
    /// Read them: one `name: value` a line. A line that is no header is passed over.
    pub(crate) fn new(mut lines: Vec<u8>) -> Self {
        let mut places = Vec::with_capacity(16);
        let mut start = 0;
        while start < lines.len() {
            let rest = &lines[start..];
            let end = start + rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
            let colon = lines[start..end].iter().position(|&byte| byte == b':').map(|at| start + at);
            if let Some(colon) = colon.filter(|&colon| lines[start..colon].is_ascii()) {
                lines[start..colon].make_ascii_lowercase();
                let value = lines[colon + 1..end].trim_ascii();
                let value_at = value.as_ptr().addr() - lines.as_ptr().addr();
                places.push((start..colon, value_at..value_at + value.len()));
            }
            start = end + 1;
        }
        Self { lines, places }
    }

    /// All of them, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        // A name is ASCII.
        let text = |name| core::str::from_utf8(name).unwrap_or_default();
        self.places
            .iter()
            .map(move |(name, value)| (text(&self.lines[name.clone()]), &self.lines[value.clone()]))
    }

    /// The names of all, in their order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(name, _)| name)
    }

    /// All values of a name, which is in lower case.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let is_it = move |place: &Range<usize>| &self.lines[place.clone()] == name.as_bytes();
        self.places.iter().filter(move |(known, _)| is_it(known)).map(|(_, value)| &self.lines[value.clone()])
    }

    /// Whether there is one of that name, which is in lower case.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// The first value of a name, which is in lower case, if it is text.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        core::str::from_utf8(self.all(name).next()?).ok()
    }

    /// The only value of a name, which is in lower case.
    pub(crate) fn only(&self, name: &str) -> Result<Option<&[u8]>, Twice> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() { Err(Twice) } else { Ok(first) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_whatever_their_case() {
        let headers = Headers::new(b"A: 1\nb:  two \nc: x:y\nnone\n: \xff\n\xff: 1\n\nd:\nB: 3".to_vec());
        assert_eq!(headers.names().collect::<Vec<_>>(), ["a", "b", "c", "", "d", "b"]);
        assert_eq!(headers.first("a"), Some("1"));
        assert_eq!(headers.first("c"), Some("x:y"));
        assert_eq!(headers.first("d"), Some(""));
        assert_eq!(headers.first("none"), None);
        assert_eq!(headers.first(""), None);
        assert_eq!(headers.only("a"), Ok(Some(&b"1"[..])));
        assert_eq!(headers.only("b"), Err(Twice));
        assert_eq!(headers.all("b").count(), 2);
    }
}
