//! The arithmetic of one thread's budget.

use crate::percent::percent_of;
use crate::threshold::{PercentSet, Thresholds};

/// What one thread has consumed, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Usage {
    /// Prompt tokens, summed over all requests.
    pub prompt_tokens: u64,
    /// Completion tokens, summed over all requests.
    pub completion_tokens: u64,
    /// Prompt and completion tokens together; may pass `max_tokens`.
    pub total_tokens: u64,
    /// Tokens left, 0 once the limit is reached or passed.
    pub remaining: u64,
    /// The thread's limit.
    pub max_tokens: u64,
    /// How many times consumption was recorded.
    pub request_count: u64,
}

/// A limit, what was used of it, and which thresholds that has crossed. Counters saturate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    max_tokens: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    request_count: u64,
    triggered: PercentSet,
    /// Of those triggered, the ones that `take-warnings` has not handed out yet, with the severity
    /// they were crossed with.
    undelivered: Thresholds,
}

impl Budget {
    /// Nothing used yet of `max_tokens`.
    #[must_use]
    pub fn new(max_tokens: u64) -> Self {
        Self {
            max_tokens,
            prompt_tokens: 0,
            completion_tokens: 0,
            request_count: 0,
            triggered: PercentSet::EMPTY,
            undelivered: Thresholds::NONE,
        }
    }

    /// A budget as it was, or none when there can be no such budget: a threshold is marked that is
    /// not reached, or is undelivered without having been crossed.
    pub(crate) fn restored(
        Usage { max_tokens, prompt_tokens, completion_tokens, request_count, .. }: Usage,
        triggered: PercentSet,
        undelivered: Thresholds,
    ) -> Option<Self> {
        let budget =
            Self { max_tokens, prompt_tokens, completion_tokens, request_count, triggered, undelivered };
        let consistent =
            budget.reached(triggered) == triggered && undelivered.percents().without(triggered).is_empty();
        consistent.then_some(budget)
    }

    /// Prompt and completion tokens together.
    #[must_use]
    pub fn total_tokens(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }

