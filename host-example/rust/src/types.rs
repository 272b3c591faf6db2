//! The contract's records. What crosses into the component and back is made of these. All counts are tokens.

use serde::{Deserialize, Serialize};
use std::fmt;
use wasmtime::component::{ComponentType, Lift, Lower};

/// How urgent a crossed threshold is.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ComponentType,
    Lift,
    Lower,
)]
#[component(enum)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Severity {
    /// Early: plan the rest of the work. 75 % by default.
    #[component(name = "warning")]
    Warning,
    /// Soon: finish the current step, summarise or escalate. 90 % by default.
    #[component(name = "critical")]
    Critical,
    /// Last chance: the next request may be refused. 95 % by default.
    #[component(name = "final")]
    Final,
}

impl Severity {
    /// Every severity, least urgent first.
    pub const ALL: [Self; 3] = [Self::Warning, Self::Critical, Self::Final];

    /// Its name in the contract: `warning`, `critical` or `final`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Final => "final",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A share of the limit at which a thread is warned, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(record)]
pub struct Threshold {
    /// Whole percent of the limit, 1 to 100.
    pub percent: u32,
    /// What the warning is called.
    pub severity: Severity,
}

/// What one thread has consumed, at the moment of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(record)]
pub struct Usage {
    /// Prompt tokens, summed over all requests.
    #[component(name = "prompt-tokens")]
    pub prompt_tokens: u64,
    /// Completion tokens, summed over all requests.
    #[component(name = "completion-tokens")]
    pub completion_tokens: u64,
    /// Both together; may pass `max_tokens`, since what was spent is recorded.
    #[component(name = "total-tokens")]
    pub total_tokens: u64,
    /// Tokens left, 0 once the limit is reached or passed.
    pub remaining: u64,
    /// The thread's limit: that of its creation, or of the latest `set_limit`.
    #[component(name = "max-tokens")]
    pub max_tokens: u64,
    /// How many times consumption was recorded.
    #[component(name = "request-count")]
    pub request_count: u64,
}

/// A threshold that a call crossed, with the numbers after that call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(record)]
pub struct ThresholdCrossed {
    /// The thread whose threshold was crossed.
    #[component(name = "thread-id")]
    pub thread_id: String,
    /// The threshold, whole percent, 1 to 100.
    #[component(name = "threshold-percent")]
    pub threshold_percent: u32,
    /// The threshold's severity.
    pub severity: Severity,
    /// Percent used, rounded to one decimal; above 100 on overshoot.
    #[component(name = "percent-used")]
    pub percent_used: f64,
    /// Total tokens used.
    #[component(name = "tokens-used")]
    pub tokens_used: u64,
    /// Tokens left, never below 0.
    #[component(name = "tokens-remaining")]
    pub tokens_remaining: u64,
    /// The thread's limit.
    #[component(name = "max-tokens")]
    pub max_tokens: u64,
    /// How many requests like the latest ones still fit; none before the thread has used a token.
    pub runway: Option<u64>,
}

/// The payload an agent reads when its thread crossed a threshold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(record)]
pub struct BudgetWarning {
    /// The thread whose threshold was crossed.
    #[component(name = "thread-id")]
    pub thread_id: String,
    /// The threshold, whole percent, 1 to 100.
    #[component(name = "threshold-percent")]
    pub threshold_percent: u32,
    /// Percent used, rounded to one decimal.
    #[component(name = "percent-used")]
    pub percent_used: f64,
    /// Total tokens used.
    #[component(name = "tokens-used")]
    pub tokens_used: u64,
    /// Tokens left before the thread is refused.
    #[component(name = "tokens-remaining")]
    pub tokens_remaining: u64,
    /// The thread's limit.
    #[component(name = "max-tokens")]
    pub max_tokens: u64,
    /// How many requests like the latest ones still fit; none before the thread has used a token.
    pub runway: Option<u64>,
    /// How urgent it is.
    pub severity: Severity,
    /// What to tell the agent.
    pub message: String,
}

impl BudgetWarning {
    /// What says that the agent has it, for `acknowledge_warnings`.
    #[must_use]
    pub fn acknowledgement(&self) -> Acknowledgement {
        Acknowledgement { threshold_percent: self.threshold_percent, max_tokens: self.max_tokens }
    }
}

/// Names a pending warning that the agent has been given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(record)]
pub struct Acknowledgement {
    /// The warning's threshold, whole percent, 1 to 100.
    #[component(name = "threshold-percent")]
    pub threshold_percent: u32,
    /// The limit that the warning named. Where `set_limit` has changed it since, the warning stays pending.
    #[component(name = "max-tokens")]
    pub max_tokens: u64,
}

/// Why a check refused: the budget is used up, or the estimate does not fit in what is left beside what
/// is held.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, ComponentType, Lift, Lower,
)]
#[component(record)]
#[error(
    "thread {thread_id}: {used} of {max_tokens} tokens are used{}, {requested} more do not fit",
    also_held(*held)
)]
pub struct BudgetExhausted {
    /// The thread that has no room: the one that was checked, or its nearest ancestor without room.
    #[component(name = "thread-id")]
    pub thread_id: String,
    /// Total tokens used so far.
    pub used: u64,
    /// Tokens held in that thread and below it, the hold that was to be changed apart.
    pub held: u64,
    /// The thread's limit.
    #[component(name = "max-tokens")]
    pub max_tokens: u64,
    /// What was asked for: the estimate of a check; prompt and least completion of a hold.
    pub requested: u64,
}

