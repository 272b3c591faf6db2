//! The registry: budgets by thread id, and the settings they share.

use crate::budget::{Budget, Usage};
use crate::error::{InvalidRequestId, InvalidThreadId, RegistryError};
use crate::index::Index;
use crate::memory::{has_headroom, has_headroom_to_spare, has_room};
use crate::reservation::Reservation;
use crate::snapshot::ThreadState;
use crate::thread::{Consumed, ThreadBudget, ThresholdCrossed};
use crate::threshold::{Threshold, Thresholds};
use crate::warning::BudgetWarning;
use crate::{DEFAULT_MAX_TOKENS, MAX_BATCH, MAX_DEPTH, MAX_REQUEST_ID_BYTES, MAX_THREAD_ID_BYTES};
use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Ordering;

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

/// Budgets by thread id.
#[derive(Debug)]
pub struct Registry {
    max_tokens_per_thread: u64,
    max_threads: u32,
    thresholds: Thresholds,
    threads: Index,
    /// As many as there have ever been.
    most_threads: usize,
    /// The longest line of ancestors there has ever been: a reservation on it may be committed when it
    /// is gone.
    deepest: u32,
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
            most_threads: 0,
            deepest: 1,
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
    #[inline(never)] // Shared by calls, to save bytes; `get_or_create` is in those that are made most.
    pub fn get_budget(&mut self, thread_id: &str) -> Result<ThreadBudget, RegistryError> {
        self.room_to_grow()?;
        self.get_or_create(thread_id)
    }

    /// A handle on a thread with a limit of its own, or with a parent, or both. What it consumes and
    /// holds also counts against every ancestor, and a check asks them all. Without a limit it gets
    /// the one in force. A thread that exists is returned as it is when it has the limit and the
    /// parent that are asked for.
    ///
    /// # Errors
    /// As [`Registry::get_budget`], and [`RegistryError::ParentCycle`],
    /// [`RegistryError::UnknownParent`], [`RegistryError::TooDeep`], [`RegistryError::OptionsDiffer`].
    pub fn open_thread(
        &mut self,
        thread_id: &str,
        max_tokens: Option<u64>,
        parent: Option<&str>,
    ) -> Result<ThreadBudget, RegistryError> {
        check_id(thread_id)?;
        let parent = parent.map(|parent| self.parent_for(thread_id, parent)).transpose()?;
        if let Some(thread) = self.threads.get(thread_id) {
            let same_limit = max_tokens.is_none_or(|limit| limit == thread.usage().max_tokens);
            let same_parent = parent.is_none_or(|parent| {
                thread.parent().is_some_and(|current| current.thread_id() == parent.thread_id())
            });
            if !(same_limit && same_parent) {
                return Err(RegistryError::OptionsDiffer(thread_id.into()));
            }
            self.room_to_grow()?;
            return Ok(thread.clone());
        }
        let opened = max_tokens.is_some() || parent.is_some();
        let budget = Budget::new(max_tokens.unwrap_or(self.max_tokens_per_thread));
        self.create(thread_id, budget, opened, parent.as_ref())
    }

    /// Give the thread another limit, which it keeps over a reset; creates it when it does not exist.
    /// Thresholds that are not reached under it fire when they are again. Returns the usage under it.
    ///
    /// # Errors
    /// As [`Registry::get_budget`].
    pub fn set_limit(&mut self, thread_id: &str, max_tokens: u64) -> Result<Usage, RegistryError> {
        Ok(self.get_budget(thread_id)?.set_limit(max_tokens))
    }

    /// Whether the thread may use `estimated_tokens` more, beside what is held; creates it when it
    /// does not exist.
    ///
    /// # Errors
    /// [`RegistryError::Exhausted`] when all is used or held or the estimate does not fit, here or in
    /// an ancestor; otherwise as [`Registry::consume`].
    pub fn check_budget(&mut self, thread_id: &str, estimated_tokens: u64) -> Result<(), RegistryError> {
        Ok(self.get_or_create(thread_id)?.check(estimated_tokens)?)
    }

