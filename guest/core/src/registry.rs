//! The registry: budgets by thread id, and the handles on them.

use crate::budget::{Budget, Usage};
use crate::index::Index;
use crate::memory::{HEADROOM, has_room};
use crate::percent::round_to_tenth;
use crate::threshold::{InvalidThreshold, Severity, Threshold, Thresholds};
use crate::{DEFAULT_MAX_TOKENS, MAX_THREAD_ID_BYTES};
use alloc::boxed::Box;
use alloc::collections::BinaryHeap;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;
use core::cmp::Ordering;

/// A threshold that a call crossed, with the numbers after that call.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ThresholdCrossed {
    /// The thread whose threshold was crossed.
    pub thread_id: String,
    /// The threshold, 1 to 100.
    pub threshold_percent: u32,
    /// The threshold's severity.
    pub severity: Severity,
    /// Percent used, rounded to one decimal.
    pub percent_used: f64,
    /// Total tokens used.
    pub tokens_used: u64,
    /// Tokens left, never below 0.
    pub tokens_remaining: u64,
    /// The thread's limit in tokens.
    pub max_tokens: u64,
}

/// What a recorded consumption led to.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Consumed {
    /// Usage after the call.
    pub usage: Usage,
    /// The thresholds this call crossed, ascending.
    pub crossed: Vec<ThresholdCrossed>,
}

/// Why a check refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[error("thread {thread_id}: {used} of {max_tokens} tokens are used, {requested} more do not fit")]
pub struct BudgetExhausted {
    /// The thread that was checked.
    pub thread_id: String,
    /// Total tokens used.
    pub used: u64,
    /// The thread's limit in tokens.
    pub max_tokens: u64,
    /// The estimate that was asked for.
    pub requested: u64,
}

/// The last word on a thread that was cleaned up.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FinalBudget {
    /// Usage at the end.
    pub usage: Usage,
    /// `total / max * 100`, not rounded.
    pub percent_used: f64,
    /// Every threshold that was crossed, ascending.
    pub triggered_thresholds: Vec<u32>,
}

/// A thread id that is empty or has more than [`MAX_THREAD_ID_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", Self::TEXT)]
pub struct InvalidThreadId;

impl InvalidThreadId {
    /// What an id has to be, in words.
    pub const TEXT: &'static str = "a thread id has 1 to 1,024 bytes of UTF-8";
}

