//! Who may ask the admin side: those with the token, or, where there is none, programs and pages of this
//! machine that are meant to.

use super::{Error, Shared};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::sleep;

/// How long a wrong token takes. They wait for each other, so that there are no more than five in a second,
/// over however many connections. The right one waits for nobody.
const WRONG_TOKEN_TAKES: Duration = Duration::from_millis(200);

/// A bearer token, known by its digest: comparing digests tells by its time nothing about the token.
pub(super) struct Token {
    digest: [u8; 32],
    /// Held by whoever has given a wrong one.
    guessing: Mutex<()>,
}

/// What a request gives as the token.
#[derive(Debug, PartialEq, Eq)]
enum Given {
    Right,
    Wrong,
    Nothing,
}

impl Token {
    pub(super) fn new(token: &str) -> Self {
        Self { digest: digest(token), guessing: Mutex::default() }
    }

    fn given(&self, headers: &HeaderMap) -> Given {
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        match given.and_then(|value| value.split_once(' ')) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                if digest(token.trim_start()) == self.digest { Given::Right } else { Given::Wrong }
            }
            _ => Given::Nothing,
        }
    }

    async fn check(&self, headers: &HeaderMap) -> Result<(), Error> {
        match self.given(headers) {
            Given::Right => return Ok(()),
            Given::Wrong => {
                let _guessing = self.guessing.lock().await;
                sleep(WRONG_TOKEN_TAKES).await;
            }
            Given::Nothing => {}
        }
        Err(Error::Unauthorized)
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// What everybody may see: the page, which says nothing of the threads, and whether all is well.
const OPEN_PATHS: [&str; 5] = ["/", "/style.css", "/script.js", "/healthz", "/readyz"];

/// Whether a request may ask.
pub(super) async fn check(shared: &Shared, request: &Parts) -> Result<(), Error> {
    let headers = &request.headers;
    let is_open = OPEN_PATHS.contains(&request.uri.path());
    match &shared.token {
        // A page of elsewhere whose name was made to mean this machine is shut out by the name it used.
        None if !is_host_local(headers) => return Err(Error::ForeignHost),
        Some(token) if !is_open => token.check(headers).await?,
        _ => {}
    }
    let only_reads = matches!(request.method, Method::GET | Method::HEAD);
    if !(is_open && only_reads) && is_cross_origin(headers) {
        return Err(Error::CrossOrigin);
    }
    Ok(())
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
            ("Bearer secret", Given::Right),
            ("bearer secret", Given::Right),
            ("Bearer secre", Given::Wrong),
            ("Bearer secret2", Given::Wrong),
            ("Bearer ", Given::Wrong),
            ("secret", Given::Nothing),
            ("Basic secret", Given::Nothing),
        ] {
            assert_eq!(token.given(&headers(&[("authorization", value)])), expected, "{value}");
        }
        assert_eq!(token.given(&headers(&[])), Given::Nothing);
    }
}