fn also_held(held: u64) -> String {
    if held == 0 { String::new() } else { format!(" and {held} are held") }
}

/// What a hold is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldTerms {
    /// Prompt tokens.
    pub prompt_tokens: u64,
    /// Completion tokens.
    pub completion_tokens: u64,
    /// What the completion may be cut down to where it does not fit.
    pub least_completion_tokens: u64,
    /// Who holds it, see [`Registry::holder`](crate::Registry::holder).
    pub holder: u64,
    /// Until when its holder answers for it, in milliseconds since the beginning of 1970.
    pub deadline: u64,
}

/// What a hold was granted, and where its thread stands. Where the hold has moved to an ancestor, all but
/// `completion_tokens` is of that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(record)]
pub struct Held {
    /// The completion tokens held: what was asked for, cut down to what is left, never below the least.
    #[component(name = "completion-tokens")]
    pub completion_tokens: u64,
    /// The thread's usage, which a hold is no part of.
    pub usage: Usage,
    /// What the thread has left beside what is used and held, this hold included: the least of its own
    /// and that of all its ancestors, never below 0.
    pub room: u64,
    /// The most urgent severity the thread has crossed under its limit, if any.
    pub severity: Option<Severity>,
    /// How many requests like the latest ones still fit, see [`BudgetWarning::runway`].
    pub runway: Option<u64>,
    /// The thread's pending warnings, ascending by percent.
    pub pending: Vec<BudgetWarning>,
    /// Whether the thread remembers the request: it was settled, and nothing is held.
    pub repeated: bool,
}

/// What a recorded consumption led to, and where its thread stands. Where a hold of a thread that is gone
/// was settled, all of it is of the ancestor that was charged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(record)]
pub struct Consumed {
    /// Usage after the call.
    pub usage: Usage,
    /// What the thread has left beside what is used and held: the least of its own and that of all its
    /// ancestors, never below 0.
    pub room: u64,
    /// The most urgent severity the thread has crossed under its limit, if any.
    pub severity: Option<Severity>,
    /// The thresholds this call crossed: the thread's own, ascending by percent, then those of its
    /// ancestors, nearest first. Mostly empty.
    pub crossed: Vec<ThresholdCrossed>,
    /// Whether `settle` or `settle_lost` knew the request, so that nothing was counted. False for other
    /// calls.
    pub repeated: bool,
}

/// One entry of a batch: what one request of a thread used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(record)]
pub struct UsageEntry {
    /// The thread; created when it does not exist.
    #[component(name = "thread-id")]
    pub thread_id: String,
    /// Prompt tokens.
    #[component(name = "prompt-tokens")]
    pub prompt_tokens: u64,
    /// Completion tokens.
    #[component(name = "completion-tokens")]
    pub completion_tokens: u64,
}

/// What a thread is opened with. The default asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(record)]
pub struct ThreadOptions {
    /// Its own limit, in tokens; the registry's limit of that moment when left out.
    #[serde(default)]
    #[component(name = "max-tokens")]
    pub max_tokens: Option<u64>,
    /// An existing thread that what this one uses and holds counts against as well.
    #[serde(default)]
    pub parent: Option<String>,
}

/// Everything about one thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(record)]
pub struct ThreadState {
    /// The thread's id.
    #[component(name = "thread-id")]
    pub thread_id: String,
    /// Tells it from other threads that had its id before or have it after, see
    /// `set-next-birth` in the contract.
    pub birth: u64,
    /// Its parent's id, if it has one.
    pub parent: Option<String>,
    /// Whether it was given a limit or a parent of its own, which it keeps over a reset.
    pub opened: bool,
    /// Its limit, in tokens.
    #[component(name = "max-tokens")]
    pub max_tokens: u64,
    /// Prompt tokens, summed over all requests.
    #[component(name = "prompt-tokens")]
    pub prompt_tokens: u64,
    /// Completion tokens, summed over all requests.
    #[component(name = "completion-tokens")]
    pub completion_tokens: u64,
    /// How many times consumption was recorded.
    #[component(name = "request-count")]
    pub request_count: u64,
    /// The average tokens of its requests, the latest counting most.
    #[component(name = "average-tokens")]
    pub average_tokens: u64,
    /// The thresholds crossed, with the severity they were crossed with, ascending.
    #[component(name = "triggered-thresholds")]
    pub triggered_thresholds: Vec<Threshold>,
    /// Those of them, percent, ascending, whose warnings are pending.
    #[component(name = "pending-thresholds")]
    pub pending_thresholds: Vec<u32>,
    /// The request ids that it remembers, oldest first.
    #[component(name = "request-ids")]
    pub request_ids: Vec<String>,
    /// What is held of it, in the order in which it was first held.
    pub holds: Vec<HoldState>,
    /// The marks of requests it was charged for, oldest first.
    pub lost: Vec<LostState>,
}

