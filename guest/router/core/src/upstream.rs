//! Which providers a request may go to, at what URL, and whose key goes along.

use crate::config::{Config, Upstream};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// An upstream's URL, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Base<'a> {
    /// Scheme, host and port: who gets what is sent there.
    pub(crate) origin: &'a str,
    /// The path, without a `/` at its end.
    path: &'a str,
    /// The query; empty when there is none.
    query: &'a str,
}

impl<'a> Base<'a> {
    /// Take a URL apart; none when it is no URL that can be sent to.
    pub(crate) fn of(url: &'a str) -> Option<Self> {
        let (url, query) = url.split_once('?').unwrap_or((url, ""));
        let after_scheme = ["http://", "https://"].into_iter().find_map(|scheme| url.strip_prefix(scheme))?;
        let path_at = url.len() - after_scheme.len() + after_scheme.find('/').unwrap_or(after_scheme.len());
        let (origin, path) = url.split_at(path_at);
        let authority = &origin[origin.find("//")? + 2..];
        let is_plain =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && !b"#\\\"<>".contains(&byte));
        (is_authority(authority) && is_plain(path) && is_plain(query)).then_some(Self {
            origin,
            path: path.trim_end_matches('/'),
            query,
        })
    }

    /// Where a request for `target` goes.
    ///
    /// A client of OpenAI's API puts the path of a call behind its base, which is `.../v1` by default; so where
    /// the base has a path, that stands for the `/v1` of the request. A client of Anthropic's puts `/v1`
    /// and the call there; so that stays, unless the base has a version of its own.
    pub(crate) fn url(&self, target: &str, is_anthropic: bool) -> String {
        let Self { origin, path, query } = self;
        let replaces = if is_anthropic { path.split('/').any(is_version) } else { !path.is_empty() };
        let target = if replaces { target.strip_prefix("/v1").unwrap_or(target) } else { target };
        match (query.is_empty(), target.split_once('?')) {
            (true, _) => format!("{origin}{path}{target}"),
            (false, None) => format!("{origin}{path}{target}?{query}"),
            (false, Some((target, own))) => format!("{origin}{path}{target}?{query}&{own}"),
        }
    }
}

