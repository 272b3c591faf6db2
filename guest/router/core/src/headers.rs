//! Headers as HTTP/1.1 writes them.

use alloc::vec::Vec;

/// The headers of a request or an answer: one `name: value` a line.
#[derive(Debug, Default)]
pub(crate) struct Headers(Vec<u8>);

/// A header is there more than once: another reader might take another one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Twice;

impl Headers {
    pub(crate) fn new(lines: Vec<u8>) -> Self {
        Self(lines)
    }

    /// All of them, in their order. A line that is no header is passed over.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.split(|&byte| byte == b'\n').filter_map(|line| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            let name = core::str::from_utf8(&line[..colon]).ok()?;
            Some((name, line[colon + 1..].trim_ascii()))
        })
    }

    /// All values of a name.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The first value of a name, if it is text.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        core::str::from_utf8(self.all(name).next()?).ok()
    }

    /// The only value of a name.
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
        let headers = Headers::new(b"A: 1\nb:  two \nc: x:y\nnone\n: \xff\nB: 3\n".to_vec());
        assert_eq!(headers.first("a"), Some("1"));
        assert_eq!(headers.first("C"), Some("x:y"));
        assert_eq!(headers.first("none"), None);
        assert_eq!(headers.only("a"), Ok(Some(&b"1"[..])));
        assert_eq!(headers.only("b"), Err(Twice));
        assert_eq!(headers.all("b").count(), 2);
        assert_eq!(headers.first(""), None);
    }
}