    /// A check that also holds the tokens until the reservation is committed or dropped.
    ///
    /// # Errors
    /// As [`Registry::check_budget`]; [`RegistryError::OutOfMemory`] also for a thread that exists.
    pub fn reserve(&mut self, thread_id: &str, estimated_tokens: u64) -> Result<Reservation, RegistryError> {
        let thread = self.get_budget(thread_id)?;
        thread.check(estimated_tokens)?;
        Ok(Reservation::new(thread, estimated_tokens))
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
        let thread = self.get_or_create(thread_id)?;
        Ok(thread.consume(prompt_tokens, completion_tokens, &self.thresholds))
    }

    /// The same, unless the thread has counted a request of that id among its latest
    /// [`REQUEST_WINDOW`](crate::REQUEST_WINDOW): then nothing is counted and the result says so.
    ///
    /// # Errors
    /// As [`Registry::consume`], [`RegistryError::OutOfMemory`] also for a thread that exists; and
    /// [`RegistryError::InvalidRequestId`].
    pub fn consume_once(
        &mut self,
        thread_id: &str,
        request_id: &str,
        prompt_tokens: u64,
        completion_tokens: u64,
    ) -> Result<Consumed, RegistryError> {
        check_id(thread_id)?;
        if !(1..=MAX_REQUEST_ID_BYTES).contains(&request_id.len()) {
            return Err(InvalidRequestId.into());
        }
        if let Some(thread) = self.threads.get(thread_id)
            && thread.requests().is_some_and(|requests| requests.contains(request_id))
        {
            return Ok(Consumed { usage: thread.usage(), crossed: Vec::new(), repeated: true });
        }
        let thread = self.get_budget(thread_id)?;
        thread.requests_mut().push(request_id);
        Ok(thread.consume(prompt_tokens, completion_tokens, &self.thresholds))
    }

    /// Record all of these, or none: thread, prompt and completion tokens of each. Returns what they
    /// crossed, in their order. `row_bytes` is what a caller who copies that list takes for each row
    /// beside the id.
    ///
    /// # Errors
    /// As [`Registry::consume`], and [`RegistryError::BatchTooLarge`]; [`RegistryError::OutOfMemory`]
    /// also when there may be no room for the result.
    pub fn consume_batch<'a>(
        &mut self,
        entries: impl ExactSizeIterator<Item = (&'a str, u64, u64)> + Clone,
        row_bytes: usize,
    ) -> Result<Vec<ThresholdCrossed>, RegistryError> {
        if entries.len() > MAX_BATCH {
            return Err(RegistryError::BatchTooLarge(MAX_BATCH as u32));
        }
        for (thread_id, _, _) in entries.clone() {
            check_id(thread_id)?;
        }
        let mut threads = Vec::with_capacity(entries.len());
        let mut crossed = Vec::new();
        let before = self.threads.len();
        let mut created = Vec::new();
        let mut prepare = || {
            let (mut rows, mut copies) = (0, 0usize);
            for (thread_id, _, _) in entries.clone() {
                let thread = self.get_or_create(thread_id)?;
                if self.threads.len() > before + created.len() {
                    created.push(thread.clone());
                }
                for (thread, most) in thread.largest_report(&self.thresholds) {
                    rows += most;
                    copies = copies.saturating_add(most * (thread.thread_id().len() + row_bytes));
                }
                threads.push(thread);
            }
            // At once, since a list that grows takes up to three times its size.
            let room = crossed.try_reserve_exact(rows).is_ok() && has_room(copies);
            if room { Ok(()) } else { Err(RegistryError::OutOfMemory) }
        };
        if let Err(error) = prepare() {
            for thread in created {
                self.threads.remove(thread.thread_id());
                thread.detach();
            }
            return Err(error);
        }
        for (thread, (_, prompt_tokens, completion_tokens)) in threads.iter().zip(entries) {
            crossed.append(&mut thread.consume(prompt_tokens, completion_tokens, &self.thresholds).crossed);
        }
        Ok(crossed)
    }