/// Whether it is a host and perhaps a port.
fn is_authority(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) if host.parse::<core::net::Ipv6Addr>().is_ok() => match rest.strip_prefix(':') {
            Some(port) => ("ipv6", Some(port)),
            None if rest.is_empty() => ("ipv6", None),
            None => return false,
        },
        Some(_) => return false,
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    !host.is_empty()
        && host.bytes().all(is_name)
        && port.is_none_or(|port| {
            port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
}

/// Whether a segment of a path is a version, such as `v1` or `v1beta`.
fn is_version(segment: &str) -> bool {
    segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// The upstreams for a request, in the order in which they are tried. The first is the one that the client's
/// key is meant for; with a key there are no others that it may not go to and that have none of their own.
pub(crate) fn candidates(
    config: &Config,
    model: Option<&str>,
    is_anthropic: bool,
    has_key: bool,
) -> Vec<usize> {
    let serves = |upstream: &Upstream| match model {
        Some(model) => upstream.models.is_empty() || names(upstream, |prefix| model.starts_with(prefix)),
        None => true,
    };
    let mut order: Vec<_> = (0..config.upstreams.len()).filter(|&at| serves(&config.upstreams[at])).collect();
    if model.is_none() {
        // A client of Anthropic's has a key of theirs, whoever comes first, and no other client has.
        let is_claude = |prefix: &str| prefix.starts_with("claude");
        order.sort_by_key(|&at| {
            let upstream = &config.upstreams[at];
            !if is_anthropic {
                names(upstream, is_claude)
            } else {
                upstream.models.is_empty() || names(upstream, |prefix| !is_claude(prefix))
            }
        });
    }
    if let Some(&first) = order.first().filter(|_| has_key) {
        let meant = &config.upstreams[first];
        let is_same_provider = |upstream: &Upstream| {
            meant.key_env.is_none()
                && Base::of(&meant.url).map(|base| base.origin)
                    == Base::of(&upstream.url).map(|base| base.origin)
        };
        order.retain(|&at| {
            let upstream = &config.upstreams[at];
            at == first || upstream.key_env.is_some() || is_same_provider(upstream)
        });
    }
    order
}

fn names(upstream: &Upstream, is_one: impl Fn(&str) -> bool) -> bool {
    upstream.models.iter().any(|prefix| is_one(prefix))
}

/// Whether a header, by its name in lower case, tells a provider who the client is: a key, a token, a cookie.
pub(crate) fn is_credential(name: &str) -> bool {
    const PARTS: [&str; 6] = ["auth", "cookie", "key", "secret", "signature", "token"];
    name != "idempotency-key" && PARTS.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_what_each_apis_clients_take_as_their_base() {
        let url = |base: &str, target: &str, is_anthropic| Base::of(base).unwrap().url(target, is_anthropic);
        for (base, target, expected) in [
            ("https://api.openai.com", "/v1/chat/completions", "https://api.openai.com/v1/chat/completions"),
            ("https://api.openai.com/v1/", "/v1/models?a=b", "https://api.openai.com/v1/models?a=b"),
            ("http://[::1]:80/openai/v1", "/v1/responses", "http://[::1]:80/openai/v1/responses"),
            ("https://g/v1beta/openai/", "/v1/chat/completions", "https://g/v1beta/openai/chat/completions"),
            ("https://z/api/paas/v4", "/v1/chat/completions", "https://z/api/paas/v4/chat/completions"),
            ("https://h/inference", "/v1/chat/completions", "https://h/inference/chat/completions"),
            (
                "https://x.azure.com/openai/deployments/d?api-version=1",
                "/v1/chat/completions",
                "https://x.azure.com/openai/deployments/d/chat/completions?api-version=1",
            ),
            ("https://h?a=1", "/v1/models?b=2", "https://h/v1/models?a=1&b=2"),
        ] {
            assert_eq!(url(base, target, false), expected);
        }
        for (base, expected) in [
            ("https://api.anthropic.com", "https://api.anthropic.com/v1/messages"),
            ("https://api.anthropic.com/v1", "https://api.anthropic.com/v1/messages"),
            ("https://api.z.ai/api/anthropic", "https://api.z.ai/api/anthropic/v1/messages"),
            ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1/messages"),
        ] {
            assert_eq!(url(base, "/v1/messages", true), expected);
        }
    }

    #[test]
    fn what_cannot_be_sent_to_is_no_url() {
        for url in [
            "",
            "api.openai.com",
            "ftp://host",
            "https://",
            "https:///v1",
            "https://user@host",
            "https://host#x",
            "https://ho st",
            "https://host:99999",
            "https://host:0",
            "https://host:",
            "https://host:x",
            "http://[::1",
            "http://[::1]x",
            "http://[nonsense]",
            "http://host/a b",
        ] {
            assert_eq!(Base::of(url), None, "{url}");
        }
    }

    fn config(upstreams: &[(&str, &[&str], Option<&str>)]) -> Config {
        let upstreams = upstreams.iter().map(|&(url, models, key_env)| Upstream {
            url: url.into(),
            models: models.iter().map(|&model| model.into()).collect(),
            key_env: key_env.map(Into::into),
            ..Upstream::default()
        });
        Config { upstreams: upstreams.collect(), ..Config::default() }
    }

    #[test]
    fn models_choose_upstreams_in_order() {
        let config = config(&[
            ("http://a", &["gpt-", "o1"], None),
            ("http://b", &["claude-"], None),
            ("http://c", &[], None),
        ]);
        assert_eq!(candidates(&config, Some("gpt-5"), false, false), [0, 2]);
        assert_eq!(candidates(&config, Some("claude-5"), false, false), [1, 2]);
        assert_eq!(candidates(&config, Some(""), false, false), [2]);
    }

    #[test]
    fn a_key_goes_to_nobody_but_whom_it_is_meant_for() {
        let some = config(&[
            ("https://a", &["gpt-"], None),
            ("https://b", &[], None),
            ("https://a/other", &[], None),
            ("https://c", &[], Some("C_KEY")),
        ]);
        assert_eq!(candidates(&some, Some("gpt-5"), false, true), [0, 2, 3]);
        assert_eq!(candidates(&some, Some("x"), false, true), [1, 3]);
        let own = config(&[
            ("https://a", &[], Some("A_KEY")),
            ("https://a", &[], None),
            ("https://b", &[], Some("B_KEY")),
        ]);
        assert_eq!(candidates(&own, Some("x"), false, true), [0, 2]);
    }

    #[test]
    fn without_a_model_the_kind_of_client_decides() {
        let two = config(&[("https://a", &["gpt-"], None), ("https://b", &["claude-"], None)]);
        assert_eq!(candidates(&two, None, false, true), [0]);
        assert_eq!(candidates(&two, None, true, true), [1]);
        let turned = config(&[("https://b", &["claude-"], None), ("https://a", &[], None)]);
        assert_eq!(candidates(&turned, None, false, true), [1]);
        assert_eq!(candidates(&turned, None, true, true), [0]);
    }

    #[test]
    fn keys_are_known_by_their_names() {
        for name in
            ["authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie", "x-amz-security-token"]
        {
            assert!(is_credential(name), "{name}");
        }
        for name in ["content-type", "idempotency-key", "anthropic-version", "openai-organization"] {
            assert!(!is_credential(name), "{name}");
        }
    }
}
