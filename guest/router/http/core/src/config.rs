//! What an operator can set.

use serde::{Deserialize, Serialize};

/// The environment variable that holds the configuration, as JSON.
pub const VARIABLE: &str = "THREAD_BUDGET_ROUTER";

/// The router's configuration. Every field but `upstreams` has a default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The providers, in the order in which they are tried. At least one.
    pub upstreams: Vec<Upstream>,
    /// The request header that names the thread. Its value is 1 to 1,024 bytes.
    pub thread_header: String,
    /// Whether `x-parent-thread-id` and `x-thread-max-tokens` may open a thread below another, or with a
    /// limit of its own. Off by default: whoever can set a limit has none.
    pub allow_thread_options: bool,
    /// What becomes of paths below `/v1` that no budget applies to.
    pub unmetered_paths: UnmeteredPaths,
    /// Whether a stream that passes its thread's budget is ended with an event that says so.
    pub cut_streams: bool,
    /// Whether a warning goes to the end of the answer that crossed the threshold, instead of into the
    /// thread's next request, where the answer has a place for it.
    pub in_band_warnings: bool,
    /// How often a request is sent again to the same upstream after it failed in a way that may pass.
    pub retries: u32,
    /// The pause before the first retry, in milliseconds; each further one is twice as long, and half of
    /// it by chance.
    pub retry_pause_ms: u64,
    /// The longest pause between attempts, in milliseconds, and the longest `Retry-After` that is waited
    /// for; a longer one goes to the next upstream, or to the client.
    pub max_retry_pause_ms: u64,
    /// The longest request body, in bytes.
    pub max_request_bytes: u64,
    /// The longest response that is not a stream, and the longest event of one, in bytes.
    pub max_response_bytes: u64,
    /// How long a client may take to send its request's body, in milliseconds.
    pub request_body_timeout_ms: u64,
    /// How long an upstream may take to be connected to, in milliseconds.
    pub connect_timeout_ms: u64,
    /// How long an upstream may take before the first byte of its answer, in milliseconds.
    pub first_byte_timeout_ms: u64,
    /// How long an upstream may pause within its answer, in milliseconds.
    pub idle_timeout_ms: u64,
    /// How long one request may take in all, in milliseconds, a stream included.
    pub request_timeout_ms: u64,
    /// The registry's thresholds, which the header `x-budget-warning` names by their severities.
    pub thresholds: Vec<Threshold>,
}

/// An LLM provider.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// `http://` or `https://`, host, port and perhaps a path. A request's own path is put behind it, and
    /// a `/v1` that both have is put once.
    pub url: String,
    /// It is asked for models that begin with one of these; for all when there are none.
    #[serde(default)]
    pub models: Vec<String>,
}

/// What becomes of paths below `/v1` that no budget applies to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnmeteredPaths {
    /// They are passed on, and cost nothing.
    #[default]
    Pass,
    /// They are answered with 404.
    Refuse,
}

/// A share of the limit at which a thread is warned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// Whole percent of the thread's limit, 1 to 100.
    pub percent: u32,
    /// What a warning is called.
    pub severity: Severity,
}

/// How urgent a crossed threshold is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Early: plan the rest of the work.
    Warning,
    /// Soon: finish the current step.
    Critical,
    /// Last chance: save state and answer now.
    Final,
}