/// Why a call was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The budget is used up, or the estimate does not fit.
    #[error(transparent)]
    Exhausted(#[from] BudgetExhausted),
    /// The thread id is empty or too long.
    #[error(transparent)]
    InvalidThreadId(#[from] InvalidThreadId),
    /// The thread is new and there are as many as there may be: this many.
    #[error("there are already {0} threads, the most there may be")]
    TooManyThreads(u32),
    /// A threshold's percent is outside 1 to 100 or given twice.
    #[error(transparent)]
    InvalidThreshold(#[from] InvalidThreshold),
    /// There is not enough memory to grow and still answer later calls.
    #[error("the memory of this instance is used up")]
    OutOfMemory,
}

/// A live view of one thread's budget. Clones share it; it outlives its place in the registry and
/// then goes on counting, detached.
#[derive(Clone, Debug)]
pub struct ThreadBudget(Rc<Thread>);

#[derive(Debug)]
struct Thread {
    id: Box<str>,
    budget: Cell<Budget>,
}

impl ThreadBudget {
    pub(crate) fn new(id: &str, budget: Budget) -> Self {
        Self(Rc::new(Thread { id: id.into(), budget: Cell::new(budget) }))
    }

    /// The thread this budget was created for.
    #[must_use]
    pub fn thread_id(&self) -> &str {
        &self.0.id
    }

    /// The counters of now.
    #[must_use]
    pub fn budget(&self) -> Budget {
        self.0.budget.get()
    }

    /// The usage of now.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.budget().usage()
    }

    /// Record what one request used and report the thresholds it crossed.
    pub fn consume(&self, prompt_tokens: u64, completion_tokens: u64, thresholds: &Thresholds) -> Consumed {
        let mut budget = self.budget();
        budget.record(prompt_tokens, completion_tokens);
        Consumed { usage: budget.usage(), crossed: self.cross(budget, thresholds) }
    }

    /// Report, and mark, the thresholds that are reached and were not reported before.
    pub fn check_thresholds(&self, thresholds: &Thresholds) -> Vec<ThresholdCrossed> {
        self.cross(self.budget(), thresholds)
    }

    /// Keep the budget, with the thresholds that it crosses marked, and report those.
    fn cross(&self, mut budget: Budget, thresholds: &Thresholds) -> Vec<ThresholdCrossed> {
        let crossed = budget.cross(thresholds);
        self.0.budget.set(budget);
        if crossed.is_empty() {
            return Vec::new();
        }
        let percent_used = round_to_tenth(budget.percent_used());
        let usage = budget.usage();
        let mut report = Vec::with_capacity(crossed.len());
        report.extend(crossed.iter().map(|percent| ThresholdCrossed {
            thread_id: self.thread_id().into(),
            threshold_percent: percent,
            severity: thresholds.severity(percent),
            percent_used,
            tokens_used: usage.total_tokens,
            tokens_remaining: usage.remaining,
            max_tokens: usage.max_tokens,
        }));
        report
    }

    /// The eight bytes of the id after a prefix of that length, in the order of the ids.
    fn key_after(&self, prefix: usize) -> u64 {
        let rest = self.thread_id().as_bytes().get(prefix..).unwrap_or_default();
        (0..8).fold(0, |key, at| key << 8 | u64::from(rest.get(at).copied().unwrap_or_default()))
    }

    fn check(&self, estimated_tokens: u64) -> Result<(), BudgetExhausted> {
        let budget = self.budget();
        if !budget.is_exhausted() && budget.can_consume(estimated_tokens) {
            return Ok(());
        }
        let usage = budget.usage();
        Err(BudgetExhausted {
            thread_id: self.thread_id().into(),
            used: usage.total_tokens,
            max_tokens: usage.max_tokens,
            requested: estimated_tokens,
        })
    }
}

/// Budgets by thread id.
#[derive(Debug)]
pub struct Registry {
    max_tokens_per_thread: u64,
    max_threads: u32,
    thresholds: Thresholds,
    threads: Index,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// No threads, [`DEFAULT_MAX_TOKENS`] a thread, [`Thresholds::DEFAULT`], no thread limit.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_tokens_per_thread: DEFAULT_MAX_TOKENS,
            max_threads: u32::MAX,
            thresholds: Thresholds::DEFAULT,
            threads: Index::new(),
        }
    }

    /// Set the limit of threads created from now on.
    pub fn configure(&mut self, max_tokens_per_thread: u64) {
        self.max_tokens_per_thread = max_tokens_per_thread;
    }

    /// The limit that a new thread gets.
    #[must_use]
    pub fn max_tokens_per_thread(&self) -> u64 {
        self.max_tokens_per_thread
    }

    /// Replace the thresholds, for every thread from its next consumption on.
    ///
    /// # Errors
    /// [`RegistryError::InvalidThreshold`]; the thresholds in force then stay.
    pub fn set_thresholds(
        &mut self,
        thresholds: impl IntoIterator<Item = Threshold>,
    ) -> Result<(), RegistryError> {
        self.thresholds = Thresholds::new(thresholds)?;
        Ok(())
    }

    /// The thresholds in force.
    #[must_use]
    pub fn thresholds(&self) -> &Thresholds {
        &self.thresholds
    }

    /// Set how many threads may exist; those beyond a lowered limit stay.
    pub fn set_max_threads(&mut self, max_threads: u32) {
        self.max_threads = max_threads;
    }

    /// A handle on the thread's budget; the thread is created when it does not exist.
    ///
    /// # Errors
    /// [`RegistryError::InvalidThreadId`], [`RegistryError::TooManyThreads`] and
    /// [`RegistryError::OutOfMemory`], also for a thread that exists: a handle takes memory.
    pub fn get_budget(&mut self, thread_id: &str) -> Result<ThreadBudget, RegistryError> {
        room_to_grow()?;
        self.open(thread_id)
    }

    /// Whether the thread may use `estimated_tokens` more; creates it when it does not exist.
    ///
    /// # Errors
    /// [`RegistryError::Exhausted`] when the total has reached the limit or the estimate does not
    /// fit; otherwise as [`Registry::consume`].
    pub fn check_budget(&mut self, thread_id: &str, estimated_tokens: u64) -> Result<(), RegistryError> {
        Ok(self.open(thread_id)?.check(estimated_tokens)?)
    }

    /// Record what one request used; creates the thread when it does not exist.
    ///
    /// # Errors
    /// [`RegistryError::InvalidThreadId`]; for a new thread also [`RegistryError::TooManyThreads`]
    /// and [`RegistryError::OutOfMemory`].
    pub fn consume(
        &mut self,
        thread_id: &str,
        prompt_tokens: u64,
        completion_tokens: u64,
    ) -> Result<Consumed, RegistryError> {
        let thread = self.open(thread_id)?;
        Ok(thread.consume(prompt_tokens, completion_tokens, &self.thresholds))
    }

    /// Whether the thread exists.
    #[must_use]
    pub fn has_budget(&self, thread_id: &str) -> bool {
        self.threads.get(thread_id).is_some()
    }

    /// The thread's usage, if it exists.
    #[must_use]
    pub fn get_usage(&self, thread_id: &str) -> Option<Usage> {
        self.threads.get(thread_id).map(ThreadBudget::usage)
    }

    /// Every thread, ascending by id, for a caller who will copy each id and `row_bytes` beside it.
    ///
    /// # Errors
    /// [`RegistryError::OutOfMemory`] when the list and those copies do not fit in memory together.
    pub fn all_threads(
        &self,
        row_bytes: usize,
    ) -> Result<impl ExactSizeIterator<Item = &ThreadBudget>, RegistryError> {
        let mut all = Vec::new();
        all.try_reserve_exact(self.threads.len()).map_err(|_| RegistryError::OutOfMemory)?;
        let prefix = self.common_prefix();
        let mut copies = 0usize;
        self.threads.iter().for_each(|thread| {
            all.push(ById { key: thread.key_after(prefix), thread });
            copies = copies.saturating_add(thread.thread_id().len() + row_bytes);
        });
        if !has_room(copies) {
            return Err(RegistryError::OutOfMemory);
        }
        // A heap sorts in place, without the worst cases or the code size of the slice sorts.
        Ok(BinaryHeap::from(all).into_sorted_vec().into_iter().map(|by_id| by_id.thread))
    }

    /// How many bytes all ids start with in common.
    fn common_prefix(&self) -> usize {
        let mut common: Option<&[u8]> = None;
        self.threads.iter().for_each(|thread| {
            let id = thread.thread_id().as_bytes();
            let so_far = common.unwrap_or(id);
            let alike = so_far.iter().zip(id).take_while(|(a, b)| a == b).count();
            common = so_far.get(..alike);
        });
        common.map_or(0, <[u8]>::len)
    }

    /// Forget the thread; handles on it go on counting, detached.
    pub fn reset_thread(&mut self, thread_id: &str) {
        self.threads.remove(thread_id);
    }

    /// Forget the thread and return its final budget, if it existed.
    pub fn cleanup_thread(&mut self, thread_id: &str) -> Option<FinalBudget> {
        let budget = self.threads.remove(thread_id)?.budget();
        Some(FinalBudget {
            usage: budget.usage(),
            percent_used: budget.percent_used(),
            triggered_thresholds: budget.triggered().iter().collect(),
        })
    }

    /// Forget every thread; the settings stay.
    pub fn clear(&mut self) {
        self.threads.clear();
    }

    /// Get or create.
    fn open(&mut self, thread_id: &str) -> Result<ThreadBudget, RegistryError> {
        if let Some(thread) = self.threads.get(thread_id) {
            return Ok(thread.clone());
        }
        if !(1..=MAX_THREAD_ID_BYTES).contains(&thread_id.len()) {
            return Err(InvalidThreadId.into());
        }
        if self.threads.len() >= self.max_threads as usize {
            return Err(RegistryError::TooManyThreads(self.max_threads));
        }
        self.threads.reserve().map_err(|_| RegistryError::OutOfMemory)?;
        room_to_grow()?;
        let thread = ThreadBudget::new(thread_id, Budget::new(self.max_tokens_per_thread));
        self.threads.insert(thread.clone());
        Ok(thread)
    }
}

/// Threads in the order of their ids, most of it decided by a few bytes at hand.
struct ById<'a> {
    key: u64,
    thread: &'a ThreadBudget,
}

impl Ord for ById<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key).then_with(|| self.thread.thread_id().cmp(other.thread.thread_id()))
    }
}

impl PartialOrd for ById<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ById<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ById<'_> {}

fn room_to_grow() -> Result<(), RegistryError> {
    if has_room(HEADROOM) { Ok(()) } else { Err(RegistryError::OutOfMemory) }
}
