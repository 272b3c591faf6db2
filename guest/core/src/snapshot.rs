//! A thread's state as data: everything but holds, whose callers do not survive what state survives.

use crate::budget::{Budget, Usage};
use crate::request_window::WINDOW;
use crate::thread::ThreadBudget;
use crate::threshold::{PercentSet, Threshold, Thresholds};
use crate::{MAX_REQUEST_ID_BYTES, RegistryError};
use alloc::string::String;
use alloc::vec::Vec;

/// One thread, as [`Registry::snapshot`](crate::Registry::snapshot) gives it and
/// [`Registry::restore`](crate::Registry::restore) takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ThreadState {
    /// The thread's id.
    pub thread_id: String,
    /// The parent's id, if it has one.
    pub parent: Option<String>,
    /// Whether it keeps its limit and parent over a reset, as a thread does that was given either.
    pub opened: bool,
    /// The limit in tokens.
    pub max_tokens: u64,
    /// Prompt tokens, summed over all requests.
    pub prompt_tokens: u64,
    /// Completion tokens, summed over all requests.
    pub completion_tokens: u64,
    /// How many times consumption was recorded.
    pub request_count: u64,
    /// The thresholds crossed so far, ascending.
    pub triggered_thresholds: Vec<u32>,
    /// Those of them not delivered yet, ascending.
    pub undelivered_thresholds: Vec<Threshold>,
    /// The request ids counted lately, oldest first.
    pub request_ids: Vec<String>,
}

impl ThreadState {
    pub(crate) fn of(thread: &ThreadBudget) -> Self {
        let budget = thread.budget();
        let Usage { prompt_tokens, completion_tokens, max_tokens, request_count, .. } = budget.usage();
        Self {
            thread_id: thread.thread_id().into(),
            parent: thread.parent().map(|parent| parent.thread_id().into()),
            opened: thread.is_opened(),
            max_tokens,
            prompt_tokens,
            completion_tokens,
            request_count,
            triggered_thresholds: budget.triggered().iter().collect(),
            undelivered_thresholds: budget.undelivered().iter().collect(),
            request_ids: thread
                .requests()
                .map_or_else(Vec::new, |requests| requests.iter().map(Into::into).collect()),
        }
    }

    /// At most how many bytes the state of this thread takes, lists included.
    pub(crate) fn bytes_of(thread: &ThreadBudget) -> usize {
        /// What a string or a list costs beyond its content.
        const BLOCK: usize = 40;
        let parent = thread.parent().map_or(0, |parent| BLOCK + parent.thread_id().len());
        let percents = thread.budget().triggered().len() * (size_of::<u32>() + size_of::<Threshold>());
        let requests = thread
            .requests()
            .map_or(0, |requests| requests.iter().map(|request_id| BLOCK + request_id.len()).sum());
        size_of::<Self>() + 4 * BLOCK + thread.thread_id().len() + parent + percents + requests
    }

    /// What is wrong with it, looked at alone.
    pub(crate) fn check(&self) -> Result<Budget, &'static str> {
        let triggered = PercentSet::ascending(&self.triggered_thresholds)
            .ok_or("triggered thresholds are percents from 1 to 100, ascending")?;
        let undelivered = Thresholds::new(self.undelivered_thresholds.iter().copied())
            .ok()
            .filter(|_| self.undelivered_thresholds.is_sorted_by_key(|threshold| threshold.percent))
            .ok_or("undelivered thresholds are percents from 1 to 100, ascending")?;
        let usage = Usage {
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
            total_tokens: self.prompt_tokens.saturating_add(self.completion_tokens),
            remaining: 0,
            max_tokens: self.max_tokens,
            request_count: self.request_count,
        };
        let budget = Budget::restored(usage, triggered, undelivered)
            .ok_or("a triggered threshold is not reached, or an undelivered one was not triggered")?;
        if self.request_ids.len() > WINDOW {
            return Err("there are at most 64 request ids");
        }
        for (at, request_id) in self.request_ids.iter().enumerate() {
            if !(1..=MAX_REQUEST_ID_BYTES).contains(&request_id.len()) {
                return Err("a request id has 1 to 256 bytes of UTF-8");
            }
            if self.request_ids.iter().take(at).any(|earlier| earlier == request_id) {
                return Err("a request id is given once");
            }
        }
        Ok(budget)
    }

    pub(crate) fn invalid(&self, why: &str) -> RegistryError {
        let mut text = String::from("thread ");
        text.push_str(&self.thread_id);
        text.push_str(": ");
        text.push_str(why);
        RegistryError::InvalidState(text)
    }
}
