//! A thread's state as data.

use crate::MAX_HOLDS;
use crate::budget::Budget;
use crate::crossings::Crossings;
use crate::error::RegistryError;
use crate::request::{Hold, Request};
use crate::request_window::WINDOW;
use crate::requests::{MOST_MARKS, Requests};
use crate::thread::ThreadBudget;
use crate::threshold::{Threshold, Thresholds};
use crate::tokens::Tokens;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

/// One thread, as [`Registry::snapshot`](crate::Registry::snapshot) gives it and
/// [`Registry::restore`](crate::Registry::restore) takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ThreadState {
    /// The thread's id.
    pub thread_id: String,
    /// Tells it from other threads that had its id before or have it after.
    pub birth: u64,
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
    /// The average tokens of a request.
    pub average_tokens: u64,
    /// The thresholds crossed so far, with the severity they were crossed with, ascending.
    pub triggered_thresholds: Vec<Threshold>,
    /// Those of them, percent, ascending, whose warnings are pending.
    pub pending_thresholds: Vec<u32>,
    /// The request ids that it remembers, oldest first.
    pub request_ids: Vec<String>,
    /// What is held of it, in the order in which it was first held.
    pub holds: Vec<HoldState>,
    /// The marks of requests that it was charged for, oldest first.
    pub lost: Vec<LostState>,
}

/// A hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct HoldState {
    /// The thread that it was made for, when that is gone and this is the ancestor it moved to.
    pub made_for: Option<String>,
    /// Its request.
    pub request_id: String,
    /// Prompt tokens held.
    pub prompt_tokens: u64,
    /// Completion tokens held.
    pub completion_tokens: u64,
    /// Who made it.
    pub holder: u64,
    /// Until when its holder answers for it.
    pub deadline: u64,
}

/// The mark of a request that was charged and may be settled once more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct LostState {
    /// The thread that it was made for, when that is gone and this is the ancestor that was charged.
    pub made_for: Option<String>,
    /// The request.
    pub request_id: String,
    /// Prompt tokens charged.
    pub prompt_tokens: u64,
    /// Completion tokens charged.
    pub completion_tokens: u64,
}

impl HoldState {
    fn of(request: &Request, Hold { tokens, holder, deadline }: Hold) -> Self {
        Self {
            made_for: request.made_for().map(Into::into),
            request_id: request.id().into(),
            prompt_tokens: tokens.prompt,
            completion_tokens: tokens.completion,
            holder,
            deadline,
        }
    }

    pub(crate) fn hold(&self) -> Hold {
        let tokens = Tokens::new(self.prompt_tokens, self.completion_tokens);
        Hold { tokens, holder: self.holder, deadline: self.deadline }
    }
}

impl LostState {
    fn of(request: &Request, charged: Tokens) -> Self {
        Self {
            made_for: request.made_for().map(Into::into),
            request_id: request.id().into(),
            prompt_tokens: charged.prompt,
            completion_tokens: charged.completion,
        }
    }

    pub(crate) fn charged(&self) -> Tokens {
        Tokens::new(self.prompt_tokens, self.completion_tokens)
    }
}

impl ThreadState {
    pub(crate) fn of(thread: &ThreadBudget) -> Self {
        let (budget, usage) = (thread.budget(), thread.usage());
        let (held, marked) = (Requests::held_at(thread), Requests::marked_at(thread));
        Self {
            thread_id: thread.thread_id().into(),
            birth: thread.birth(),
            parent: thread.parent().map(|parent| parent.thread_id().into()),
            opened: thread.is_opened(),
            max_tokens: usage.max_tokens,
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            request_count: usage.request_count,
            average_tokens: budget.average_tokens(),
            triggered_thresholds: thread.triggered().collect(),
            pending_thresholds: thread.pending().map(|threshold| threshold.percent).collect(),
            request_ids: thread
                .remembered()
                .map_or_else(Vec::new, |requests| requests.iter().map(Into::into).collect()),
            holds: held
                .iter()
                .filter_map(|request| Some(HoldState::of(request, request.hold.get()?)))
                .collect(),
            lost: marked
                .iter()
                .filter_map(|request| Some(LostState::of(request, request.charged.get()?)))
                .collect(),
        }
    }

    /// At most how many bytes the state of this thread takes, lists included.
    pub(crate) fn bytes_of(thread: &ThreadBudget) -> usize {
        /// What a string or a list costs beyond its content.
        const BLOCK: usize = 40;
        let parent = thread.parent().map_or(0, |parent| BLOCK + parent.thread_id().len());
        let thresholds = thread.triggered().count() * (size_of::<Threshold>() + size_of::<u32>());
        let remembered = thread
            .remembered()
            .map_or(0, |requests| requests.iter().map(|request_id| BLOCK + request_id.len()).sum());
        let ids =
            |request: &Rc<Request>| 2 * BLOCK + request.made_for().map_or(0, str::len) + request.id().len();
        let held = Requests::held_at(thread);
        let held: usize = held.iter().map(|request| size_of::<HoldState>() + ids(request)).sum();
        let marked = Requests::marked_at(thread);
        let marked: usize = marked.iter().map(|request| size_of::<LostState>() + ids(request)).sum();
        let requests = remembered + held + marked;
        size_of::<Self>() + 7 * BLOCK + thread.thread_id().len() + parent + thresholds + requests
    }

    /// What is wrong with it, looked at alone.
    pub(crate) fn check(&self) -> Result<(Budget, Crossings), &'static str> {
        let used = Tokens::new(self.prompt_tokens, self.completion_tokens);
        if self.average_tokens > 0 && (self.request_count == 0 || self.average_tokens > used.total()) {
            return Err("its average is of requests that it cannot have had");
        }
        let budget = Budget::restored(self.max_tokens, used, self.request_count, self.average_tokens);
        let crossings = self.crossings()?;
        if !crossings.iter().all(|threshold| budget.reaches(threshold.percent)) {
            return Err("a triggered threshold is not reached");
        }
        if self.request_ids.len() > WINDOW {
            return Err("there are at most 64 request ids");
        }
        if self.holds.iter().filter(|hold| hold.made_for.is_none()).count() > MAX_HOLDS {
            return Err("there are at most 256 holds of its own");
        }
        if self.lost.len() > MOST_MARKS {
            return Err("there are at most 64 marks");
        }
        let own_marks = self.lost.iter().filter(|lost| lost.made_for.is_none());
        if own_marks.into_iter().any(|lost| lost.charged().max(used) != used) {
            return Err("a mark says more than was used");
        }
        Ok((budget, crossings))
    }

    fn crossings(&self) -> Result<Crossings, &'static str> {
        let ascending = self.triggered_thresholds.is_sorted_by_key(|threshold| threshold.percent);
        if !ascending || Thresholds::new(self.triggered_thresholds.iter().copied()).is_err() {
            return Err("triggered thresholds are percents from 1 to 100, ascending");
        }
        let mut crossings = Crossings::NONE;
        let mut pending = self.pending_thresholds.iter().peekable();
        for threshold in &self.triggered_thresholds {
            crossings.insert(*threshold);
            if pending.next_if_eq(&&threshold.percent).is_none() {
                crossings.acknowledge(threshold.percent);
            }
        }
        match pending.next() {
            None => Ok(crossings),
            Some(_) => Err("pending thresholds are among those triggered, ascending"),
        }
    }

    pub(crate) fn invalid(&self, why: &str) -> RegistryError {
        let mut text = String::from("thread ");
        text.push_str(&self.thread_id);
        text.push_str(": ");
        text.push_str(why);
        RegistryError::InvalidState(text)
    }
}
