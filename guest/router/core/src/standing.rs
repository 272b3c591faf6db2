//! Where a thread stands: in numbers, and in the headers of a response.

use crate::config::{Config, Severity, Threshold};
use crate::headers::Headers;
use crate::registry::{BudgetExhausted, Consumed, Held};
use crate::turn::Header;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// Where a thread stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    used: u64,
    max: u64,
    /// What is left in it and all its ancestors.
    room: u64,
    severity: Option<Severity>,
}

impl Standing {
    /// While a request is under way: what it holds is its own.
    pub(crate) fn held(held: &Held, own: u64) -> Self {
        let Held { usage, room, severity, .. } = held;
        Self {
            used: usage.total_tokens,
            max: usage.max_tokens,
            room: room.saturating_add(own),
            severity: *severity,
        }
    }

    /// Once it is counted.
    pub(crate) fn settled(consumed: &Consumed) -> Self {
        let Consumed { usage, room, severity, .. } = consumed;
        Self { used: usage.total_tokens, max: usage.max_tokens, room: *room, severity: *severity }
    }

    /// Of the thread that has no room, be it an ancestor.
    pub(crate) fn exhausted(config: &Config, exhausted: &BudgetExhausted) -> Self {
        let BudgetExhausted { used, held, max_tokens: max, .. } = *exhausted;
        let room = max.saturating_sub(used).saturating_sub(held);
        Self { used, max, room, severity: severity_at(&config.thresholds, used, max) }
    }

    /// The headers that say so.
    pub(crate) fn headers(&self) -> Vec<Header> {
        let header = |name: &str, value: String| Header { name: name.into(), value };
        let tenths = tenths_of_percent(self.used, self.max);
        let mut headers = Vec::from([
            header("x-ratelimit-limit-tokens", self.max.to_string()),
            header("x-ratelimit-remaining-tokens", self.room.to_string()),
            header("x-budget-used-percent", format!("{}.{}", tenths / 10, tenths % 10)),
        ]);
        headers.extend(self.severity.map(|severity| header("x-budget-warning", severity.as_str().into())));
        headers
    }
}

/// The provider's headers that would say something else: those of its own limits.
pub(crate) fn other_limits(answer: &Headers) -> Vec<String> {
    let is_one = |name: &&str| name.starts_with("x-ratelimit-") || name.starts_with("x-budget-");
    answer.names().filter(is_one).map(Into::into).collect()
}

/// The most urgent severity that is crossed at so much.
pub(crate) fn severity_at(thresholds: &[Threshold], used: u64, max: u64) -> Option<Severity> {
    let is_crossed = |threshold: &&Threshold| {
        max > 0 && u128::from(used) * 100 >= u128::from(threshold.percent) * u128::from(max)
    };
    thresholds.iter().filter(is_crossed).map(|threshold| threshold.severity).max()
}

/// Whole percent; ties go to the even one. 0 of a limit of 0.
pub(crate) fn percent_of(used: u64, max: u64) -> u64 {
    share(used, max, 100)
}

fn tenths_of_percent(used: u64, max: u64) -> u64 {
    share(used, max, 1_000)
}

fn share(used: u64, max: u64, of: u32) -> u64 {
    if max == 0 {
        return 0;
    }
    let (all, max) = (u128::from(used) * u128::from(of), u128::from(max));
    let (down, rest) = (all / max, all % max * 2);
    let up = rest > max || rest == max && down % 2 == 1;
    u64::try_from(down + u128::from(up)).unwrap_or(u64::MAX)
}

/// A number with thousands separators: 1234567 is 1,234,567.
pub(crate) struct Grouped(pub(crate) u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..1_000 => write!(f, "{}", self.0),
            number => write!(f, "{},{:03}", Self(number / 1_000), number % 1_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_as_the_registry_rounds() {
        for (used, max, tenths, percent) in [
            (8_125, 10_000, 812, 81),
            (8_135, 10_000, 814, 81),
            (1, 3, 333, 33),
            (2, 3, 667, 67),
            (845, 1_000, 845, 84),
            (855, 1_000, 855, 86),
            (0, 0, 0, 0),
            (5, 0, 0, 0),
            (u64::MAX, u64::MAX, 1_000, 100),
            (u64::MAX, 1, u64::MAX, u64::MAX),
        ] {
            assert_eq!(
                (tenths_of_percent(used, max), percent_of(used, max)),
                (tenths, percent),
                "{used} of {max}"
            );
        }
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, expected) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_020_003, "1,020,003")] {
            assert_eq!(Grouped(number).to_string(), expected);
        }
    }
}
