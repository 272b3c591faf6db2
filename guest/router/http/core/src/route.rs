//! Where a request goes.

use crate::config::{Config, Upstream};

/// The upstreams for a model, in the order in which they are tried.
pub fn upstreams<'a>(config: &'a Config, model: &str) -> Vec<&'a Upstream> {
    let serves = |upstream: &&Upstream| {
        upstream.models.is_empty() || upstream.models.iter().any(|prefix| model.starts_with(prefix.as_str()))
    };
    config.upstreams.iter().filter(serves).collect()
}

/// Whether a path means what it says: a provider that tidies up `/v1/./chat/completions` or decodes
/// `/v1/chat%2Fcompletions` would serve without a budget what has one.
#[must_use]
pub fn is_plain(path: &str) -> bool {
    let mut segments = path.trim_end_matches('/').split('/').skip(1);
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte);
    path.starts_with('/')
        && segments.all(|segment| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_safe))
}

/// Whether a path is below `/v1`.
#[must_use]
pub fn is_api(path: &str) -> bool {
    path.strip_prefix("/v1").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_choose_upstreams_in_order() {
        let upstream = |url: &str, models: &[&str]| Upstream {
            url: url.into(),
            models: models.iter().map(|&model| model.into()).collect(),
        };
        let config = Config {
            upstreams: vec![
                upstream("http://a", &["gpt-", "o1"]),
                upstream("http://b", &["claude-"]),
                upstream("http://c", &[]),
            ],
            ..Config::default()
        };
        let urls = |model| upstreams(&config, model).iter().map(|it| it.url.as_str()).collect::<Vec<_>>();
        assert_eq!(urls("gpt-5"), ["http://a", "http://c"]);
        assert_eq!(urls("claude-5"), ["http://b", "http://c"]);
        assert_eq!(urls(""), ["http://c"]);
    }

    #[test]
    fn paths_that_hide_something_are_not_plain() {
        for path in ["/v1/chat/completions", "/v1/chat/completions/", "/v1/models/a:b@c", "/v1"] {
            assert!(is_plain(path), "{path}");
        }
        for path in [
            "v1",
            "/v1//chat/completions",
            "/v1/./chat",
            "/v1/../v1",
            "/v1/chat%2Fcompletions",
            "/v1/a\\b",
            "/v1/\u{e9}",
        ] {
            assert!(!is_plain(path), "{path}");
        }
    }
}