    /// Tokens left before the limit, never below 0.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.max_tokens.saturating_sub(self.total_tokens())
    }

    /// Whether the total has reached the limit; a limit of 0 is reached from the start.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.total_tokens() >= self.max_tokens
    }

    /// Whether total + held + estimate stays within the limit, computed without overflow.
    #[must_use]
    pub fn can_consume(&self, held_tokens: u64, estimated_tokens: u64) -> bool {
        let taken = self.total_tokens().saturating_add(held_tokens);
        self.max_tokens.checked_sub(taken).is_some_and(|left| estimated_tokens <= left)
    }

    /// What a check asks: whether the estimate fits and anything at all is left.
    pub(crate) fn admits(&self, held_tokens: u64, estimated_tokens: u64) -> bool {
        self.total_tokens().saturating_add(held_tokens) < self.max_tokens
            && self.can_consume(held_tokens, estimated_tokens)
    }

    /// `total / max * 100`, 0 when the limit is 0.
    #[must_use]
    pub fn percent_used(&self) -> f64 {
        percent_of(self.total_tokens(), self.max_tokens)
    }

    /// The thresholds crossed so far.
    #[must_use]
    pub fn triggered(&self) -> PercentSet {
        self.triggered
    }

    /// Every counter at once.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
            total_tokens: self.total_tokens(),
            remaining: self.remaining(),
            max_tokens: self.max_tokens,
            request_count: self.request_count,
        }
    }

    /// Another limit. What is not reached under it is no longer crossed, and fires when it is again.
    pub(crate) fn set_limit(&mut self, max_tokens: u64) {
        self.max_tokens = max_tokens;
        self.triggered = self.reached(self.triggered);
        self.undelivered = self.undelivered.only(self.triggered);
    }

    /// Add what one request used, overshoot included.
    pub fn record(&mut self, prompt_tokens: u64, completion_tokens: u64) {
        self.prompt_tokens = self.prompt_tokens.saturating_add(prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(completion_tokens);
        self.request_count = self.request_count.saturating_add(1);
    }

    /// Mark and return the thresholds that are reached and were not marked before.
    pub fn cross(&mut self, thresholds: &Thresholds) -> PercentSet {
        let crossed = self.reached(thresholds.percents().without(self.triggered));
        if !crossed.is_empty() {
            self.triggered = self.triggered.union(crossed);
            self.undelivered = self.undelivered.and(thresholds.only(crossed));
        }
        crossed
    }

    /// The thresholds crossed but not delivered yet.
    #[must_use]
    pub fn undelivered(&self) -> Thresholds {
        self.undelivered
    }

    /// The same, and mark them as delivered.
    pub(crate) fn take_undelivered(&mut self) -> Thresholds {
        core::mem::replace(&mut self.undelivered, Thresholds::NONE)
    }

    /// Those of these percents that are reached.
    fn reached(&self, percents: PercentSet) -> PercentSet {
        let mut reached = PercentSet::EMPTY;
        // Ascending: when one is not reached, those above it are not either.
        for percent in percents.iter().take_while(|percent| self.reaches(*percent)) {
            reached.insert(percent);
        }
        reached
    }

    /// Exact, where the reference compares rounded percentages: 29 of 100 reaches 29 %.
    fn reaches(&self, percent: u32) -> bool {
        /// Up to this, 100 times a count is one too, and 128 bits are not needed.
        const SMALL: u64 = u64::MAX / 100;
        let (total, max) = (self.total_tokens(), self.max_tokens);
        if total.max(max) <= SMALL {
            max > 0 && total * 100 >= u64::from(percent) * max
        } else {
            max > 0 && u128::from(total) * 100 >= u128::from(percent) * u128::from(max)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn another_limit_leaves_crossed_what_is_reached_under_it() {
        let percents = |set: PercentSet| set.iter().collect::<Vec<_>>();
        for (max, still) in [
            (0, &[][..]),
            (1, &[75, 90, 95]),
            (900, &[75, 90, 95]),
            (1_000, &[75, 90]),
            (1_001, &[75]),
            (1_200, &[75]),
            (1_201, &[]),
            (u64::MAX, &[]),
        ] {
            for taken in [false, true] {
                let mut budget = Budget::new(900);
                budget.record(600, 300);
                budget.cross(&Thresholds::DEFAULT);
                if taken {
                    budget.take_undelivered();
                }
                budget.set_limit(max);
                assert_eq!(budget.usage(), Usage { max_tokens: max, ..budget.usage() });
                assert_eq!((budget.total_tokens(), budget.usage().request_count), (900, 1));
                assert_eq!(percents(budget.triggered()), still, "of {max}");
                let undelivered = if taken { &[] } else { still };
                assert_eq!(percents(budget.undelivered().percents()), undelivered, "of {max}");

                budget.set_limit(900);
                let again: Vec<_> = [75, 90, 95].into_iter().filter(|it| !still.contains(it)).collect();
                assert_eq!(percents(budget.cross(&Thresholds::DEFAULT)), again, "after {max}");
            }
        }
    }

    #[test]
    fn a_lower_limit_is_reached_with_the_next_crossing() {
        let mut budget = Budget::new(1_000);
        budget.record(800, 0);
        assert_eq!(budget.cross(&Thresholds::DEFAULT).len(), 1);
        budget.set_limit(850);
        assert_eq!((budget.triggered().len(), budget.undelivered().percents().len()), (1, 1));
        assert_eq!(budget.cross(&Thresholds::DEFAULT).iter().collect::<Vec<_>>(), [90]);
    }

    #[test]
    fn large_counts_are_compared_as_exactly_as_small_ones() {
        let around = |count: u64| count.saturating_sub(2)..=count.saturating_add(2);
        for max in [0, 1, 100, u64::MAX / 100, u64::MAX].into_iter().flat_map(around) {
            for percent in [1, 29, 75, 100] {
                let least = (u128::from(max) * u128::from(percent)).div_ceil(100) as u64;
                for total in around(least) {
                    let mut budget = Budget::new(max);
                    budget.record(total, 0);
                    assert_eq!(budget.reaches(percent), max > 0 && total >= least, "{total} of {max}");
                }
            }
        }
    }
}
