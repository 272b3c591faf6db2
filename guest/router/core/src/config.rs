//! What an operator can set.

use crate::upstream::{Base, is_credential};
use crate::weights::Weights;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{borrow::ToOwned, vec};
use serde::{Deserialize, Serialize};

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
    /// How further kinds of clients name their sessions, asked before those that the router knows.
    pub clients: Vec<ClientNames>,
    /// What becomes of a request that names no thread.
    pub unidentified: Unidentified,
    /// The budgets that threads share, the outermost first.
    pub scopes: Vec<Scope>,
    /// What becomes of paths below `/v1` that no budget applies to.
    pub unmetered_paths: UnmeteredPaths,
    /// How much output is held at first for an answer that is a stream or whose length nobody has said, and
    /// how much more each time a stream has used that up, in tokens. At least 1.
    pub completion_slice: u64,
    /// Whether a stream that passes its thread's budget is ended with an event that says so.
    pub cut_streams: bool,
    /// What is charged for a request that was sent and got no definite answer.
    pub lost_calls: LostCalls,
    /// The status of a response that says that the budget is used up, 400 to 499. Agents show the reason after
    /// one request when it is 400, and try again for minutes when it is 429.
    pub refusal_status: u16,
    /// How long a request waits that would fit but for what requests under way hold, in milliseconds, before
    /// it is answered with 429.
    pub hold_wait_ms: u64,
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
    /// How long the hold of a response stays that its provider makes in the background, in milliseconds, before it
    /// is charged as it is.
    pub background_timeout_ms: u64,
    /// The registry's thresholds, by which `x-budget-warning` names the severity in a refusal.
    pub thresholds: Vec<Threshold>,
}

/// An LLM provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    /// What the provider's own clients take as their base URL: `http://` or `https://`, host, perhaps a port, a
    /// path and a query, such as `https://api.openai.com` or `https://host/openai/deployments/x?api-version=1`.
    pub url: String,
    /// It is asked for models that begin with one of these; for all when there are none.
    pub models: Vec<String>,
    /// The environment variable that holds this provider's key. Requests to it carry that key instead of the
    /// client's. Without one, it gets the client's key only where that is meant for it: as the first for
    /// the model, or with the same scheme, host and port as the first.
    pub key_env: Option<String>,
    /// The header that the key of `key_env` goes in; by default `x-api-key` for Anthropic's API and
    /// `authorization` for others.
    pub key_header: Option<String>,
    /// What its models' tokens count for in a budget; the first that name a model count. 1 where none do. A model
    /// whose tokens count for nothing has no budget.
    pub weights: Vec<Weights>,
}

/// How a kind of client names the session, the agent and the parent of a request. Each is a list of headers'
/// names or, behind `body.`, paths of fields in the body, such as `body.metadata.session`; the first that is there
/// counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientNames {
    /// Where it names the session, whose thread has that name. At least one.
    pub session: Vec<String>,
    /// Where it names an agent of the session, whose thread is `session/agent`, below the session's.
    pub agent: Vec<String>,
    /// Where it names the agent's parent or, of a client that gives every agent a session, the parent's session.
    pub parent: Vec<String>,
}

/// What becomes of a request that names no thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unidentified {
    /// No budget applies, and the operator is told.
    #[default]
    Pass,
    /// It is refused.
    Refuse,
    /// It counts in a thread of its key.
    PerKey,
}

/// A budget that threads share: an ancestor of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// What its threads have in common.
    pub by: ScopeBy,
    /// The header of [`ScopeBy::Header`], such as `x-team`.
    #[serde(default)]
    pub header: Option<String>,
    /// How often it begins anew, by UTC; never when it is left out. No less often than the scope around it.
    #[serde(default)]
    pub every: Option<Every>,
    /// Its limit, in tokens.
    pub limit: u64,
}

/// What the threads of a scope have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScopeBy {
    /// Nothing: it is around all.
    All,
    /// The key of their requests. The scope's name has a hash of it.
    Key,
    /// What a header of their requests says; those without it have `none` in common.
    Header,
}

/// How often a scope begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Every {
    /// With each month.
    Month,
    /// With each day.
    Day,
}

/// What becomes of paths below `/v1` that no budget applies to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnmeteredPaths {
    /// What providers ask nothing for is passed on: what reads or deletes, and counting tokens, files and the like.
    /// The rest is answered with 404.
    #[default]
    Free,
    /// All are passed on, also those that cost something, such as `/v1/batches`: no budget counts it.
    Pass,
    /// All are answered with 404.
    Refuse,
}

