//! The registry: settings, and the threads they apply to.

mod batch;
mod changes;
mod holds;
mod listing;
mod snapshot;

pub use holds::Wanted;

use crate::answer::{Consumed, FinalBudget, ThresholdCrossed};
use crate::budget::{Budget, Usage};
use crate::changes::Noted;
use crate::crossings::Crossings;
use crate::error::{CheckError, CreateError, InvalidThreadId, OpenError};
use crate::memory::Headroom;
use crate::requests::Requests;
use crate::thread::ThreadBudget;
use crate::threads::Threads;
use crate::threshold::{InvalidThreshold, Threshold, Thresholds};
use crate::warning::BudgetWarning;
use crate::{DEFAULT_MAX_TOKENS, MAX_DEPTH, MAX_THREAD_ID_BYTES};
use alloc::vec::Vec;

/// What a thread takes at most beside its id, with what it has beyond most and its places in indexes.
const THREAD_BYTES: usize = 1_024;

/// What a handle takes at most.
const HANDLE_BYTES: usize = 64;

/// Budgets by thread id.
#[derive(Debug)]
pub struct Registry {
    max_tokens_per_thread: u64,
    max_threads: u32,
    thresholds: Thresholds,
    next_birth: u64,
    /// Above every birth that was restored.
    least_birth: u64,
    threads: Threads,
    requests: Requests,
    noted: Noted,
    /// As many threads as there have ever been.
    most_threads: usize,
    headroom: Headroom,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// No threads, [`DEFAULT_MAX_TOKENS`] a thread, [`Thresholds::DEFAULT`], no thread limit, the first
    /// birth 1.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_tokens_per_thread: DEFAULT_MAX_TOKENS,
            max_threads: u32::MAX,
            thresholds: Thresholds::DEFAULT,
            next_birth: 1,
            least_birth: 0,
            threads: Threads::new(),
            requests: Requests::new(),
            noted: Noted::new(),
            most_threads: 0,
            headroom: Headroom::new(),
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
    /// A percent that is outside 1 to 100 or given twice; the thresholds in force then stay.
    pub fn set_thresholds(
        &mut self,
        thresholds: impl IntoIterator<Item = Threshold>,
    ) -> Result<(), InvalidThreshold> {
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

    /// Set what the next new thread's birth will be. It counts up by one for each, to 2^64-1 at most.
    pub fn set_next_birth(&mut self, birth: u64) {
        self.next_birth = birth.max(self.least_birth);
    }

    /// A handle on the thread's budget; the thread is created when it does not exist.
    ///
    /// # Errors
    /// The thread is new and was not created, or there is no memory for the handle.
    #[inline(never)] // Shared by calls, to save bytes; `get_or_create` is in those that are made most.
    pub fn get_budget(&mut self, thread_id: &str) -> Result<ThreadBudget, CreateError> {
        self.room_to_grow(HANDLE_BYTES)?;
        self.get_or_create(thread_id)
    }

    /// A handle on a thread with a limit of its own, or with a parent, or both. What it consumes and
    /// holds also counts against every ancestor, and a check asks them all. Without a limit it gets
    /// the one in force. A thread that exists is returned as it is when it has the limit and the
    /// parent that are asked for.
    ///
    /// # Errors
    /// As [`Registry::get_budget`]; the parent cannot be one, or the thread exists otherwise.
    pub fn open_thread(
        &mut self,
        thread_id: &str,
        max_tokens: Option<u64>,
        parent: Option<&str>,
    ) -> Result<ThreadBudget, OpenError> {
        check_id(thread_id)?;
        let parent = parent.map(|parent| self.parent_for(thread_id, parent)).transpose()?;
        if let Some(thread) = self.threads.get(thread_id).cloned() {
            let same_limit = max_tokens.is_none_or(|limit| limit == thread.usage().max_tokens);
            let same_parent = parent.is_none_or(|parent| {
                thread.parent().is_some_and(|current| current.thread_id() == parent.thread_id())
            });
            if !(same_limit && same_parent) {
                return Err(OpenError::OptionsDiffer(thread_id.into()));
            }
            self.room_to_grow(HANDLE_BYTES)?;
            return Ok(thread);
        }
        let opened = max_tokens.is_some() || parent.is_some();
        let budget = Budget::new(max_tokens.unwrap_or(self.max_tokens_per_thread));
        let thread =
            self.create(thread_id, self.next_birth, budget, Crossings::NONE, opened, parent.as_ref())?;
        self.noted.change(&thread);
        Ok(thread)
    }

    /// Give the thread another limit, which it keeps over a reset; creates it when it does not exist.
    /// Thresholds that are not reached under it fire when they are again. Returns the usage under it.
    ///
    /// # Errors
    /// As [`Registry::get_budget`].
    pub fn set_limit(&mut self, thread_id: &str, max_tokens: u64) -> Result<Usage, CreateError> {
        let thread = self.get_budget(thread_id)?;
        self.noted.change(&thread);
        Ok(thread.set_limit(max_tokens))
    }

    /// Whether the thread may use `estimated_tokens` more, beside what is held; creates it when it
    /// does not exist.
    ///
    /// # Errors
    /// [`CheckError::Exhausted`] when all is used or held or the estimate does not fit, here or in
    /// an ancestor; otherwise as [`Registry::consume`].
    pub fn check_budget(&mut self, thread_id: &str, estimated_tokens: u64) -> Result<(), CheckError> {
        self.get_or_create(thread_id)?.admit(estimated_tokens.into(), 0)?;
        Ok(())
    }

    /// Record what one request used; creates the thread when it does not exist.
    ///
    /// # Errors
    /// The thread is new and was not created.
    pub fn consume(
        &mut self,
        thread_id: &str,
        prompt_tokens: u64,
        completion_tokens: u64,
    ) -> Result<Consumed, CreateError> {
        let thread = self.get_or_create(thread_id)?;
        Ok(self.consume_of(&thread, prompt_tokens, completion_tokens))
    }

    /// The same on a budget that there is a handle on, which goes on counting when it is detached.
    pub fn consume_of(
        &mut self,
        thread: &ThreadBudget,
        prompt_tokens: u64,
        completion_tokens: u64,
    ) -> Consumed {
        self.noted.change_line(thread);
        thread.consume(prompt_tokens, completion_tokens, &self.thresholds)
    }

    /// Report, and mark, the thresholds that a budget has reached and that were not reported before.
    pub fn check_thresholds_of(
        &mut self,
        thread: &ThreadBudget,
        thresholds: &Thresholds,
    ) -> Vec<ThresholdCrossed> {
        let crossed = thread.check_thresholds(thresholds);
        if !crossed.is_empty() {
            self.noted.change(thread);
        }
        crossed
    }

    /// The warnings for thresholds that the thread has crossed and nobody has acknowledged, ascending, with
    /// the numbers of now. None when the thread does not exist.
    #[must_use]
    pub fn pending_warnings(&self, thread_id: &str) -> Vec<BudgetWarning> {
        self.threads.get(thread_id).map_or_else(Vec::new, ThreadBudget::pending_warnings)
    }

    /// The agent has the warnings of these percents and limits: they are no longer pending. Any that is not
    /// pending under the limit of now is passed over.
    pub fn acknowledge_warnings(
        &mut self,
        thread_id: &str,
        acknowledgements: impl IntoIterator<Item = (u32, u64)>,
    ) {
        if let Some(thread) = self.threads.get(thread_id)
            && thread.acknowledge_warnings(acknowledgements.into_iter())
        {
            self.noted.change(thread);
        }
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

    /// Tokens held for requests in flight, of the thread and of those below it; 0 when it does not exist.
    #[must_use]
    pub fn held_tokens(&self, thread_id: &str) -> u64 {
        self.threads.get(thread_id).map_or(0, ThreadBudget::held_tokens)
    }

    /// Start the thread over; handles on it go on counting, detached, and its holds move to its parent.
    /// One that was opened, or that has children, gets a fresh budget in its place: an opened one of the
    /// same limit, with the parent and the children it had. Any other is forgotten.
    ///
    /// When there is no memory for a fresh budget beside the old one, the old one starts over itself
    /// and handles on it stay attached.
    pub fn reset_thread(&mut self, thread_id: &str) {
        let Some(thread) = self.threads.get(thread_id).cloned() else { return };
        if !thread.keeps_its_place() {
            self.noted.go(&thread);
            self.forget(&thread, None);
            return;
        }
        let limit = if thread.is_opened() { thread.usage().max_tokens } else { self.max_tokens_per_thread };
        let budget = Budget::new(limit);
        let birth = self.next_birth;
        self.move_requests(&thread, thread.parent().as_ref());
        if self.room_to_grow(THREAD_BYTES + thread_id.len()).is_ok() {
            let fresh = ThreadBudget::new(thread_id, birth, budget, Crossings::NONE);
            thread.replace_by(&fresh);
            self.noted.change(&fresh);
            self.threads.replace(fresh);
        } else {
            thread.restart(birth, budget);
            self.noted.change(&thread);
        }
        self.count_birth(birth);
    }

    /// Forget the thread, and every thread below it, and return its final budget, if it existed. What they
    /// hold moves to its parent.
    pub fn cleanup_thread(&mut self, thread_id: &str) -> Option<FinalBudget> {
        let thread = self.threads.get(thread_id)?.clone();
        self.noted.go_with_all_below(&thread);
        self.forget(&thread, thread.parent().as_ref());
        let budget = thread.budget();
        Some(FinalBudget {
            usage: budget.usage(),
            percent_used: budget.percent_used(),
            triggered_thresholds: thread.triggered().map(|threshold| threshold.percent).collect(),
        })
    }

    /// Forget every thread, and all that is held; the settings stay.
    pub fn clear(&mut self) {
        let threads = core::mem::take(&mut self.threads);
        for thread in threads.iter() {
            self.noted.go(thread);
            self.requests.move_all(thread, None);
            thread.detach();
        }
    }

    /// Get or create.
    fn get_or_create(&mut self, thread_id: &str) -> Result<ThreadBudget, CreateError> {
        if let Some(thread) = self.threads.get(thread_id) {
            return Ok(thread.clone());
        }
        check_id(thread_id)?;
        let budget = Budget::new(self.max_tokens_per_thread);
        let thread = self.create(thread_id, self.next_birth, budget, Crossings::NONE, false, None)?;
        self.noted.change(&thread);
        Ok(thread)
    }

    /// Create a thread that does not exist, of an id that is valid.
    fn create(
        &mut self,
        thread_id: &str,
        birth: u64,
        budget: Budget,
        crossings: Crossings,
        opened: bool,
        parent: Option<&ThreadBudget>,
    ) -> Result<ThreadBudget, CreateError> {
        self.room_for_a_thread()?;
        self.threads.reserve().map_err(|_| CreateError::OutOfMemory)?;
        if let Some(mut siblings) = parent.and_then(ThreadBudget::children) {
            siblings.reserve().map_err(|_| CreateError::OutOfMemory)?;
        }
        let thread = ThreadBudget::new(thread_id, birth, budget, crossings);
        if opened {
            thread.set_opened();
        }
        if let Some(parent) = parent {
            thread.adopt(parent);
        }
        self.threads.insert(thread.clone());
        // Looked at when it is there, so that a thread that fits where another was is not refused for
        // the headroom that it does not touch.
        let (levels, threads) = (self.threads.levels(), self.threads.len());
        let more_than_ever = threads > self.most_threads;
        let bytes = THREAD_BYTES + thread_id.len();
        let room = if more_than_ever {
            self.headroom.allows_sparing(bytes, levels)
        } else {
            self.headroom.allows(bytes, levels)
        };
        if !room {
            self.forget(&thread, None);
            return Err(CreateError::OutOfMemory);
        }
        self.most_threads = self.most_threads.max(threads);
        self.count_birth(birth);
        Ok(thread)
    }

    /// The next birth comes after that of a thread that exists.
    fn count_birth(&mut self, birth: u64) {
        self.next_birth = self.next_birth.max(birth.saturating_add(1));
    }

    /// The thread of the id `parent`, if it can be the parent of the other.
    fn parent_for(&self, thread_id: &str, parent: &str) -> Result<ThreadBudget, OpenError> {
        let cycle = || OpenError::ParentCycle(parent.into());
        if parent == thread_id {
            return Err(cycle());
        }
        let parent_thread =
            self.threads.get(parent).cloned().ok_or_else(|| OpenError::UnknownParent(parent.into()))?;
        if parent_thread.line().any(|ancestor| ancestor.thread_id() == thread_id) {
            return Err(cycle());
        }
        if parent_thread.depth() >= MAX_DEPTH {
            return Err(OpenError::TooDeep(MAX_DEPTH));
        }
        Ok(parent_thread)
    }

    /// Take a thread, and every thread below it, out of the registry. Their requests move to `heir` or,
    /// where there is none, end.
    fn forget(&mut self, thread: &ThreadBudget, heir: Option<&ThreadBudget>) {
        while let Some(child) = thread.child_after(None) {
            self.forget(&child, heir);
        }
        self.move_requests(thread, heir);
        self.threads.remove(thread);
        thread.detach();
    }

    fn room_for_a_thread(&self) -> Result<(), CreateError> {
        if self.threads.len() < self.max_threads as usize {
            Ok(())
        } else {
            Err(CreateError::TooManyThreads(self.max_threads))
        }
    }

    /// Whether state other than threads may grow by up to so many bytes.
    fn room_to_grow(&mut self, bytes: usize) -> Result<(), CreateError> {
        let room = self.headroom.allows(bytes, self.threads.levels());
        if room { Ok(()) } else { Err(CreateError::OutOfMemory) }
    }
}

fn check_id(thread_id: &str) -> Result<(), CreateError> {
    if (1..=MAX_THREAD_ID_BYTES).contains(&thread_id.len()) { Ok(()) } else { Err(InvalidThreadId.into()) }
}
