//! Headers between a connection and the policy: which go along, and as what the policy reads them.

use crate::bindings::thread_budget::router::policy::Header;

/// Headers, as `wasi:http` has them.
pub(crate) type Headers = Vec<(String, Vec<u8>)>;

/// All of them as the policy reads them, a line each.
pub(crate) fn lines(headers: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut lines = Vec::new();
    for (name, value) in headers {
        for part in [name.as_bytes(), b": ", value, b"\n"] {
            lines.extend_from_slice(part);
        }
    }
    lines
}

/// Change headers as the policy wants it: take some away, and put others in their place or beside.
pub(crate) fn change(headers: &mut Headers, remove: &[String], set: &[Header]) {
    headers.retain(|(name, _)| !remove.iter().any(|removed| name.eq_ignore_ascii_case(removed)));
    for Header { name, value } in set {
        put(headers, name, value);
    }
}

/// Put a header in the place of those of its name, or beside the others.
pub(crate) fn put(headers: &mut Headers, name: &str, value: impl ToString) {
    headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    headers.push((name.into(), value.to_string().into_bytes()));
}

/// Remove what concerns one connection or the length of one message only. `wasi:http` keeps most of it to itself.
pub(crate) fn remove_hop_by_hop(headers: &mut Headers) {
    const NAMES: [&str; 13] = [
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    headers.retain(|(name, _)| !NAMES.iter().any(|known| name.eq_ignore_ascii_case(known)));
}