    /// The thresholds that the thread has crossed and that were not taken before, ascending, with the
    /// numbers of now. None when the thread does not exist.
    pub fn take_warnings(&mut self, thread_id: &str) -> Vec<BudgetWarning> {
        self.threads.get(thread_id).map_or_else(Vec::new, ThreadBudget::take_warnings)
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

    /// Tokens that live reservations hold of the thread; 0 when it does not exist.
    #[must_use]
    pub fn held_tokens(&self, thread_id: &str) -> u64 {
        self.threads.get(thread_id).map_or(0, ThreadBudget::held_tokens)
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

    /// Start the thread over; handles on it go on counting, detached. One that was opened, or that
    /// has children, gets a fresh budget in its place: an opened one of the same limit, with the
    /// parent and the children it had. Any other is forgotten.
    ///
    /// When there is no memory for a fresh budget beside the old one, the old one starts over itself
    /// and handles on it stay attached.
    pub fn reset_thread(&mut self, thread_id: &str) {
        let Some(thread) = self.threads.get(thread_id).cloned() else { return };
        if !thread.keeps_its_place() {
            self.threads.remove(thread_id);
            thread.detach();
            return;
        }
        let limit = if thread.is_opened() { thread.usage().max_tokens } else { self.max_tokens_per_thread };
        let budget = Budget::new(limit);
        if self.room_to_grow().is_ok() {
            let fresh = ThreadBudget::new(thread_id, budget);
            thread.replace_by(&fresh);
            self.threads.replace(fresh);
        } else {
            thread.restart(budget);
        }
    }

    /// Forget the thread, and every thread below it, and return its final budget, if it existed.
    pub fn cleanup_thread(&mut self, thread_id: &str) -> Option<FinalBudget> {
        let thread = self.threads.remove(thread_id)?;
        self.forget_below(&thread);
        let budget = thread.budget();
        Some(FinalBudget {
            usage: budget.usage(),
            percent_used: budget.percent_used(),
            triggered_thresholds: budget.triggered().iter().collect(),
        })
    }

    /// Forget every thread; the settings stay.
    pub fn clear(&mut self) {
        let threads = core::mem::take(&mut self.threads);
        threads.iter().for_each(|thread| drop(thread.detach()));
    }

    /// The states of up to `limit` threads after the one of that id, in an order in which parents come
    /// before their children. Fewer when memory or [`MAX_PAGE`](crate::MAX_PAGE) want it so, none
    /// when there are no more. `row_bytes` is what a caller who copies a state takes beside its lists.
    #[must_use]
    pub fn snapshot(&self, after: Option<&str>, limit: u32, row_bytes: usize) -> Vec<ThreadState> {
        let mut page = self.page(after, (limit as usize).min(crate::MAX_PAGE));
        // What the states take here, and again in a copy.
        let bytes = |page: &[&ThreadBudget]| -> usize {
            page.iter().map(|thread| 2 * ThreadState::bytes_of(thread) + row_bytes).sum()
        };
        while page.len() > 1 && !has_room(bytes(&page)) {
            page.truncate(page.len() / 2);
        }
        page.into_iter().map(ThreadState::of).collect()
    }

    /// By depth, then in the order of the index.
    fn page(&self, after: Option<&str>, limit: usize) -> Vec<&ThreadBudget> {
        let mut page = Vec::new();
        let mut after = after;
        let mut depth = after.and_then(|id| self.threads.get(id)).map_or(1, ThreadBudget::depth);
        while page.len() < limit && depth <= self.deepest {
            let of_this_depth = self.threads.iter_after(after).filter(|thread| thread.depth() == depth);
            page.extend(of_this_depth.take(limit - page.len()));
            depth += 1;
            after = None;
        }
        page
    }

    /// Bring threads back, all or none. None of them may exist; a parent must, or come earlier in
    /// the list. Pages are restored in the order in which they were taken.
    ///
    /// # Errors
    /// [`RegistryError::InvalidState`] and everything that creating threads can meet.
    pub fn restore(&mut self, states: &[ThreadState]) -> Result<(), RegistryError> {
        for (at, state) in states.iter().enumerate() {
            if let Err(error) = self.restore_one(state) {
                // Children come after their parents, so that each is alone when its turn comes.
                for restored in states.iter().take(at).rev() {
                    self.cleanup_thread(&restored.thread_id);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn restore_one(&mut self, state: &ThreadState) -> Result<(), RegistryError> {
        check_id(&state.thread_id)?;
        if self.has_budget(&state.thread_id) {
            return Err(state.invalid("it exists already"));
        }
        if state.parent.is_some() && !state.opened {
            return Err(state.invalid("a thread with a parent was opened"));
        }
        let budget = state.check().map_err(|why| state.invalid(why))?;
        let parent = state.parent.as_deref();
        let parent = parent.map(|parent| self.parent_for(&state.thread_id, parent)).transpose()?;
        let thread = self.create(&state.thread_id, budget, state.opened, parent.as_ref())?;
        state.request_ids.iter().for_each(|request_id| thread.requests_mut().push(request_id));
        Ok(())
    }

    /// Get or create.
    fn get_or_create(&mut self, thread_id: &str) -> Result<ThreadBudget, RegistryError> {
        if let Some(thread) = self.threads.get(thread_id) {
            return Ok(thread.clone());
        }
        check_id(thread_id)?;
        self.create(thread_id, Budget::new(self.max_tokens_per_thread), false, None)
    }

    /// Create a thread that does not exist, of an id that is valid.
    fn create(
        &mut self,
        thread_id: &str,
        budget: Budget,
        opened: bool,
        parent: Option<&ThreadBudget>,
    ) -> Result<ThreadBudget, RegistryError> {
        if self.threads.len() >= self.max_threads as usize {
            return Err(RegistryError::TooManyThreads(self.max_threads));
        }
        let depth = parent.map_or(1, |parent| parent.depth() + 1);
        let deepest = self.deepest.max(depth);
        self.threads.reserve().map_err(|_| RegistryError::OutOfMemory)?;
        if let Some(mut siblings) = parent.and_then(ThreadBudget::children) {
            siblings.reserve().map_err(|_| RegistryError::OutOfMemory)?;
        }
        let thread = ThreadBudget::new(thread_id, budget);
        if opened {
            thread.set_opened();
        }
        if let Some(parent) = parent {
            thread.adopt(parent);
        }
        self.threads.insert(thread.clone());
        // Looked at when it is there, so that a thread that fits where another was is not refused for
        // the headroom that it does not touch.
        let more_than_ever = self.threads.len() > self.most_threads;
        let room = if more_than_ever { has_headroom_to_spare(deepest) } else { has_headroom(deepest) };
        if !room {
            self.threads.remove(thread_id);
            thread.detach();
            return Err(RegistryError::OutOfMemory);
        }
        self.most_threads = self.most_threads.max(self.threads.len());
        self.deepest = deepest;
        Ok(thread)
    }

    /// The thread of the id `parent`, if it can be the parent of the other.
    fn parent_for(&self, thread_id: &str, parent: &str) -> Result<ThreadBudget, RegistryError> {
        let cycle = || RegistryError::ParentCycle(parent.into());
        if parent == thread_id {
            return Err(cycle());
        }
        let parent_thread =
            self.threads.get(parent).cloned().ok_or_else(|| RegistryError::UnknownParent(parent.into()))?;
        if parent_thread.ancestors().any(|ancestor| ancestor.thread_id() == thread_id) {
            return Err(cycle());
        }
        if parent_thread.depth() >= MAX_DEPTH {
            return Err(RegistryError::TooDeep(MAX_DEPTH));
        }
        Ok(parent_thread)
    }

    /// Take a thread that has left the index out of its tree, and what is below it out of both.
    fn forget_below(&mut self, thread: &ThreadBudget) {
        let children = thread.detach();
        children.iter().for_each(|child| {
            self.threads.remove(child.thread_id());
            self.forget_below(child);
        });
    }

    /// Whether state may grow: a consumption can make a report for each thread of the longest line.
    fn room_to_grow(&self) -> Result<(), RegistryError> {
        if has_headroom(self.deepest) { Ok(()) } else { Err(RegistryError::OutOfMemory) }
    }
}

fn check_id(thread_id: &str) -> Result<(), InvalidThreadId> {
    if (1..=MAX_THREAD_ID_BYTES).contains(&thread_id.len()) { Ok(()) } else { Err(InvalidThreadId) }
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