/// What is charged for a request that was sent and got no definite answer: the connection broke, or a time
/// was over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LostCalls {
    /// Its prompt, and every slice of output but the latest.
    #[default]
    Prompt,
    /// All that was held.
    All,
    /// Nothing.
    Nothing,
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

impl ClientNames {
    /// Headers are found in lower case.
    fn in_lower_case(&mut self) {
        let Self { session, agent, parent } = self;
        let places = session.iter_mut().chain(agent).chain(parent);
        places.filter(|place| !place.starts_with("body.")).for_each(|name| name.make_ascii_lowercase());
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            upstreams: Vec::new(),
            thread_header: "x-thread-id".into(),
            allow_thread_options: false,
            clients: Vec::new(),
            unidentified: Unidentified::default(),
            scopes: Vec::new(),
            unmetered_paths: UnmeteredPaths::default(),
            completion_slice: 4_096,
            cut_streams: true,
            lost_calls: LostCalls::default(),
            refusal_status: 400,
            hold_wait_ms: 2_000,
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
            background_timeout_ms: 3_600_000,
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
    #[error("{0}")]
    Syntax(#[from] serde_json::Error),
    /// It is not what [`Config::compiled`] gives.
    #[error("not a compiled configuration of this version")]
    Compiled(#[from] postcard::Error),
    /// It names no upstream.
    #[error("no upstream: name at least one, such as https://api.openai.com")]
    NoUpstream,
    /// An upstream's URL is not one.
    #[error(
        "upstreams.url: {url:?}: expected http:// or https://, a host, and perhaps a port, a path and a query"
    )]
    Upstream {
        /// What was given.
        url: String,
    },
    /// A header's name is not one, or has a meaning of its own.
    #[error("{setting}: {name:?} is no header that can be used for that")]
    Header {
        /// The setting.
        setting: &'static str,
        /// What was given.
        name: String,
    },
    /// A kind of client has no place for the name of its session.
    #[error("router.clients: each names its session in a header or a field: say which with `session`")]
    Client,
    /// A scope is not what it should be.
    #[error("scopes: {0}")]
    Scope(&'static str),
    /// A number is out of its range.
    #[error("{setting}: {least} to {most}")]
    Range {
        /// The setting.
        setting: &'static str,
        /// The least there may be.
        least: u64,
        /// The most there may be.
        most: u64,
    },
}

impl ConfigError {
    /// The full name of the setting that is wrong, and what it says, where that is a text.
    #[must_use]
    pub fn setting(&self) -> Option<(&'static str, Option<&str>)> {
        match self {
            Self::Syntax(_) | Self::Compiled(_) => None,
            Self::NoUpstream => Some(("upstreams", None)),
            Self::Upstream { url } => Some(("upstreams.url", Some(url))),
            Self::Header { setting, name } => Some((setting, Some(name))),
            Self::Client => Some(("router.clients", None)),
            Self::Scope(_) => Some(("scopes", None)),
            Self::Range { setting, .. } => Some((setting, None)),
        }
    }
}

impl Config {
    /// Read and check a configuration that is a JSON object.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn from_json(json: &str) -> Result<Self, ConfigError> {
        let mut config: Self = serde_json::from_str(json)?;
        config.check()?;
        config.thread_header.make_ascii_lowercase();
        config.clients.iter_mut().for_each(ClientNames::in_lower_case);
        config
            .scopes
            .iter_mut()
            .filter_map(|scope| scope.header.as_mut())
            .for_each(|name| name.make_ascii_lowercase());
        Ok(config)
    }

    /// It in a form that is read in no time.
    ///
    /// # Errors
    /// [`ConfigError::Compiled`] when there is no memory for it.
    pub fn compiled(&self) -> Result<Vec<u8>, ConfigError> {
        Ok(postcard::to_allocvec(self)?)
    }

    /// Read what [`Config::compiled`] gave.
    ///
    /// # Errors
    /// [`ConfigError::Compiled`].
    pub fn from_compiled(compiled: &[u8]) -> Result<Self, ConfigError> {
        Ok(postcard::from_bytes(compiled)?)
    }

    /// Whether a router can work by it.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.upstreams.is_empty() {
            return Err(ConfigError::NoUpstream);
        }
        for Upstream { url, key_header, .. } in &self.upstreams {
            if Base::of(url).is_none() {
                return Err(ConfigError::Upstream { url: url.clone() });
            }
            if let Some(name) = key_header {
                check_header("upstreams.key_header", name)?;
            }
        }
        check_naming_header("router.thread_header", &self.thread_header)?;
        check_clients(&self.clients)?;
        check_scopes(&self.scopes)?;
        check_range("router.refusal_status", u64::from(self.refusal_status), 400, 499)?;
        check_range("router.completion_slice", self.completion_slice, 1, u64::from(u32::MAX))
    }
}

