//! Tokens held for a request in flight.

use crate::thread::{Consumed, ThreadBudget};
use crate::threshold::Thresholds;
use alloc::vec::Vec;

/// Tokens that every check counts as taken until this is committed or dropped.
///
/// It stays with the budgets it was made on: when one of them is reset or cleaned up meanwhile, what
/// replaces it starts without the hold.
#[derive(Debug)]
#[must_use = "dropping it releases what it holds"]
pub struct Reservation {
    /// The thread and its ancestors, as they were when it was made. Never empty.
    path: Vec<ThreadBudget>,
    tokens: u64,
}

impl Reservation {
    /// Hold tokens that the thread's check has admitted.
    pub(crate) fn new(thread: ThreadBudget, tokens: u64) -> Self {
        let path: Vec<_> = core::iter::successors(Some(thread), ThreadBudget::parent).collect();
        path.iter().for_each(|budget| budget.hold(tokens));
        Self { path, tokens }
    }

    /// How many tokens it holds.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The thread that a commit counts on: the one it was made for or, when the registry has
    /// forgotten that, its nearest ancestor that is left.
    #[must_use]
    pub fn charged(&self) -> Option<&ThreadBudget> {
        self.path.iter().find(|budget| !budget.is_detached())
    }

    /// Replace the hold by what was used, more or less than was held. Budgets that the registry has
    /// forgotten meanwhile count it too, detached; what was spent is never lost to the tree.
    pub fn commit(self, prompt_tokens: u64, completion_tokens: u64, thresholds: &Thresholds) -> Consumed {
        let mut crossed = Vec::new();
        for forgotten in self.path.iter().take_while(|budget| budget.is_detached()) {
            forgotten.record(prompt_tokens, completion_tokens, thresholds, &mut crossed);
        }
        if let Some(charged) = self.charged() {
            crossed.append(&mut charged.consume(prompt_tokens, completion_tokens, thresholds).crossed);
        }
        let usage = self.path.first().unwrap_or_else(|| unreachable!()).usage();
        Consumed { usage, crossed, repeated: false }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.path.iter().for_each(|budget| budget.release(self.tokens));
    }
}
