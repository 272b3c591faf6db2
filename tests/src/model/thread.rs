//! One thread of the model: its state as the contract has it, sums and all worked out again at every call.

use crate::call::returned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Request ids, and marks, of a thread.
const REMEMBERED: usize = 64;

/// Holds of a thread's own, and as many that have moved to it.
pub(super) const MAX_HOLDS: usize = 256;

#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Severity {
    Warning,
    Critical,
    Final,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Threshold {
    pub(crate) percent: u32,
    pub(crate) severity: Severity,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Hold {
    pub(crate) made_for: Option<String>,
    pub(crate) request_id: String,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
    pub(crate) completion_before: u64,
    pub(crate) holder: u64,
    pub(crate) deadline: u64,
}

impl Hold {
    pub(super) fn tokens(&self) -> u128 {
        u128::from(self.prompt_tokens) + u128::from(self.completion_tokens)
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Mark {
    pub(crate) made_for: Option<String>,
    pub(crate) request_id: String,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
}

/// A thread is its state.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Thread {
    pub(crate) thread_id: String,
    pub(crate) birth: u64,
    pub(crate) parent: Option<String>,
    pub(crate) opened: bool,
    pub(crate) max_tokens: u64,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
    pub(crate) request_count: u64,
    pub(crate) average_tokens: u64,
    pub(crate) triggered_thresholds: Vec<Threshold>,
    pub(crate) pending_thresholds: Vec<u32>,
    pub(crate) request_ids: Vec<String>,
    pub(crate) holds: Vec<Hold>,
    pub(crate) lost: Vec<Mark>,
}

impl Thread {
    pub(super) fn new(thread_id: &str, birth: u64, max_tokens: u64) -> Self {
        Self {
            thread_id: thread_id.into(),
            birth,
            parent: None,
            opened: false,
            max_tokens,
            prompt_tokens: 0,
            completion_tokens: 0,
            request_count: 0,
            average_tokens: 0,
            triggered_thresholds: Vec::new(),
            pending_thresholds: Vec::new(),
            request_ids: Vec::new(),
            holds: Vec::new(),
            lost: Vec::new(),
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }

    pub(super) fn remaining(&self) -> u64 {
        self.max_tokens.saturating_sub(self.total())
    }

    pub(super) fn percent_used(&self) -> f64 {
        if self.max_tokens == 0 { 0.0 } else { self.total() as f64 / self.max_tokens as f64 * 100.0 }
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

    pub(super) fn severity(&self) -> Option<Severity> {
        self.triggered_thresholds.iter().map(|threshold| threshold.severity).max()
    }

    pub(super) fn triggered(&self) -> Vec<u32> {
        self.triggered_thresholds.iter().map(|threshold| threshold.percent).collect()
    }

    pub(crate) fn reaches(&self, percent: u32) -> bool {
        (1..=100).contains(&percent)
            && self.max_tokens > 0
            && u128::from(self.total()) * 100 >= u128::from(percent) * u128::from(self.max_tokens)
    }

    pub(super) fn add(&mut self, prompt_tokens: u64, completion_tokens: u64) {
        self.prompt_tokens = self.prompt_tokens.saturating_add(prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(completion_tokens);
    }

    /// One more request, of so many tokens.
    pub(super) fn count(&mut self, tokens: u64) {
        let average = (3 * u128::from(self.average_tokens) + u128::from(tokens)).div_ceil(4);
        self.average_tokens = if self.request_count == 0 { tokens } else { average as u64 };
        self.request_count = self.request_count.saturating_add(1);
    }

    /// Mark a threshold as crossed. Says whether it was not before.
    pub(super) fn trigger(&mut self, threshold: Threshold) -> bool {
        if self.triggered().contains(&threshold.percent) {
            return false;
        }
        self.triggered_thresholds.push(threshold);
        self.triggered_thresholds.sort_by_key(|threshold| threshold.percent);
        self.pending_thresholds.push(threshold.percent);
        self.pending_thresholds.sort_unstable();
        true
    }

    pub(super) fn set_limit(&mut self, max_tokens: u64) {
        self.max_tokens = max_tokens;
        self.opened = true;
        let reached: Vec<u32> = (1..=100).filter(|percent| self.reaches(*percent)).collect();
        self.triggered_thresholds.retain(|threshold| reached.contains(&threshold.percent));
        self.pending_thresholds.retain(|percent| reached.contains(percent));
    }

    pub(super) fn remember(&mut self, request_id: &str) {
        self.request_ids.push(request_id.into());
        keep_latest(&mut self.request_ids);
    }

    pub(super) fn leave_mark(&mut self, mark: Mark) {
        self.lost.push(mark);
        keep_latest(&mut self.lost);
    }

    /// Where its own holds are in its list, or those that have moved to it.
    pub(super) fn holds(&self, moved: bool) -> Vec<usize> {
        let holds = self.holds.iter().enumerate().filter(|(_, hold)| hold.made_for.is_some() == moved);
        holds.map(|(at, _)| at).collect()
    }

    /// Whether a snapshot can have given it, looked at alone.
    pub(super) fn is_possible(&self) -> bool {
        let most_average = if self.request_count == 0 { 0 } else { self.total() };
        let own_marks = || self.lost.iter().filter(|mark| mark.made_for.is_none());
        let holds = self.holds.iter().map(|hold| (&hold.made_for, &hold.request_id));
        let mut named = holds.chain(self.lost.iter().map(|mark| (&mark.made_for, &mark.request_id)));
        (self.opened || self.parent.is_none())
            && self.average_tokens <= most_average
            && self.triggered().is_sorted_by(|a, b| a < b)
            && self.triggered().iter().all(|percent| self.reaches(*percent))
            && self.pending_thresholds.is_sorted_by(|a, b| a < b)
            && self.pending_thresholds.iter().all(|percent| self.triggered().contains(percent))
            && self.request_ids.len() <= REMEMBERED
            && self.request_ids.iter().all(|request_id| is_request_id(request_id))
            && [false, true].into_iter().all(|moved| self.holds(moved).len() <= MAX_HOLDS)
            && self.holds.iter().all(|hold| hold.completion_before <= hold.completion_tokens)
            && self.lost.len() <= REMEMBERED
            && own_marks().all(|mark| mark.prompt_tokens <= self.prompt_tokens)
            && own_marks().all(|mark| mark.completion_tokens <= self.completion_tokens)
            && named.all(|(made_for, request_id)| {
                made_for.as_ref().is_none_or(|id| is_thread_id(id)) && is_request_id(request_id)
            })
    }

    /// The names of its holds.
    pub(super) fn held_names(&self) -> Vec<Name<'_>> {
        self.holds.iter().map(|hold| self.name(&hold.made_for, &hold.request_id)).collect()
    }

    /// The names of its marks.
    pub(super) fn marked_names(&self) -> Vec<Name<'_>> {
        self.lost.iter().map(|mark| self.name(&mark.made_for, &mark.request_id)).collect()
    }

    /// The names of what it remembers.
    pub(super) fn remembered_names(&self) -> Vec<Name<'_>> {
        self.request_ids.iter().map(|request_id| self.name(&None, request_id)).collect()
    }

    fn name<'a>(&'a self, made_for: &'a Option<String>, request_id: &'a str) -> Name<'a> {
        (made_for.as_ref().unwrap_or(&self.thread_id), request_id)
    }
}

/// A request: the thread that it was made for, and its id.
pub(super) type Name<'a> = (&'a str, &'a str);

fn keep_latest<T>(list: &mut Vec<T>) {
    list.drain(..list.len().saturating_sub(REMEMBERED));
}

pub(super) fn is_thread_id(text: &str) -> bool {
    (1..=1_024).contains(&text.len())
}

pub(super) fn is_request_id(text: &str) -> bool {
    (1..=256).contains(&text.len())
}
