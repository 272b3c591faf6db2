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
    push_grouped(&mut text, tokens_remaining.into());
    text.push_str(" tokens are left.");
    text.push_str(advice);
    text
}

/// Decimal with thousands separators: 1234567 as `1,234,567`.
fn push_grouped(text: &mut String, number: u128) {
    let (thousands, rest) = divided_by_thousand(number);
    if thousands > 0 {
        push_grouped(text, thousands);
        text.push(',');
    }
    for unit in [100, 10, 1] {
        if thousands > 0 || rest >= unit || unit == 1 {
            text.push(char::from(b'0' + (rest / unit % 10) as u8));
        }
    }
}

/// Quotient and rest, 32 bits at a time: the library's 128-bit division is ten times the code.
fn divided_by_thousand(number: u128) -> (u128, u64) {
    let (mut quotient, mut rest) = (0, 0);
    for shift in [96, 64, 32, 0] {
        let part = rest << 32 | (number >> shift) as u64 & u64::from(u32::MAX);
        quotient |= u128::from(part / 1_000) << shift;
        rest = part % 1_000;
    }
    (quotient, rest)
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
            (1_000_000_000, "1,000,000,000"),
            (u64::MAX.into(), "18,446,744,073,709,551,615"),
            (u128::MAX, "340,282,366,920,938,463,463,374,607,431,768,211,455"),
        ] {
            let mut text = String::new();
            push_grouped(&mut text, number);
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn the_largest_overshoot_is_written_out() {
        let text = message(Severity::Warning, crate::percent::percent_of(u64::MAX, 1), 0);
        let expected = "Note: 1,844,674,407,370,955,161,600% of the token budget is used, 0 tokens are left.";
        assert_eq!(text, expected);
    }
}
