//! What goes into an exchange and what comes out: the router's contract, `wit/router/policy.wit`, which has
//! the documentation, as Rust types.
#![expect(missing_docs, reason = "the contract documents every field")]

use crate::registry::{Acknowledgement, Consumed, Held, Opening, RegistryError};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What has happened.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    Request(Request),
    Recalled(Option<Kept>),
    Claimed,
    NotClaimed(KeyConflict),
    Held(Held),
    NotHeld(RegistryError),
    Settled(Consumed),
    NotSettled(RegistryError),
    Unavailable(String),
    Answer(Answer),
    #[serde(with = "text")]
    Piece(Vec<u8>),
    Ended,
    Failed(Failure),
    Woke,
    Left,
    Stopping,
}

impl Event {
    /// What it is called.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Request(_) => "request",
            Self::Recalled(_) => "recalled",
            Self::Claimed => "claimed",
            Self::NotClaimed(_) => "not-claimed",
            Self::Held(_) => "held",
            Self::NotHeld(_) => "not-held",
            Self::Settled(_) => "settled",
            Self::NotSettled(_) => "not-settled",
            Self::Unavailable(_) => "unavailable",
            Self::Answer(_) => "answer",
            Self::Piece(_) => "piece",
            Self::Ended => "ended",
            Self::Failed(_) => "failed",
            Self::Woke => "woke",
            Self::Left => "left",
            Self::Stopping => "stopping",
        }
    }
}

/// What a client sent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pub id: String,
    pub chance: u64,
    pub date: String,
    pub method: String,
    pub target: String,
    #[serde(with = "text")]
    pub headers: Vec<u8>,
    pub body: RequestBody,
}

/// The body of a request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestBody {
    #[serde(with = "text")]
    Whole(Vec<u8>),
    TooLong,
    TooSlow,
    Broken,
}

/// What a provider answers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    pub status: u16,
    #[serde(with = "text")]
    pub headers: Vec<u8>,
    #[serde(with = "text")]
    pub body: Vec<u8>,
}

/// Why an idempotency key cannot be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyConflict {
    InFlight,
    OtherBody,
}

/// Why there is no answer, or no more of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    pub kind: FailureKind,
    #[serde(default)]
    pub received_bytes: u64,
    pub reason: String,
}

/// How an attempt at a provider failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    Unsent,
    Lost,
    Slow,
    TooLong,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Turn {
    pub actions: Vec<Action>,
    pub next: Next,
}

/// What is done at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Respond(Response),
    #[serde(with = "text")]
    Bytes(Vec<u8>),
    Release(HoldName),
    Keep(Kept),
    Acknowledge(Acknowledged),
    Unidentified(String),
    Log(LogEntry),
}

/// What is done next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    Recall(String),
    Claim(String),
    Hold(Hold),
    Settle(Settle),
    Send(ProviderRequest),
    Read(u64),
    Wait(u64),
    Resume,
    Done,
}

/// Names a hold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HoldName {
    pub thread_id: String,
    pub request_id: String,
}

/// A hold that stays.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    pub name: String,
    pub hold: HoldName,
    pub upstream: u32,
    pub model: String,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub for_ms: u64,
}

/// What is to be held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hold {
    pub open: Vec<Opening>,
    pub thread_id: String,
    pub request_id: String,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub least_completion_tokens: u64,
}

/// What a request used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Settle {
    pub thread_id: String,
    pub request_id: String,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub remember: bool,
}

/// Warnings that an agent has been given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Acknowledged {
    pub thread_id: String,
    pub warnings: Vec<Acknowledgement>,
}

/// A request to a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProviderRequest {
    pub upstream: u32,
    pub url: String,
    pub remove: Vec<String>,
    pub set: Vec<Header>,
    pub key: Option<OwnKey>,
    #[serde(with = "optional_text")]
    pub body: Option<Vec<u8>>,
    pub whole: bool,
    pub most_bytes: u64,
    pub connect_ms: u64,
    pub head_ms: u64,
    pub idle_ms: u64,
    pub total_ms: u64,
}

/// Where a provider's own key goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnKey {
    pub variable: String,
    pub header: String,
    pub prefix: String,
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Header {
    pub name: String,
    pub value: String,
}

/// What the client gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Response {
    pub status: u16,
    pub passed: bool,
    pub remove: Vec<String>,
    pub set: Vec<Header>,
    pub body: ResponseBody,
}

/// The body of a response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseBody {
    Received,
    #[serde(with = "text")]
    Whole(Vec<u8>),
    Pieces,
}

/// A line for the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogEntry {
    pub level: Level,
    pub text: String,
}

/// How urgent a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Info,
    Warn,
    Error,
}

/// Bytes are text where people read them.
mod text {
    use alloc::string::String;
    use alloc::vec::Vec;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&String::from_utf8_lossy(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        String::deserialize(from).map(String::into_bytes)
    }
}

mod optional_text {
    use alloc::string::String;
    use alloc::vec::Vec;
    use serde::{Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
        bytes.as_deref().map(String::from_utf8_lossy).serialize(to)
    }
}
