//! Warnings that were taken for a request that then failed: the thread's next request gets them.

use super::events::Event;
use super::link::Budgets;
use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thread_budget_host::{BudgetWarning, CallError};

/// What no agent has read, by thread. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Undelivered(Arc<Mutex<HashMap<String, Vec<BudgetWarning>>>>);

impl Undelivered {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<BudgetWarning>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Warnings on their way to an agent. Dropping them keeps them for the thread's next request.
pub(super) struct Taken {
    undelivered: Undelivered,
    thread_id: String,
    warnings: Vec<BudgetWarning>,
}

impl Taken {
    /// Those of the thread that are due, each once.
    pub(super) fn take(budgets: &Budgets, thread_id: String) -> Result<Self, CallError> {
        let kept = budgets.undelivered.lock().remove(&thread_id).unwrap_or_default();
        let mut taken = Self { undelivered: budgets.undelivered.clone(), thread_id, warnings: kept };
        if !taken.warnings.is_empty() {
            // The thread may have started over since.
            let usage = budgets.registry.get_usage(&taken.thread_id)?;
            let used = usage.map_or(0, |usage| usage.total_tokens);
            taken.warnings.retain(|warning| warning.tokens_used <= used);
        }
        taken.warnings.extend(budgets.registry.take_warnings(&taken.thread_id)?);
        if !taken.warnings.is_empty() {
            budgets.events.announce(|| Event::Delivered {
                thread_id: taken.thread_id.as_str().into(),
                warnings: taken.warnings.clone(),
            });
        }
        Ok(taken)
    }

    pub(super) fn warnings(&self) -> &[BudgetWarning] {
        &self.warnings
    }

    /// The agent has an answer to the request that carried them.
    pub(super) fn delivered(mut self) {
        self.warnings.clear();
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if !self.warnings.is_empty() {
            let warnings = mem::take(&mut self.warnings);
            self.undelivered.lock().entry(mem::take(&mut self.thread_id)).or_default().extend(warnings);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Events;
    use thread_budget_host::{Registry, Severity};

    fn severities(taken: &Taken) -> Vec<Severity> {
        taken.warnings().iter().map(|warning| warning.severity).collect()
    }

    #[test]
    fn what_did_not_arrive_is_handed_out_again_and_first() {
        let registry = Registry::builder().tokens_per_thread(100).build().unwrap();
        let budgets = Budgets { registry, events: Events::default(), undelivered: Undelivered::default() };
        let take = || Taken::take(&budgets, "t".into()).unwrap();

        budgets.registry.consume("t", 80, 0).unwrap();
        let lost = take();
        assert_eq!(severities(&lost), [Severity::Warning]);
        assert!(take().warnings().is_empty(), "it is on its way");
        drop(lost);
        budgets.registry.consume("t", 12, 0).unwrap();
        let again = take();
        assert_eq!(severities(&again), [Severity::Warning, Severity::Critical]);
        again.delivered();
        assert!(take().warnings().is_empty());
    }

    #[test]
    fn a_thread_that_started_over_has_nothing_to_hear() {
        let registry = Registry::builder().tokens_per_thread(100).build().unwrap();
        let budgets = Budgets { registry, events: Events::default(), undelivered: Undelivered::default() };
        budgets.registry.consume("t", 99, 0).unwrap();
        drop(Taken::take(&budgets, "t".into()).unwrap());
        budgets.registry.reset_thread("t").unwrap();
        assert!(Taken::take(&budgets, "t".into()).unwrap().warnings().is_empty());
    }
}
