//! A case as data: what a client sends, what the providers answer, and what both get.

use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One case: a file of `tests/router`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// What it shows.
    pub(crate) title: String,
    /// Lines of TOML beside what the runner sets: the limit of every thread is 1,000, pauses are short.
    #[serde(default)]
    pub(crate) config: Vec<String>,
    /// Whether budgets are kept in a file.
    #[serde(default)]
    pub(crate) database: bool,
    /// The providers; one for all models when they are left out.
    #[serde(default = "one_for_all")]
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) steps: Vec<Step>,
}

fn one_for_all() -> Vec<Upstream> {
    vec![Upstream::Models(Vec::new())]
}

/// A provider: what its models begin with, and perhaps more of it.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum Upstream {
    Models(Vec<String>),
    More {
        models: Vec<String>,
        /// What its URL ends in.
        #[serde(default)]
        base: String,
        /// The environment variable that has its key. Of those that there are in a test, cargo's say what they say
        /// everywhere: `CARGO_PKG_NAME` is `thread-budget-tests`.
        key_env: Option<String>,
    },
}

impl Upstream {
    /// As a configuration has it, of a provider at that address.
    pub(crate) fn configured(&self, address: &str) -> Value {
        match self {
            Self::Models(models) => json!({"url": address, "models": models}),
            Self::More { models, base, key_env: None } => {
                json!({"url": format!("{address}{base}"), "models": models})
            }
            Self::More { models, base, key_env } => {
                json!({"url": format!("{address}{base}"), "models": models, "key_env": key_env})
            }
        }
    }
}

/// One request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    #[serde(default = "post")]
    pub(crate) method: String,
    #[serde(default = "chat")]
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) headers: Vec<(String, String)>,
    #[serde(default)]
    pub(crate) body: Body,
    /// What the providers answer, whichever is asked, in this order. Each must be asked for.
    #[serde(default)]
    pub(crate) answers: Vec<Answer>,
    #[serde(default)]
    pub(crate) expect: Expect,
    /// What the providers got, in order, where it matters.
    pub(crate) sent: Option<Vec<Sent>>,
    /// Prompt and completion tokens and requests of threads afterwards; null for one that does not exist.
    #[serde(default)]
    pub(crate) usage: BTreeMap<String, Option<[u64; 3]>>,
    /// Whether the router stops and starts again before the request.
    #[serde(default)]
    pub(crate) restart: bool,
    /// What an operator sets before the request: the limits of threads.
    #[serde(default)]
    pub(crate) set_limits: BTreeMap<String, u64>,
}

fn post() -> String {
    "POST".into()
}

fn chat() -> String {
    "/v1/chat/completions".into()
}

/// A body: JSON, or text as it is.
#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Body {
    #[default]
    None,
    Json(Value),
    Text(String),
    /// So many bytes.
    Bytes(usize),
    /// Events of a stream, without the empty line between them.
    Events(Vec<String>),
}

impl Body {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::None => Vec::new(),
            Self::Json(value) => value.to_string().into_bytes(),
            Self::Text(text) => text.clone().into_bytes(),
            Self::Bytes(length) => vec![b'x'; *length],
            Self::Events(events) => {
                events.iter().map(|event| format!("{event}\n\n")).collect::<String>().into()
            }
        }
    }

    /// What kind of content it is, where that is clear.
    pub(crate) fn content_type(&self) -> Option<&'static str> {
        match self {
            Self::Json(_) => Some("application/json"),
            Self::Events(_) => Some("text/event-stream"),
            Self::None | Self::Text(_) | Self::Bytes(_) => None,
        }
    }
}

/// What a provider answers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    #[serde(default = "ok")]
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) headers: Vec<(String, String)>,
    #[serde(default)]
    pub(crate) body: Body,
    /// Whether the connection breaks after that.
    #[serde(default)]
    pub(crate) breaks: bool,
    /// How long nothing comes after that, in milliseconds.
    #[serde(default)]
    pub(crate) pause_ms: u64,
}

fn ok() -> u16 {
    200
}

/// What the client gets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    #[serde(default = "ok")]
    pub(crate) status: u16,
    /// Null for a header that is not there.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Option<String>>,
    /// All of it.
    #[serde(default)]
    pub(crate) body: Body,
    /// A part of it, if the whole does not matter.
    pub(crate) contains: Option<String>,
    /// Whether it breaks off.
    #[serde(default)]
    pub(crate) breaks: bool,
}

impl Default for Expect {
    fn default() -> Self {
        Self { status: ok(), headers: BTreeMap::new(), body: Body::None, contains: None, breaks: false }
    }
}

/// What a provider got.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sent {
    /// Which provider it was.
    #[serde(default)]
    pub(crate) upstream: usize,
    pub(crate) path: Option<String>,
    /// Null for a header that is not there.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Option<String>>,
    #[serde(default)]
    pub(crate) body: Body,
}
