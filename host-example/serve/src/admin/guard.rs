//! Who may ask the admin side: those with the token, or, where there is none, programs and pages of this
//! machine that are meant to.

use super::{Error, Shared};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::sync::Arc;

/// A bearer token, known by its digest: comparing digests tells by its time nothing about the token.
pub(super) struct Token([u8; 32]);

impl Token {
    pub(super) fn new(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    fn is_given(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        given.and_then(|value| value.split_once(' ')).is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case("bearer") && Self::new(token.trim_start()).0 == self.0
        })
    }
}

/// What everybody may see: the page, which says nothing of the threads, and whether all is well.
const OPEN_PATHS: [&str; 4] = ["/", "/style.css", "/script.js", "/healthz"];

pub(super) async fn check(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    let headers = request.headers();
    let is_open = OPEN_PATHS.contains(&request.uri().path());
    match &shared.token {
        // A page of elsewhere whose name was made to mean this machine is shut out by the name it used.
        None if !is_host_local(headers) => return Err(Error::ForeignHost),
        Some(token) if !is_open && !token.is_given(headers) => return Err(Error::Unauthorized),
        _ => {}
    }
    let only_reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !(is_open && only_reads) && is_cross_origin(headers) {
        return Err(Error::CrossOrigin);
    }
    Ok(next.run(request).await)
}

fn is_host_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else { return false };
    // Without the port, which an address in brackets has after them.
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Whether a browser says that another page than ours asks. Programs say nothing of the kind.
fn is_cross_origin(headers: &HeaderMap) -> bool {
    let text =
        |name| headers.get(name).map(|value: &axum::http::HeaderValue| value.to_str().unwrap_or_default());
    let host = text(HOST.as_str()).unwrap_or_default();
    let by_site = text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let by_origin = text(ORIGIN.as_str())
        .is_some_and(|origin| origin.split_once("://").is_none_or(|(_, authority)| authority != host));
    by_site || by_origin
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn local_hosts_are_told_from_others() {
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8081", "[::1]", "[::1]:8081"] {
            assert!(is_host_local(&headers(&[("host", host)])), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example:80", "10.0.0.1", "[::2]:1", "127.0.0.1.nip.io"]
        {
            assert!(!is_host_local(&headers(&[("host", host)])), "{host}");
        }
        assert!(!is_host_local(&headers(&[])));
    }

    #[test]
    fn other_pages_are_told_from_ours_and_from_programs() {
        for (pairs, expected) in [
            (&[("host", "localhost:1")] as &[_], false),
            (
                &[
                    ("host", "localhost:1"),
                    ("origin", "http://localhost:1"),
                    ("sec-fetch-site", "same-origin"),
                ],
                false,
            ),
            (&[("host", "localhost:1"), ("sec-fetch-site", "none")], false),
            (&[("host", "localhost:1"), ("sec-fetch-site", "same-site")], true),
            (&[("host", "localhost:1"), ("sec-fetch-site", "cross-site")], true),
            (&[("host", "localhost:1"), ("origin", "http://localhost:2")], true),
            (&[("host", "localhost:1"), ("origin", "null")], true),
        ] {
            assert_eq!(is_cross_origin(&headers(pairs)), expected, "{pairs:?}");
        }
    }

    #[test]
    fn only_the_token_itself_is_accepted() {
        let token = Token::new("secret");
        for (value, expected) in [
            ("Bearer secret", true),
            ("bearer secret", true),
            ("Bearer secre", false),
            ("Bearer secret2", false),
            ("Bearer ", false),
            ("secret", false),
            ("Basic secret", false),
        ] {
            assert_eq!(token.is_given(&headers(&[("authorization", value)])), expected, "{value}");
        }
        assert!(!token.is_given(&headers(&[])));
    }
}
