//! The arithmetic of one thread's budget.

use crate::crossings::Crossings;
use crate::error::BudgetExhausted;
use crate::percent::percent_of;
use crate::threshold::{PercentSet, Severity, Threshold, Thresholds};
use crate::tokens::Tokens;

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
    used: Tokens,
    request_count: u64,
    average_tokens: u64,
    crossings: Crossings,
}

impl Budget {
    /// Nothing used yet of `max_tokens`.
    #[must_use]
    pub fn new(max_tokens: u64) -> Self {
        Self {
            max_tokens,
            used: Tokens::new(0, 0),
            request_count: 0,
            average_tokens: 0,
            crossings: Crossings::NONE,
        }
    }

    /// A budget as it was. Every threshold crossed must be reached.
    pub(crate) fn restored(
        max_tokens: u64,
        used: Tokens,
        request_count: u64,
        average_tokens: u64,
        crossings: Crossings,
    ) -> Self {
        Self { max_tokens, used, request_count, average_tokens, crossings }
    }

    /// Prompt and completion tokens together.
    #[must_use]
    pub fn total_tokens(&self) -> u64 {
        self.used.total()
    }

    /// Tokens left before the limit, never below 0.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.room(0)
    }

    /// Tokens left beside what is held, never below 0.
    #[must_use]
    pub fn room(&self, held_tokens: u64) -> u64 {
        self.max_tokens.saturating_sub(self.total_tokens().saturating_add(held_tokens))
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

    /// What a check asks of the thread of that id: whether anything at all is left, and the tokens fit in
    /// it. Returns what is left.
    pub(crate) fn admit(
        &self,
        thread_id: &str,
        held_tokens: u64,
        requested: u64,
    ) -> Result<u64, BudgetExhausted> {
        let room = self.room(held_tokens);
        if room > 0 && requested <= room {
            return Ok(room);
        }
        Err(BudgetExhausted {
            thread_id: thread_id.into(),
            used: self.total_tokens(),
            held: held_tokens,
            max_tokens: self.max_tokens,
            requested,
        })
    }

    /// `total / max * 100`, 0 when the limit is 0.
    #[must_use]
    pub fn percent_used(&self) -> f64 {
        percent_of(self.total_tokens(), self.max_tokens)
    }

    /// The average tokens of a request, the latest counting for a quarter; 0 before the first.
    #[must_use]
    pub fn average_tokens(&self) -> u64 {
        self.average_tokens
    }

    /// The thresholds crossed so far, with the severity they were crossed with, ascending by percent.
    pub fn triggered(&self) -> impl Iterator<Item = Threshold> {
        self.crossings.iter()
    }

    /// Those of them that nobody has acknowledged.
    pub fn pending(&self) -> impl Iterator<Item = Threshold> {
        self.crossings.pending()
    }

    /// The most urgent severity crossed.
    #[must_use]
    pub fn severity(&self) -> Option<Severity> {
        self.crossings.severity()
    }

    /// Every counter at once.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.used.prompt,
            completion_tokens: self.used.completion,
            total_tokens: self.total_tokens(),
            remaining: self.remaining(),
            max_tokens: self.max_tokens,
            request_count: self.request_count,
        }
    }

    /// Another limit. What is not reached under it is no longer crossed, and fires when it is again.
    pub(crate) fn set_limit(&mut self, max_tokens: u64) {
        self.max_tokens = max_tokens;
        for Threshold { percent, .. } in self.crossings.iter() {
            if !self.reaches(percent) {
                self.crossings.remove(percent);
            }
        }
    }

    /// Add what one request used, overshoot included, or what one that was recorded used beyond that.
    pub(crate) fn record(&mut self, tokens: Tokens, is_request: bool) {
        self.used = self.used.plus(tokens);
        if is_request {
            self.average_tokens = match self.request_count {
                0 => tokens.total(),
                _ => moved_average(self.average_tokens, tokens.total()),
            };
            self.request_count = self.request_count.saturating_add(1);
        }
    }

    /// Those of these thresholds that are reached and not crossed yet.
    pub(crate) fn reached(&self, thresholds: &Thresholds) -> PercentSet {
        let mut reached = PercentSet::EMPTY;
        // Ascending: when one is not reached, those above it are not either.
        let new = thresholds.percents().iter().filter(|percent| !self.crossings.contains(*percent));
        for percent in new.take_while(|percent| self.reaches(*percent)) {
            reached.insert(percent);
        }
        reached
    }

    /// How many of these thresholds can still be crossed.
    pub(crate) fn most_crossings(&self, thresholds: &Thresholds) -> usize {
        thresholds.percents().iter().filter(|percent| !self.crossings.contains(*percent)).count()
    }

    /// Mark a threshold as crossed, with its warning pending.
    pub(crate) fn cross(&mut self, threshold: Threshold) {
        self.crossings.insert(threshold);
    }

    /// The agent has this warning, if it is of this limit.
    pub(crate) fn acknowledge(&mut self, percent: u32, max_tokens: u64) {
        if max_tokens == self.max_tokens && PercentSet::RANGE.contains(&percent) {
            self.crossings.acknowledge(percent);
        }
    }

    /// Exact, where the reference compares rounded percentages: 29 of 100 reaches 29 %.
    pub(crate) fn reaches(&self, percent: u32) -> bool {
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

/// `(3 * average + tokens) / 4`, rounded up.
fn moved_average(average: u64, tokens: u64) -> u64 {
    let (average, tokens) = (u128::from(average), u128::from(tokens));
    ((average + (average << 1) + tokens + 3) >> 2) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    fn used(max_tokens: u64, prompt_tokens: u64, completion_tokens: u64) -> Budget {
        let mut budget = Budget::new(max_tokens);
        budget.record(Tokens::new(prompt_tokens, completion_tokens), true);
        budget
    }

    fn cross(budget: &mut Budget, thresholds: &Thresholds) -> Vec<u32> {
        let crossed = budget.reached(thresholds);
        crossed.iter().for_each(|percent| budget.cross(thresholds.get(percent)));
        crossed.iter().collect()
    }

    fn percents(thresholds: impl Iterator<Item = Threshold>) -> Vec<u32> {
        thresholds.map(|threshold| threshold.percent).collect()
    }

    #[test]
    fn another_limit_leaves_crossed_what_is_reached_under_it() {
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
            for acknowledged in [false, true] {
                let mut budget = used(900, 600, 300);
                cross(&mut budget, &Thresholds::DEFAULT);
                if acknowledged {
                    [75, 90, 95].into_iter().for_each(|percent| budget.acknowledge(percent, 900));
                }
                budget.set_limit(max);
                assert_eq!(budget.usage(), Usage { max_tokens: max, ..budget.usage() });
                assert_eq!((budget.total_tokens(), budget.usage().request_count), (900, 1));
                assert_eq!(percents(budget.triggered()), still, "of {max}");
                let pending = if acknowledged { &[] } else { still };
                assert_eq!(percents(budget.pending()), pending, "of {max}");

                budget.set_limit(900);
                let again: Vec<_> = [75, 90, 95].into_iter().filter(|it| !still.contains(it)).collect();
                assert_eq!(cross(&mut budget, &Thresholds::DEFAULT), again, "after {max}");
                assert_eq!(percents(budget.pending()), if acknowledged { again } else { vec![75, 90, 95] });
            }
        }
    }

    #[test]
    fn a_lower_limit_is_reached_with_the_next_crossing() {
        let mut budget = used(1_000, 800, 0);
        assert_eq!(cross(&mut budget, &Thresholds::DEFAULT), [75]);
        budget.set_limit(850);
        assert_eq!((budget.triggered().count(), budget.pending().count()), (1, 1));
        assert_eq!(cross(&mut budget, &Thresholds::DEFAULT), [90]);
    }

    #[test]
    fn a_warning_is_acknowledged_by_its_percent_and_limit() {
        let mut budget = used(1_000, 900, 0);
        cross(&mut budget, &Thresholds::DEFAULT);
        for (percent, max_tokens) in [(75, 999), (95, 1_000), (0, 1_000), (101, 1_000), (u32::MAX, 1_000)] {
            budget.acknowledge(percent, max_tokens);
            assert_eq!(percents(budget.pending()), [75, 90], "{percent} of {max_tokens}");
        }
        budget.acknowledge(75, 1_000);
        assert_eq!(percents(budget.pending()), [90]);
        assert_eq!(percents(budget.triggered()), [75, 90]);
    }

    #[test]
    fn a_crossing_keeps_the_severity_it_had() {
        let only = |severity| Thresholds::new([Threshold { percent: 50, severity }]).expect("one is valid");
        let mut budget = used(100, 50, 0);
        cross(&mut budget, &only(Severity::Final));
        assert_eq!(cross(&mut budget, &only(Severity::Warning)), []);
        assert_eq!(budget.severity(), Some(Severity::Final));
    }

    #[test]
    fn the_average_moves_by_a_quarter_rounded_up() {
        for (requests, expected) in [
            (&[][..], 0),
            (&[100], 100),
            (&[100, 200], 125),
            (&[100, 200, 0], 94),
            (&[0, 100], 25),
            (&[1, 0, 0, 0], 1),
            (&[u64::MAX, u64::MAX, u64::MAX], u64::MAX),
            (&[u64::MAX, u64::MAX - 1], u64::MAX),
            (&[u64::MAX, 0], u64::MAX - u64::MAX / 4),
        ] {
            let mut budget = Budget::new(1_000);
            requests.iter().for_each(|tokens| budget.record(Tokens::new(*tokens, 0), true));
            assert_eq!(budget.average_tokens(), expected, "{requests:?}");
        }
    }

    #[test]
    fn large_counts_are_compared_as_exactly_as_small_ones() {
        let around = |count: u64| count.saturating_sub(2)..=count.saturating_add(2);
        for max in [0, 1, 100, u64::MAX / 100, u64::MAX].into_iter().flat_map(around) {
            for percent in [1, 29, 75, 100] {
                let least = (u128::from(max) * u128::from(percent)).div_ceil(100) as u64;
                for total in around(least) {
                    let budget = used(max, total, 0);
                    assert_eq!(budget.reaches(percent), max > 0 && total >= least, "{total} of {max}");
                }
            }
        }
    }
}