impl Severity {
    /// Its name, as in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Final => "final",
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            upstreams: Vec::new(),
            thread_header: "x-thread-id".into(),
            allow_thread_options: false,
            unmetered_paths: UnmeteredPaths::default(),
            cut_streams: true,
            in_band_warnings: false,
            retries: 2,
            retry_pause_ms: 500,
            max_retry_pause_ms: 8_000,
            max_request_bytes: 32 << 20,
            max_response_bytes: 32 << 20,
            request_body_timeout_ms: 60_000,
            connect_timeout_ms: 10_000,
            first_byte_timeout_ms: 600_000,
            idle_timeout_ms: 120_000,
            request_timeout_ms: 1_800_000,
            thresholds: vec![
                Threshold { percent: 75, severity: Severity::Warning },
                Threshold { percent: 90, severity: Severity::Critical },
                Threshold { percent: 95, severity: Severity::Final },
            ],
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not JSON of this shape.
    #[error("{VARIABLE}: {0}")]
    Syntax(#[from] serde_json::Error),
    /// It names no upstream.
    #[error("no upstream: name at least one, such as https://api.openai.com")]
    NoUpstream,
    /// An upstream's URL is not one.
    #[error("upstream {url:?}: expected http:// or https://, a host, and perhaps a port and a path")]
    Upstream {
        /// What was given.
        url: String,
    },
    /// The header's name is not one.
    #[error("thread_header {name:?} is not a header's name")]
    ThreadHeader {
        /// What was given.
        name: String,
    },
}

impl Config {
    /// Read and check what [`VARIABLE`] holds.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn from_json(json: &str) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_str(json)?;
        config.check()?;
        Ok(config)
    }

    /// Whether a router can work by it.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.upstreams.is_empty() {
            return Err(ConfigError::NoUpstream);
        }
        if let Some(upstream) = self.upstreams.iter().find(|upstream| upstream.parts().is_none()) {
            return Err(ConfigError::Upstream { url: upstream.url.clone() });
        }
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if self.thread_header.is_empty() || !self.thread_header.bytes().all(is_token) {
            return Err(ConfigError::ThreadHeader { name: self.thread_header.clone() });
        }
        Ok(())
    }
}

/// An upstream's URL, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UrlParts<'a> {
    /// Whether it is `https`.
    pub tls: bool,
    /// Host and port.
    pub authority: &'a str,
    /// What comes before a request's own path, without a `/` or `/v1` at its end.
    pub prefix: &'a str,
}

impl Upstream {
    /// Its URL taken apart; none when it is no URL.
    #[must_use]
    pub fn parts(&self) -> Option<UrlParts<'_>> {
        let (tls, rest) = match self.url.split_once("://")? {
            ("http", rest) => (false, rest),
            ("https", rest) => (true, rest),
            _ => return None,
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_plain =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\\@\"<>".contains(&byte));
        if authority.is_empty() || !is_plain(authority) || !is_plain(path) {
            return None;
        }
        let prefix = path.trim_end_matches('/');
        Some(UrlParts { tls, authority, prefix: prefix.strip_suffix("/v1").unwrap_or(prefix) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_enough() {
        let config = Config::from_json(r#"{"upstreams":[{"url":"https://api.openai.com"}]}"#).unwrap();
        assert_eq!(config.thread_header, "x-thread-id");
        assert_eq!(Config::from_json(&serde_json::to_string(&config).unwrap()).unwrap(), config);
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for json in [
            "",
            "{}",
            r#"{"upstreams":[]}"#,
            r#"{"upstreams":[{"url":"api.openai.com"}]}"#,
            r#"{"upstreams":[{"url":"https://"}]}"#,
            r#"{"upstreams":[{"url":"https://user@host"}]}"#,
            r#"{"upstreams":[{"url":"https://host?x"}]}"#,
            r#"{"upstreams":[{"url":"https://host"}],"thread_header":"x id"}"#,
            r#"{"upstreams":[{"url":"https://host"}],"unknown":1}"#,
        ] {
            assert!(Config::from_json(json).is_err(), "{json}");
        }
    }

    #[test]
    fn urls_are_taken_apart() {
        let parts = |url: &str| {
            let upstream = Upstream { url: url.into(), models: Vec::new() };
            upstream.parts().map(|it| (it.tls, it.authority.to_owned(), it.prefix.to_owned()))
        };
        let expected = |tls, authority: &str, prefix: &str| Some((tls, authority.into(), prefix.into()));
        assert_eq!(parts("https://api.openai.com/v1/"), expected(true, "api.openai.com", ""));
        assert_eq!(parts("http://127.0.0.1:8000"), expected(false, "127.0.0.1:8000", ""));
        assert_eq!(parts("http://[::1]:80/openai/v1"), expected(false, "[::1]:80", "/openai"));
        assert_eq!(parts("https://host/a/"), expected(true, "host", "/a"));
    }
}
