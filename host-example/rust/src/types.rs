//! The contract's records, as this crate speaks of them. All counts are tokens.

use crate::bindings::exports::thread_budget::registry::types;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How urgent a crossed threshold is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Early: plan the rest of the work. 75 % by default.
    Warning,
    /// Soon: finish the current step, summarise or escalate. 90 % by default.
    Critical,
    /// Last chance: the next request may be refused. 95 % by default.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Threshold {
    /// Whole percent of the limit, 1 to 100.
    pub percent: u32,
    /// What the warning is called.
    pub severity: Severity,
}

/// What one thread has consumed, at the moment of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Prompt tokens, summed over all requests.
    pub prompt_tokens: u64,
    /// Completion tokens, summed over all requests.
    pub completion_tokens: u64,
    /// Both together; may pass `max_tokens`, since what was spent is recorded.
    pub total_tokens: u64,
    /// Tokens left, 0 once the limit is reached or passed.
    pub remaining: u64,
    /// The thread's limit: that of its creation, or of the latest `set_limit`.
    pub max_tokens: u64,
    /// How many times consumption was recorded.
    pub request_count: u64,
}

/// A threshold that a call crossed, with the numbers after that call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThresholdCrossed {
    /// The thread whose threshold was crossed.
    pub thread_id: String,
    /// The threshold, whole percent, 1 to 100.
    pub threshold_percent: u32,
    /// The threshold's severity.
    pub severity: Severity,
    /// Percent used, rounded to one decimal; above 100 on overshoot.
    pub percent_used: f64,
    /// Total tokens used.
    pub tokens_used: u64,
    /// Tokens left, never below 0.
    pub tokens_remaining: u64,
    /// The thread's limit.
    pub max_tokens: u64,
}

/// What a recorded consumption led to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Consumed {
    /// Usage after the call.
    pub usage: Usage,
    /// The thresholds this call crossed: the thread's own, ascending by percent, then those of its
    /// ancestors, nearest first. Mostly empty.
    pub crossed: Vec<ThresholdCrossed>,
    /// Whether `consume_once` knew the request, so that nothing was counted. False for other calls.
    pub repeated: bool,
}

/// One entry of a batch: what one request of a thread used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageEntry {
    /// The thread; created when it does not exist.
    pub thread_id: String,
    /// Prompt tokens.
    pub prompt_tokens: u64,
    /// Completion tokens.
    pub completion_tokens: u64,
}

/// What a thread is opened with. The default asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadOptions {
    /// Its own limit, in tokens; the registry's limit of that moment when left out.
    #[serde(default)]
    pub max_tokens: Option<u64>,
    /// An existing thread that what this one uses and holds counts against as well.
    #[serde(default)]
    pub parent: Option<String>,
}

/// Everything about one thread but its holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadState {
    /// The thread's id.
    pub thread_id: String,
    /// Its parent's id, if it has one.
    pub parent: Option<String>,
    /// Whether it was given a limit or a parent of its own, which it keeps over a reset.
    pub opened: bool,
    /// Its limit, in tokens.
    pub max_tokens: u64,
    /// Prompt tokens, summed over all requests.
    pub prompt_tokens: u64,
    /// Completion tokens, summed over all requests.
    pub completion_tokens: u64,
    /// How many times consumption was recorded.
    pub request_count: u64,
    /// The thresholds crossed so far, percent, ascending.
    pub triggered_thresholds: Vec<u32>,
    /// Those of them that `take_warnings` has not handed out, ascending.
    pub undelivered_thresholds: Vec<Threshold>,
    /// The request ids that `consume_once` remembers, oldest first.
    pub request_ids: Vec<String>,
}

/// Why a check refused: the budget is used up, or the estimate does not fit in what is left, which
/// does not include what live reservations hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("thread {thread_id}: {used} of {max_tokens} tokens are used{held}, a request of {requested} does not fit", held = self.held())]
pub struct BudgetExhausted {
    /// The thread that has no room: the one that was checked, or an ancestor of it.
    pub thread_id: String,
    /// Total tokens used so far.
    pub used: u64,
    /// The thread's limit.
    pub max_tokens: u64,
    /// The estimate that was asked for.
    pub requested: u64,
}

impl BudgetExhausted {
    /// Where there would be room but for reservations, says so.
    fn held(&self) -> &'static str {
        let fits = self.used < self.max_tokens && self.requested <= self.max_tokens - self.used;
        if fits { " and others held" } else { "" }
    }
}

