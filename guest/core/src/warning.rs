//! What the agent reads.

use crate::answer::ThresholdCrossed;
use crate::percent::round_to_whole;
use crate::threshold::Severity;
use alloc::string::String;

/// The payload handed to an agent whose thread crossed a threshold.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct BudgetWarning {
    /// The thread whose threshold was crossed.
    pub thread_id: String,
    /// The threshold, 1 to 100.
    pub threshold_percent: u32,
    /// Percent used, rounded to one decimal.
    pub percent_used: f64,
    /// Total tokens used.
    pub tokens_used: u64,
    /// Tokens left before the thread is refused.
    pub tokens_remaining: u64,
    /// The thread's limit in tokens.
    pub max_tokens: u64,
    /// How many requests of the average size still fit; none while that is 0.
    pub runway: Option<u64>,
    /// How urgent it is.
    pub severity: Severity,
    /// What to tell the agent.
    pub message: String,
}

impl From<ThresholdCrossed> for BudgetWarning {
    fn from(crossed: ThresholdCrossed) -> Self {
        Self {
            message: message(crossed.severity, crossed.percent_used, crossed.tokens_remaining),
            thread_id: crossed.thread_id,
            threshold_percent: crossed.threshold_percent,
            percent_used: crossed.percent_used,
            tokens_used: crossed.tokens_used,
            tokens_remaining: crossed.tokens_remaining,
            max_tokens: crossed.max_tokens,
            runway: crossed.runway,
            severity: crossed.severity,
        }
    }
}

fn message(severity: Severity, percent_used: f64, tokens_remaining: u64) -> String {
    let (opening, advice) = match severity {
        Severity::Warning => ("Note: ", ""),
        Severity::Critical => {
            ("WARNING: ", " Consider wrapping up: finish the current step, summarise, or hand over.")
        }
        Severity::Final => {
            ("CRITICAL: ", " The next request may fail: give your answer or save your state now.")
        }
    };
    let mut text = String::from(opening);
    push_grouped(&mut text, round_to_whole(percent_used));
    text.push_str("% of the token budget is used, ");
    push_grouped(&mut text, tokens_remaining);
    text.push_str(" tokens are left.");
    text.push_str(advice);
    text
}

/// Decimal with thousands separators: 1234567 as `1,234,567`.
fn push_grouped(text: &mut String, number: u64) {
    if number >= 1_000 {
        push_grouped(text, number / 1_000);
        text.push(',');
    }
    for unit in [100, 10, 1] {
        if number >= unit || unit == 1 {
            text.push(char::from(b'0' + (number / unit % 10) as u8));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, expected) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (24_000, "24,000"),
            (1_000_000, "1,000,000"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            let mut text = String::new();
            push_grouped(&mut text, number);
            assert_eq!(text, expected);
        }
    }
}