/// Whether a header can be used. HTTP's own say something about a message or a connection.
fn check_header(setting: &'static str, name: &str) -> Result<(), ConfigError> {
    const OF_CONNECTIONS: [&str; 11] = [
        "connection",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "www-authenticate",
    ];
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let lower = name.to_ascii_lowercase();
    let is_https = OF_CONNECTIONS.contains(&&*lower)
        || ["content-", "proxy-", "sec-"].iter().any(|start| lower.starts_with(start));
    if name.is_empty() || is_https || !name.bytes().all(is_token) {
        return Err(ConfigError::Header { setting, name: name.to_owned() });
    }
    Ok(())
}

/// The same of a header that names a thread or what threads have in common: it is shown to operators, and a
/// client's key is none of theirs. What all clients send alike names nothing.
fn check_naming_header(setting: &'static str, name: &str) -> Result<(), ConfigError> {
    check_header(setting, name)?;
    let lower = name.to_ascii_lowercase();
    if is_credential(&lower)
        || ["accept", "idempotency-key", "user-agent"].contains(&&*lower)
        || lower.starts_with("accept-")
    {
        return Err(ConfigError::Header { setting, name: name.to_owned() });
    }
    Ok(())
}

fn check_clients(clients: &[ClientNames]) -> Result<(), ConfigError> {
    for ClientNames { session, agent, parent } in clients {
        if session.is_empty() {
            return Err(ConfigError::Client);
        }
        for place in session.iter().chain(agent).chain(parent) {
            if !place.starts_with("body.") {
                check_naming_header("router.clients", place)?;
            }
        }
    }
    Ok(())
}

fn check_scopes(scopes: &[Scope]) -> Result<(), ConfigError> {
    for scope in scopes {
        match (scope.by, &scope.header) {
            (ScopeBy::Header, Some(name)) => check_naming_header("scopes.header", name)?,
            (ScopeBy::Header, None) => return Err(ConfigError::Scope("by = \"header\" needs `header`")),
            (_, Some(_)) => return Err(ConfigError::Scope("`header` goes with by = \"header\"")),
            (_, None) => {}
        }
    }
    // A window within another one cannot be the longer one.
    if scopes.is_sorted_by_key(|scope| scope.every) {
        Ok(())
    } else {
        Err(ConfigError::Scope("an outer one begins anew no more often than one within it: none, month, day"))
    }
}

fn check_range(setting: &'static str, value: u64, least: u64, most: u64) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) { Ok(()) } else { Err(ConfigError::Range { setting, least, most }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_enough() {
        let config = Config::from_json(r#"{"upstreams":[{"url":"https://api.openai.com"}]}"#).unwrap();
        assert_eq!(config.thread_header, "x-thread-id");
        assert_eq!(Config::from_json(&serde_json::to_string(&config).unwrap()).unwrap(), config);
        assert_eq!(Config::from_compiled(&config.compiled().unwrap()).unwrap(), config);
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for json in [
            "",
            "{}",
            r#"{"upstreams":[]}"#,
            r#"{"upstreams":[{"url":"api.openai.com"}]}"#,
            r#"{"upstreams":[{"url":"https://host","key_header":"connection"}]}"#,
            r#"{"upstreams":[{"url":"https://host"}],"thread_header":"x id"}"#,
            r#"{"upstreams":[{"url":"https://host"}],"thread_header":"Authorization"}"#,
            r#"{"upstreams":[{"url":"https://host"}],"thread_header":"Content-Language"}"#,
            r#"{"upstreams":[{"url":"https://host"}],"thread_header":"Proxy-Authorization"}"#,
            r#"{"upstreams":[{"url":"https://host"}],"thread_header":"x-goog-api-key"}"#,
            r#"{"upstreams":[{"url":"https://host"}],"clients":[{"session":["authorization"]}]}"#,
            r#"{"upstreams":[{"url":"https://host"}],"scopes":[{"by":"header","header":"x-api-key","limit":1}]}"#,
            r#"{"upstreams":[{"url":"https://host"}],"refusal_status":200}"#,
            r#"{"upstreams":[{"url":"https://host"}],"completion_slice":0}"#,
            r#"{"upstreams":[{"url":"https://host"}],"unknown":1}"#,
        ] {
            assert!(Config::from_json(json).is_err(), "{json}");
        }
        assert!(Config::from_compiled(b"{}").is_err());
    }
}
