//! One thread's budget in the model: sums, sets and lists, worked out again at every call.

use crate::call::returned;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use thread_budget_host::{BudgetWarning, Severity, ThreadState, Threshold, ThresholdCrossed};

/// Every request that a thread has counted is kept; the contract remembers this many of the latest.
const REMEMBERED: usize = 64;

#[derive(Clone)]
pub(super) struct Budget {
    pub(super) thread_id: String,
    pub(super) parent: Option<String>,
    pub(super) opened: bool,
    pub(super) max_tokens: u64,
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
    pub(super) request_count: u64,
    pub(super) triggered: BTreeSet<u32>,
    pub(super) undelivered: BTreeMap<u32, Severity>,
    pub(super) requests: Vec<String>,
}

impl Budget {
    pub(super) fn new(thread_id: &str, max_tokens: u64) -> Self {
        Self {
            thread_id: thread_id.into(),
            parent: None,
            opened: false,
            max_tokens,
            prompt_tokens: 0,
            completion_tokens: 0,
            request_count: 0,
            triggered: BTreeSet::new(),
            undelivered: BTreeMap::new(),
            requests: Vec::new(),
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }

    fn remaining(&self) -> u64 {
        self.max_tokens.saturating_sub(self.total())
    }

    pub(super) fn percent_used(&self) -> f64 {
        if self.max_tokens == 0 { 0.0 } else { self.total() as f64 / self.max_tokens as f64 * 100.0 }
    }

    fn rounded_percent(&self) -> f64 {
        format!("{:.1}", self.percent_used()).parse().unwrap_or(f64::NAN)
    }

    pub(super) fn fits(&self, held: u64, estimated_tokens: u64) -> bool {
        let taken = u128::from(self.total().saturating_add(held));
        taken + u128::from(estimated_tokens) <= u128::from(self.max_tokens)
    }

    pub(super) fn is_exhausted(&self, held: u64) -> bool {
        self.total().saturating_add(held) >= self.max_tokens
    }

    pub(super) fn remembers(&self, request_id: &str) -> bool {
        self.remembered().iter().any(|known| known == request_id)
    }

    fn remembered(&self) -> &[String] {
        &self.requests[self.requests.len().saturating_sub(REMEMBERED)..]
    }

    pub(super) fn usage(&self) -> Value {
        returned(json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total(),
            "remaining": self.remaining(),
            "max_tokens": self.max_tokens,
            "request_count": self.request_count,
        }))
    }

    pub(super) fn record(&mut self, prompt_tokens: u64, completion_tokens: u64) {
        self.prompt_tokens = self.prompt_tokens.saturating_add(prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(completion_tokens);
        self.request_count = self.request_count.saturating_add(1);
    }

    fn reaches(&self, percent: u32) -> bool {
        self.max_tokens > 0
            && u128::from(self.total()) * 100 >= u128::from(percent) * u128::from(self.max_tokens)
    }

    pub(super) fn set_limit(&mut self, max_tokens: u64) {
        self.max_tokens = max_tokens;
        self.opened = true;
        let not_reached: Vec<_> = (1..=100).filter(|percent| !self.reaches(*percent)).collect();
        for percent in not_reached {
            self.triggered.remove(&percent);
            self.undelivered.remove(&percent);
        }
    }

    /// Report the thresholds that are reached and were not before.
    pub(super) fn cross(&mut self, thresholds: &BTreeMap<u32, Severity>) -> Vec<ThresholdCrossed> {
        let mut crossed = Vec::new();
        for (&percent, &severity) in thresholds {
            if self.reaches(percent) && self.triggered.insert(percent) {
                self.undelivered.insert(percent, severity);
                crossed.push(ThresholdCrossed {
                    thread_id: self.thread_id.clone(),
                    threshold_percent: percent,
                    severity,
                    percent_used: self.rounded_percent(),
                    tokens_used: self.total(),
                    tokens_remaining: self.remaining(),
                    max_tokens: self.max_tokens,
                });
            }
        }
        crossed
    }

    /// The warnings that were not taken before, with the numbers of now.
    pub(super) fn take_warnings(&mut self) -> Vec<BudgetWarning> {
        let untaken = std::mem::take(&mut self.undelivered);
        untaken.into_values().map(|severity| self.warning(severity)).collect()
    }

    fn warning(&self, severity: Severity) -> BudgetWarning {
        super::warning(&ThresholdCrossed {
            thread_id: String::new(),
            threshold_percent: 0,
            severity,
            percent_used: self.rounded_percent(),
            tokens_used: self.total(),
            tokens_remaining: self.remaining(),
            max_tokens: self.max_tokens,
        })
    }

    pub(super) fn state(&self) -> ThreadState {
        let undelivered = self.undelivered.iter();
        ThreadState {
            thread_id: self.thread_id.clone(),
            parent: self.parent.clone(),
            opened: self.opened,
            max_tokens: self.max_tokens,
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
            request_count: self.request_count,
            triggered_thresholds: self.triggered.iter().copied().collect(),
            undelivered_thresholds: undelivered
                .map(|(&percent, &severity)| Threshold { percent, severity })
                .collect(),
            request_ids: self.remembered().to_vec(),
        }
    }

    /// The budget that has this state, if any can have it.
    pub(super) fn of_state(state: &ThreadState) -> Option<Self> {
        let undelivered = state.undelivered_thresholds.iter();
        let budget = Self {
            thread_id: state.thread_id.clone(),
            parent: state.parent.clone(),
            opened: state.opened,
            max_tokens: state.max_tokens,
            prompt_tokens: state.prompt_tokens,
            completion_tokens: state.completion_tokens,
            request_count: state.request_count,
            triggered: state.triggered_thresholds.iter().copied().collect(),
            undelivered: undelivered.map(|threshold| (threshold.percent, threshold.severity)).collect(),
            requests: state.request_ids.clone(),
        };
        let distinct_requests: BTreeSet<_> = budget.requests.iter().collect();
        // A set, or a map, gives back the list it was made of if that was in order and each was there once.
        let possible = budget.state() == *state
            && budget.triggered.iter().all(|percent| (1..=100).contains(percent) && budget.reaches(*percent))
            && budget.undelivered.keys().all(|percent| budget.triggered.contains(percent))
            && budget.requests.len() <= REMEMBERED
            && distinct_requests.len() == budget.requests.len()
            && budget.requests.iter().all(|request_id| (1..=256).contains(&request_id.len()))
            && (budget.opened || budget.parent.is_none());
        possible.then_some(budget)
    }
}