/// The last word on a thread that was cleaned up, for logging and billing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinalBudget {
    /// Usage at the end.
    pub usage: Usage,
    /// `total / max * 100`, not rounded; 0 when the limit is 0.
    pub percent_used: f64,
    /// Every threshold that was crossed, percent, ascending.
    pub triggered_thresholds: Vec<u32>,
}

/// The payload an agent reads when its thread crossed a threshold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BudgetWarning {
    /// Percent used, rounded to one decimal.
    pub percent_used: f64,
    /// Total tokens used.
    pub tokens_used: u64,
    /// Tokens left before the thread is refused.
    pub tokens_remaining: u64,
    /// The thread's limit.
    pub max_tokens: u64,
    /// How urgent it is.
    pub severity: Severity,
    /// What to tell the agent.
    pub message: String,
}

impl From<Severity> for types::Severity {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Warning => Self::Warning,
            Severity::Critical => Self::Critical,
            Severity::Final => Self::Final,
        }
    }
}

impl From<types::Severity> for Severity {
    fn from(severity: types::Severity) -> Self {
        match severity {
            types::Severity::Warning => Self::Warning,
            types::Severity::Critical => Self::Critical,
            types::Severity::Final => Self::Final,
        }
    }
}

impl From<&Threshold> for types::Threshold {
    fn from(&Threshold { percent, severity }: &Threshold) -> Self {
        Self { percent, severity: severity.into() }
    }
}

impl From<types::Threshold> for Threshold {
    fn from(types::Threshold { percent, severity }: types::Threshold) -> Self {
        Self { percent, severity: severity.into() }
    }
}

/// Translate a record field by field; a field that is added or renamed stops compiling.
macro_rules! translate {
    ($from:path => $to:path { $($field:ident),* }) => {
        impl From<$from> for $to {
            fn from($from { $($field),* }: $from) -> Self {
                Self { $($field: $field.into()),* }
            }
        }
    };
}

translate!(types::Usage => Usage {
    prompt_tokens, completion_tokens, total_tokens, remaining, max_tokens, request_count
});
translate!(types::ThresholdCrossed => ThresholdCrossed {
    thread_id, threshold_percent, severity, percent_used, tokens_used, tokens_remaining, max_tokens
});
translate!(ThresholdCrossed => types::ThresholdCrossed {
    thread_id, threshold_percent, severity, percent_used, tokens_used, tokens_remaining, max_tokens
});
translate!(types::BudgetExhausted => BudgetExhausted { thread_id, used, max_tokens, requested });
translate!(types::FinalBudget => FinalBudget { usage, percent_used, triggered_thresholds });
translate!(types::BudgetWarning => BudgetWarning {
    percent_used, tokens_used, tokens_remaining, max_tokens, severity, message
});

translate!(UsageEntry => types::UsageEntry { thread_id, prompt_tokens, completion_tokens });
translate!(ThreadOptions => types::ThreadOptions { max_tokens, parent });

/// Where a field is a list of records, each is translated.
pub(crate) fn each<T, U: From<T>>(list: Vec<T>) -> Vec<U> {
    list.into_iter().map(Into::into).collect()
}

impl From<&UsageEntry> for types::UsageEntry {
    fn from(entry: &UsageEntry) -> Self {
        entry.clone().into()
    }
}

impl From<types::Consumed> for Consumed {
    fn from(types::Consumed { usage, crossed, repeated }: types::Consumed) -> Self {
        Self { usage: usage.into(), crossed: each(crossed), repeated }
    }
}

impl From<Threshold> for types::Threshold {
    fn from(threshold: Threshold) -> Self {
        (&threshold).into()
    }
}

/// Translate a thread's state, both ways.
macro_rules! translate_state {
    ($from:path => $to:path) => {
        impl From<$from> for $to {
            fn from(state: $from) -> Self {
                let $from {
                    thread_id,
                    parent,
                    opened,
                    max_tokens,
                    prompt_tokens,
                    completion_tokens,
                    request_count,
                    triggered_thresholds,
                    undelivered_thresholds,
                    request_ids,
                } = state;
                Self {
                    thread_id,
                    parent,
                    opened,
                    max_tokens,
                    prompt_tokens,
                    completion_tokens,
                    request_count,
                    triggered_thresholds,
                    undelivered_thresholds: each(undelivered_thresholds),
                    request_ids,
                }
            }
        }
    };
}

translate_state!(ThreadState => types::ThreadState);
translate_state!(types::ThreadState => ThreadState);
