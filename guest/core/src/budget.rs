//! The arithmetic of one thread's budget.

use crate::error::BudgetExhausted;
use crate::percent::percent_of;
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

/// A limit, and what was used of it. Counters saturate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    max_tokens: u64,
    used: Tokens,
    request_count: u64,
    average_tokens: u64,
}

impl Budget {
    /// Nothing used yet of `max_tokens`.
    #[must_use]
    pub fn new(max_tokens: u64) -> Self {
        Self::restored(max_tokens, Tokens::new(0, 0), 0, 0)
    }

    /// A budget as it was.
    pub(crate) fn restored(max_tokens: u64, used: Tokens, request_count: u64, average_tokens: u64) -> Self {
        Self { max_tokens, used, request_count, average_tokens }
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

    pub(crate) fn set_limit(&mut self, max_tokens: u64) {
        self.max_tokens = max_tokens;
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
                    let budget = Budget::restored(max, Tokens::new(total, 0), 1, 0);
                    assert_eq!(budget.reaches(percent), max > 0 && total >= least, "{total} of {max}");
                }
            }
        }
    }
}
