//! What calls answer: where a thread stands, and what they did to it.

use crate::budget::Usage;
use crate::threshold::Severity;
use crate::warning::BudgetWarning;
use alloc::string::String;
use alloc::vec::Vec;

/// A threshold that a call crossed, with the numbers after that call.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ThresholdCrossed {
    /// The thread whose threshold was crossed.
    pub thread_id: String,
    /// The threshold, 1 to 100.
    pub threshold_percent: u32,
    /// The threshold's severity.
    pub severity: Severity,
    /// Percent used, rounded to one decimal.
    pub percent_used: f64,
    /// Total tokens used.
    pub tokens_used: u64,
    /// Tokens left, never below 0.
    pub tokens_remaining: u64,
    /// The thread's limit in tokens.
    pub max_tokens: u64,
    /// How many requests of the average size still fit; none while that is 0.
    pub runway: Option<u64>,
}

/// What a recorded consumption led to, and where its thread stands.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Consumed {
    /// Usage after the call; that of the ancestor that was charged for a thread that is gone.
    pub usage: Usage,
    /// What the thread has left beside what is used and held: the least of its own and that of all its
    /// ancestors, never below 0.
    pub room: u64,
    /// The most urgent severity that the thread has crossed.
    pub severity: Option<Severity>,
    /// The thresholds this call crossed: the thread's own ascending, then its ancestors', nearest first.
    pub crossed: Vec<ThresholdCrossed>,
    /// Whether the request was known, and nothing was counted.
    pub repeated: bool,
}

/// What a hold was granted, and where its thread stands.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Held {
    /// The completion tokens held.
    pub completion_tokens: u64,
    /// The thread's usage; that of the ancestor that holds for a thread that is gone.
    pub usage: Usage,
    /// What the thread has left beside what is used and held: the least of its own and that of all its
    /// ancestors, never below 0.
    pub room: u64,
    /// The most urgent severity that the thread has crossed.
    pub severity: Option<Severity>,
    /// The thread's pending warnings.
    pub pending: Vec<BudgetWarning>,
    /// Whether the thread remembers the request, and nothing is held.
    pub repeated: bool,
}

/// The last word on a thread that was cleaned up.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FinalBudget {
    /// Usage at the end.
    pub usage: Usage,
    /// `total / max * 100`, not rounded.
    pub percent_used: f64,
    /// Every threshold that was crossed, ascending.
    pub triggered_thresholds: Vec<u32>,
}