impl ThreadState {
    /// The thresholds whose warnings are pending, with their severities, ascending.
    pub fn pending(&self) -> impl Iterator<Item = Threshold> {
        let is_pending = |threshold: &&Threshold| self.pending_thresholds.contains(&threshold.percent);
        self.triggered_thresholds.iter().filter(is_pending).copied()
    }
}

/// A hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(record)]
pub struct HoldState {
    /// The thread that it was made for, when that is gone and this is the ancestor it moved to.
    #[component(name = "made-for")]
    pub made_for: Option<String>,
    /// Its request.
    #[component(name = "request-id")]
    pub request_id: String,
    /// Prompt tokens held.
    #[component(name = "prompt-tokens")]
    pub prompt_tokens: u64,
    /// Completion tokens held.
    #[component(name = "completion-tokens")]
    pub completion_tokens: u64,
    /// Completion tokens held before the latest increase: what a stream has surely had. 0 at first.
    #[component(name = "completion-before")]
    pub completion_before: u64,
    /// Who made it.
    pub holder: u64,
    /// Until when its holder answers for it.
    pub deadline: u64,
}

/// The mark of a request that was charged and may be settled once more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(record)]
pub struct LostState {
    /// The thread that it was made for, when that is gone and this is the ancestor that was charged.
    #[component(name = "made-for")]
    pub made_for: Option<String>,
    /// The request.
    #[component(name = "request-id")]
    pub request_id: String,
    /// Prompt tokens charged.
    #[component(name = "prompt-tokens")]
    pub prompt_tokens: u64,
    /// Completion tokens charged.
    #[component(name = "completion-tokens")]
    pub completion_tokens: u64,
}

/// Which threads have changed since it was asked last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(record)]
pub struct Changes {
    /// The states of now of threads that have changed or are new, ascending by thread id (byte order).
    pub changed: Vec<ThreadState>,
    /// The ids of threads that were there and are there no longer, ascending; also of some that have come and
    /// gone meanwhile.
    pub gone: Vec<String>,
}

/// The last word on a thread that was cleaned up, for logging and billing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(record)]
pub struct FinalBudget {
    /// Usage at the end.
    pub usage: Usage,
    /// `total / max * 100`, not rounded; 0 when the limit is 0.
    #[component(name = "percent-used")]
    pub percent_used: f64,
    /// Every threshold that was crossed, percent, ascending.
    #[component(name = "triggered-thresholds")]
    pub triggered_thresholds: Vec<u32>,
}

/// What the component says of a call that it did not carry out. This crate's own account is
/// [`CallError`](crate::CallError); hosts that run components which speak of the registry need this one.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub enum RegistryError {
    /// As [`CallError::Refused`](crate::CallError::Refused).
    #[component(name = "exhausted")]
    Exhausted(BudgetExhausted),
    /// What is wrong with the thread id.
    #[component(name = "invalid-thread-id")]
    InvalidThreadId(String),
    /// The most threads there may be.
    #[component(name = "too-many-threads")]
    TooManyThreads(u32),
    /// The percent that is out of range or there twice.
    #[component(name = "invalid-threshold")]
    InvalidThreshold(u32),
    /// The instance's memory is used up.
    #[component(name = "out-of-memory")]
    OutOfMemory,
    /// The parent asked for.
    #[component(name = "unknown-parent")]
    UnknownParent(String),
    /// The parent asked for.
    #[component(name = "parent-cycle")]
    ParentCycle(String),
    /// The most threads there may be in a line.
    #[component(name = "too-deep")]
    TooDeep(u32),
    /// The thread.
    #[component(name = "options-differ")]
    OptionsDiffer(String),
    /// What is wrong with the request id.
    #[component(name = "invalid-request-id")]
    InvalidRequestId(String),
    /// The most holds of a thread.
    #[component(name = "too-many-holds")]
    TooManyHolds(u32),
    /// Nothing is held for that request, and nothing was counted.
    #[component(name = "unknown-hold")]
    UnknownHold,
    /// The most entries of a batch.
    #[component(name = "batch-too-large")]
    BatchTooLarge(u32),
    /// Which thread's state cannot be, and why.
    #[component(name = "invalid-state")]
    InvalidState(String),
}
