//! Headers between a connection and the policy: which go along, and as what the policy reads them.

use super::policy::Broken;
use super::policy::contract::Header;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

/// All of them as the policy reads them, a line each.
pub(super) fn lines(headers: &HeaderMap) -> Vec<u8> {
    let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 3).sum();
    let mut lines = Vec::with_capacity(bytes);
    for (name, value) in headers {
        lines.extend_from_slice(name.as_str().as_bytes());
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(value.as_bytes());
        lines.push(b'\n');
    }
    lines
}

/// Change headers as the policy wants it: take some away, and put others in their place or beside.
pub(super) fn change(headers: &mut HeaderMap, remove: &[String], set: &[Header]) -> Result<(), Broken> {
    let unusable = |name: &str| Broken::Policy(format!("it wants a header that cannot be: {name}"));
    for name in remove {
        headers.remove(name);
    }
    for Header { name, value } in set {
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unusable(name))?;
        headers.insert(header, HeaderValue::from_str(value).map_err(|_| unusable(name))?);
    }
    Ok(())
}

/// Remove what concerns one connection or the length of one message only, and what `Connection` says does.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn what_concerns_one_connection_is_not_passed_on() {
        let mut headers = headers(&[
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("keep-alive", "5"),
            ("content-length", "5"),
            ("authorization", "Bearer a"),
        ]);
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["authorization"]);
    }

    #[test]
    fn the_policy_reads_a_line_each_and_changes_what_it_wants() {
        let mut headers = headers(&[("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!(lines(&headers), b"a: 1\nb: 2\nc: 3\n");
        let set = |name: &str, value: &str| Header { name: name.into(), value: value.into() };
        change(&mut headers, &["a".into()], &[set("b", "4"), set("d", "5")]).unwrap();
        let mut changed: Vec<_> = lines(&headers).split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        changed.sort();
        assert_eq!(changed, [&b""[..], b"b: 4", b"c: 3", b"d: 5"]);
        assert!(change(&mut headers, &[], &[set("no name", "1")]).is_err());
        assert!(change(&mut headers, &[], &[set("e", "two\nlines")]).is_err());
    }
}
