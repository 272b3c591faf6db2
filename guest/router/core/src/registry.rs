//! What the registry is asked and says: the part of its contract that the router needs, in its words.

use crate::config::Severity;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What a thread has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Usage {
    /// Prompt tokens.
    pub prompt_tokens: u64,
    /// Completion tokens.
    pub completion_tokens: u64,
    /// Both together.
    pub total_tokens: u64,
    /// Tokens left before the limit.
    pub remaining: u64,
    /// The limit.
    pub max_tokens: u64,
    /// How many times consumption was recorded.
    pub request_count: u64,
}

/// What a hold was granted, and where its thread stands.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Held {
    /// The completion tokens held.
    pub completion_tokens: u64,
    /// The thread's usage, which the hold is no part of.
    pub usage: Usage,
    /// What the thread and all its ancestors have left beside what is used and held, this hold included.
    pub room: u64,
    /// The most urgent severity that the thread has crossed.
    pub severity: Option<Severity>,
    /// How many requests like the latest ones still fit in the room.
    pub runway: Option<u64>,
    /// What the agent has not been told yet.
    pub pending: Vec<BudgetWarning>,
    /// Whether the request was settled before, and nothing is held.
    pub repeated: bool,
}

/// What a settle led to, and where the thread stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Consumed {
    /// The thread's usage.
    pub usage: Usage,
    /// What the thread and all its ancestors have left beside what is used and held.
    pub room: u64,
    /// The most urgent severity that the thread has crossed.
    pub severity: Option<Severity>,
    /// Whether the request was known, and nothing was counted.
    pub repeated: bool,
}

/// A crossed threshold that the agent has not been told of.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetWarning {
    /// The threshold, whole percent.
    pub threshold_percent: u32,
    /// The thread's limit.
    pub max_tokens: u64,
    /// What to tell.
    pub message: String,
}

/// Names a warning that the agent has been given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledgement {
    /// The threshold, whole percent.
    pub threshold_percent: u32,
    /// The limit that the warning named.
    pub max_tokens: u64,
}

/// What a thread is opened with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThreadOptions {
    /// Its own limit.
    pub max_tokens: Option<u64>,
    /// Its parent.
    pub parent: Option<String>,
}

/// A thread to open before a hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Opening {
    /// The thread.
    pub thread_id: String,
    /// What it is opened with.
    pub options: ThreadOptions,
}

/// Why a hold does not fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetExhausted {
    /// The thread that has no room: the one asked for, or an ancestor.
    pub thread_id: String,
    /// What it has used.
    pub used: u64,
    /// What is held in it and below, the hold that was to be changed apart.
    pub held: u64,
    /// Its limit.
    pub max_tokens: u64,
    /// What was asked for: prompt and least completion.
    pub requested: u64,
}

/// Why the registry did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistryError {
    /// It does not fit.
    Exhausted(BudgetExhausted),
    /// The thread's id is none; the text says why.
    InvalidThreadId(String),
    /// There are so many threads, and there may be no more.
    TooManyThreads(u32),
    /// The parent does not exist.
    UnknownParent(String),
    /// The parent is the thread itself, or below it.
    ParentCycle(String),
    /// A line of threads has at most so many.
    TooDeep(u32),
    /// The thread exists with another limit or parent.
    OptionsDiffer(String),
    /// The thread has so many requests under way, and may have no more.
    TooManyHolds(u32),
    /// Nothing is held for the request.
    UnknownHold,
    /// Anything else, in words.
    Other(String),
}
