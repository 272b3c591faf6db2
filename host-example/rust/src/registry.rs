//! The registry: each method one call into the component, and one record in the file if there is one.

use crate::MAX_THRESHOLDS;
use crate::bindings::exports::thread_budget::registry::registry as wit;
use crate::builder::RegistryBuilder;
use crate::error::{
    BatchError, CallError, InvalidInput, LoadError, check_batch, check_id, check_request_id, from_contract,
};
use crate::handle::{Reservation, ThreadBudget};
use crate::instance::Blueprint;
use crate::journal::{self, Durability, Journal, Note};
use crate::meter::Meter;
use crate::operation::Operation;
use crate::shards::{Locked, Shards};
use crate::types::{
    BudgetWarning, Consumed, FinalBudget, ThreadOptions, ThreadState, Threshold, ThresholdCrossed, Usage,
    UsageEntry, each,
};
use std::fmt;
use std::mem;
use std::sync::{Arc, PoisonError};
use wasmtime::component::ResourceAny;
use wasmtime::{Store, StoreLimits};

/// A registry of budgets: a component instance, or several that share its threads.
///
/// Clones share it, and every method can be called from any thread of the process and from async
/// code: without a database a call takes about a microsecond and waits only for another call on the
/// same instance, so nothing queues up. With a database a call that changes something waits for the
/// disk; from async code make it where blocking is allowed. Give each tenant a registry of its own
/// and nothing is shared between them.
///
/// Every method can also fail with [`CallError::Deadline`] or [`CallError::Trap`]. After either a
/// registry with a database is rebuilt from it by the next call; without one that part of it is lost
/// and says so, [`CallError::InstanceLost`]. With a database every method that changes something can
/// fail with [`CallError::Storage`].
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    blueprint: Blueprint,
    shards: Shards,
    /// With a database there is one shard.
    journal: Option<Journal>,
    meter: Meter,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("instances", &self.inner.shards.len())
            .field("database", &self.inner.journal.as_ref().map(Journal::path))
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// Settings for a new registry.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder::default()
    }

    pub(crate) fn new(
        blueprint: Blueprint,
        instances: usize,
        journal: Option<Journal>,
        meter: Meter,
    ) -> Result<Self, LoadError> {
        let mut made = Vec::new();
        for _ in 0..instances.max(1) {
            let mut instance = blueprint.instantiate()?;
            if let Some(journal) = &journal {
                journal.load_into(&mut instance)?;
            }
            made.push(instance);
        }
        Ok(Self { inner: Arc::new(Inner { blueprint, shards: Shards::new(made), journal, meter }) })
    }

    /// Set the limit, in tokens, of threads created from now on; threads that exist keep theirs, see
    /// [`Registry::set_limit`].
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn configure(&self, max_tokens_per_thread: u64) -> Result<(), CallError> {
        self.set(&Operation::Configure { max_tokens_per_thread })
    }

    /// The limit, in tokens, that a new thread gets.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn max_tokens_per_thread(&self) -> Result<u64, CallError> {
        self.lock(0)?.call(|registry, store| registry.call_max_tokens_per_thread(store))
    }

    /// Replace the thresholds, for every thread from its next consumption on.
    ///
    /// # Errors
    /// [`InvalidInput::Threshold`] and [`InvalidInput::TooManyThresholds`]; those in force then stay.
    pub fn set_thresholds(&self, thresholds: &[Threshold]) -> Result<(), CallError> {
        lower_thresholds(thresholds)?;
        self.set(&Operation::SetThresholds { thresholds: thresholds.to_vec() })
    }

    /// The thresholds in force, ascending by percent.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn thresholds(&self) -> Result<Vec<Threshold>, CallError> {
        Ok(each(self.lock(0)?.call(|registry, store| registry.call_thresholds(store))?))
    }

    /// Set how many threads may exist; those beyond a lowered limit stay. Of several instances each
    /// gets its share, rounded up.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn set_max_threads(&self, max_threads: u32) -> Result<(), CallError> {
        let instances = u32::try_from(self.inner.shards.len()).unwrap_or(u32::MAX);
        self.set(&Operation::SetMaxThreads { max_threads: max_threads.div_ceil(instances) })
    }

    /// A live handle on the thread's budget; the thread is created when it does not exist.
    ///
    /// # Errors
    /// [`InvalidInput::ThreadId`], [`CallError::TooManyThreads`], [`CallError::OutOfMemory`].
    pub fn get_budget(&self, thread_id: &str) -> Result<ThreadBudget, CallError> {
        self.inner.meter.call("get-budget", || {
            check_id(thread_id)?;
            let mut locked = self.lock_for(thread_id)?;
            let (number, generation) = (locked.number, locked.shard.generation);
            let result = self.creating(&mut locked, thread_id, |registry, store| {
                registry.call_get_budget(store, thread_id)
            })?;
            let handle = from_contract(result, thread_id)?;
            Ok(ThreadBudget::new(self.clone(), number, generation, thread_id, handle))
        })
    }

    /// A live handle on the thread's budget, if it exists.
    ///
    /// # Errors
    /// [`CallError::OutOfMemory`], and those of every method, see [`Registry`].
    pub fn find_budget(&self, thread_id: &str) -> Result<Option<ThreadBudget>, CallError> {
        self.inner.meter.call("find-budget", || {
            if check_id(thread_id).is_err() {
                return Ok(None);
            }
            let mut locked = self.lock_for(thread_id)?;
            let (number, generation) = (locked.number, locked.shard.generation);
            if !locked.call(|registry, store| registry.call_has_budget(store, thread_id))? {
                return Ok(None);
            }
            let result = locked.call(|registry, store| registry.call_get_budget(store, thread_id))?;
            let handle = from_contract(result, thread_id)?;
            Ok(Some(ThreadBudget::new(self.clone(), number, generation, thread_id, handle)))
        })
    }

    /// Create a thread with a limit of its own, or below a parent, or both. A thread that exists is
    /// returned as it is when it has the limit and the parent asked for.
    ///
    /// # Errors
    /// [`CallError::ParentCycle`], [`CallError::UnknownParent`], [`CallError::TooDeep`],
    /// [`CallError::OptionsDiffer`]; otherwise as [`Registry::get_budget`].
    pub fn open_thread(&self, thread_id: &str, options: &ThreadOptions) -> Result<ThreadBudget, CallError> {
        self.inner.meter.call("open-thread", || {
            check_id(thread_id)?;
            if let Some(parent) = &options.parent
                && check_id(parent).is_err()
            {
                return Err(CallError::UnknownParent { parent: parent.clone() });
            }
            let shards = &self.inner.shards;
            let Some(parent) = options.parent.as_deref().filter(|_| shards.len() > 1) else {
                return self.open_in(self.lock_for(thread_id)?, thread_id, options);
            };
            let mut tidied = shards.moving.lock().unwrap_or_else(PoisonError::into_inner);
            let (here, there) = (shards.number_for(thread_id), shards.number_for(parent));
            if here != there {
                // Announced first: whoever comes now is sent there, and who came before is seen here.
                shards.move_to(thread_id, there);
                let exists = self.lock(here).and_then(|mut locked| {
                    locked.call(|registry, store| registry.call_has_budget(store, thread_id))
                });
                if !matches!(exists, Ok(false)) {
                    self.undo_move(thread_id, there, here);
                    return Err(exists
                        .err()
                        .unwrap_or_else(|| CallError::OptionsDiffer { thread_id: thread_id.into() }));
                }
            }
            let result = self.lock(there).and_then(|locked| self.open_in(locked, thread_id, options));
            if result.is_err() && here != there {
                self.undo_move(thread_id, there, here);
            }
            shards.tidy_up(&mut tidied, |instance, thread_id| {
                let exists = instance.call(|registry, store| registry.call_has_budget(store, thread_id));
                exists.unwrap_or(true)
            });
            result
        })
    }

    /// Take back that a thread was sent to an instance, unless others have used it there meanwhile.
    fn undo_move(&self, thread_id: &str, there: usize, here: usize) {
        let mut locked = self.inner.shards.lock(there);
        let exists = locked.call(|registry, store| registry.call_has_budget(store, thread_id));
        if !exists.unwrap_or(false) {
            if here == self.inner.shards.number_by_id(thread_id) {
                self.inner.shards.move_back(thread_id);
            } else {
                self.inner.shards.move_to(thread_id, here);
            }
        }
    }

    fn open_in(
        &self,
        mut locked: Locked<'_>,
        thread_id: &str,
        options: &ThreadOptions,
    ) -> Result<ThreadBudget, CallError> {
        let lowered = options.clone().into();
        let (number, generation) = (locked.number, locked.shard.generation);
        let existed = self.exists_for_journal(&mut locked, thread_id)?;
        let result = locked.call(|registry, store| registry.call_open_thread(store, thread_id, &lowered))?;
        let handle = from_contract(result, thread_id)?;
        let budget = ThreadBudget::new(self.clone(), number, generation, thread_id, handle);
        let ThreadOptions { max_tokens, parent } = options.clone();
        let opened =
            (!existed).then(|| Operation::OpenThread { thread_id: thread_id.into(), max_tokens, parent });
        self.record(locked, opened)?;
        Ok(budget)
    }

    /// Give a thread another limit, in tokens, which it keeps over a reset, and return its usage under it;
    /// the thread is created when it does not exist. What it has used and holds, its parent and its
    /// children stay, and handles on it see the limit.
    ///
    /// A limit below what is used exhausts the thread. Thresholds that are not reached under the new one
    /// fire, and their warnings can be taken, when they are reached again; those that it newly reaches
    /// fire with the next consumption.
    ///
    /// # Errors
    /// As [`Registry::get_budget`].
    pub fn set_limit(&self, thread_id: &str, max_tokens: u64) -> Result<Usage, CallError> {
        self.inner.meter.call("set-limit", || {
            check_id(thread_id)?;
            let mut locked = self.lock_for(thread_id)?;
            let result =
                locked.call(|registry, store| registry.call_set_limit(store, thread_id, max_tokens))?;
            let usage = from_contract(result, thread_id)?.into();
            self.record(locked, Some(Operation::SetLimit { thread_id: thread_id.into(), max_tokens }))?;
            Ok(usage)
        })
    }

    /// Ask, before an LLM call, whether the thread may use `estimated_tokens` more, beside what is
    /// held. The thread is created when it does not exist; nothing is recorded.
    ///
    /// # Errors
    /// [`CallError::Refused`] when all is used or held or the estimate does not fit, in the thread or
    /// in an ancestor; otherwise as [`Registry::get_budget`].
    pub fn check_budget(&self, thread_id: &str, estimated_tokens: u64) -> Result<(), CallError> {
        self.inner.meter.call("check-budget", || {
            check_id(thread_id)?;
            let mut locked = self.lock_for(thread_id)?;
            let result = self.creating(&mut locked, thread_id, |registry, store| {
                registry.call_check_budget(store, thread_id, estimated_tokens)
            })?;
            from_contract(result, thread_id)
        })
    }

    /// Check as [`Registry::check_budget`] does, and hold the tokens until the reservation is committed
    /// or dropped, so that concurrent calls cannot pass the same check together.
    ///
    /// ```
    /// let registry = thread_budget_host::Registry::builder().tokens_per_thread(1_000).build()?;
    /// let reservation = registry.reserve("agent-7", 800)?;
    /// assert!(registry.check_budget("agent-7", 201).is_err());
    /// reservation.commit(300, 150)?; // after the LLM call; dropping it would record nothing
    /// assert!(registry.check_budget("agent-7", 550).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Registry::check_budget`].
    pub fn reserve(&self, thread_id: &str, estimated_tokens: u64) -> Result<Reservation, CallError> {
        self.inner.meter.call("reserve", || {
            check_id(thread_id)?;
            let mut locked = self.lock_for(thread_id)?;
            let (number, generation) = (locked.number, locked.shard.generation);
            let result = self.creating(&mut locked, thread_id, |registry, store| {
                registry.call_reserve(store, thread_id, estimated_tokens)
            })?;
            let handle = from_contract(result, thread_id)?;
            Ok(Reservation::new(self.clone(), number, generation, thread_id, estimated_tokens, handle))
        })
    }

    /// Record, after an LLM call, what it used, overshoot included; the thread is created when it
    /// does not exist.
    ///
    /// # Errors
    /// As [`Registry::get_budget`].
    pub fn consume(
        &self,
        thread_id: &str,
        prompt_tokens: u64,
        completion_tokens: u64,
    ) -> Result<Consumed, CallError> {
        self.inner.meter.call("consume", || {
            check_id(thread_id)?;
            let mut locked = self.lock_for(thread_id)?;
            let result = locked.call(|registry, store| {
                registry.call_consume(store, thread_id, prompt_tokens, completion_tokens)
            })?;
            let consumed = from_contract(result, thread_id)?.into();
            if self.inner.journal.is_some() {
                let thread_id = thread_id.into();
                self.record(
                    locked,
                    Some(Operation::Consume { thread_id, prompt_tokens, completion_tokens }),
                )?;
            }
            self.inner.meter.consumed(&consumed, prompt_tokens, completion_tokens);
            Ok(consumed)
        })
    }

    /// [`Registry::consume`], unless the thread has counted a request of that id among its latest 64:
    /// then nothing is counted, and the result is marked as a repeat. So it is safe to call again when
    /// an answer got lost.
    ///
    /// # Errors
    /// [`InvalidInput::RequestId`]; otherwise as [`Registry::get_budget`].
    pub fn consume_once(
        &self,
        thread_id: &str,
        request_id: &str,
        prompt_tokens: u64,
        completion_tokens: u64,
    ) -> Result<Consumed, CallError> {
        self.inner.meter.call("consume-once", || {
            check_id(thread_id)?;
            check_request_id(request_id)?;
            let mut locked = self.lock_for(thread_id)?;
            let result = locked.call(|registry, store| {
                registry.call_consume_once(store, thread_id, request_id, prompt_tokens, completion_tokens)
            })?;
            let consumed: Consumed = from_contract(result, thread_id)?.into();
            // A repeat may come before what it repeats is on disk, and must not be the first to return.
            self.record(
                locked,
                Some(Operation::ConsumeOnce {
                    thread_id: thread_id.into(),
                    request_id: request_id.into(),
                    prompt_tokens,
                    completion_tokens,
                }),
            )?;
            self.inner.meter.consumed(&consumed, prompt_tokens, completion_tokens);
            Ok(consumed)
        })
    }

    /// Record several, in their order, all or none; what they crossed comes back in their order. With
    /// several instances that holds for the entries of each.
    ///
    /// # Errors
    /// [`InvalidInput::BatchTooLarge`] and those of [`Registry::consume`], with the entries that were
    /// not recorded.
    pub fn consume_batch(&self, entries: &[UsageEntry]) -> Result<Vec<ThresholdCrossed>, BatchError> {
        self.consume_batch_noting(entries, |_| None)
    }

    /// The same, and keep a note on it, made of what was crossed, in the database: both are there after
    /// a crash, or neither. With the position in a stream as the note, a stream is counted exactly once.
    /// Nothing is noted without a database.
    ///
    /// # Errors
    /// As [`Registry::consume_batch`].
    pub fn consume_batch_noting(
        &self,
        entries: &[UsageEntry],
        note: impl FnOnce(&[ThresholdCrossed]) -> Option<Note>,
    ) -> Result<Vec<ThresholdCrossed>, BatchError> {
        let all = || (0..entries.len()).collect();
        check_batch(entries)
            .map_err(|error| BatchError { error: CallError::Invalid(error), unrecorded: all() })?;
        let shards = &self.inner.shards;
        if shards.len() == 1 {
            return self
                .batch_in(self.lock(0), entries, note)
                .map_err(|error| BatchError { error, unrecorded: all() });
        }
        let mut crossed = Vec::new();
        let mut failed: Option<BatchError> = None;
        let mut rest: Vec<usize> = all();
        while let Some(first) = rest.first() {
            let number = shards.number_for(&entries[*first].thread_id);
            let locked = self.lock(number);
            // Asked again under the lock, since a thread may just have moved.
            let (part, others): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|at| shards.number_for(&entries[*at].thread_id) == number);
            rest = others;
            if part.is_empty() {
                continue;
            }
            let of_part: Vec<_> = part.iter().map(|at| entries[*at].clone()).collect();
            match self.batch_in(locked, &of_part, |_| None) {
                Ok(mut of_part) => crossed.append(&mut of_part),
                Err(error) => {
                    failed
                        .get_or_insert(BatchError { error, unrecorded: Vec::new() })
                        .unrecorded
                        .extend(part);
                }
            }
        }
        failed.map_or(Ok(crossed), Err)
    }

    fn batch_in(
        &self,
        locked: Result<Locked<'_>, CallError>,
        entries: &[UsageEntry],
        note: impl FnOnce(&[ThresholdCrossed]) -> Option<Note>,
    ) -> Result<Vec<ThresholdCrossed>, CallError> {
        self.inner.meter.call("consume-batch", || {
            let mut locked = locked?;
            let lowered: Vec<_> = entries.iter().map(Into::into).collect();
            let result = locked.call(|registry, store| registry.call_consume_batch(store, &lowered))?;
            let crossed: Vec<ThresholdCrossed> = each(from_contract(result, "")?);
            if self.inner.journal.is_some() {
                let batch =
                    (!entries.is_empty()).then(|| Operation::ConsumeBatch { entries: entries.to_vec() });
                self.record_noting(locked, batch, note(&crossed))?;
            }
            for entry in entries {
                self.inner.meter.tokens(entry.prompt_tokens, entry.completion_tokens);
            }
            self.inner.meter.crossed(&crossed);
            Ok(crossed)
        })
    }

    /// What was noted in the database under that key; none without a database.
    ///
    /// # Errors
    /// [`CallError::Storage`].
    pub fn note(&self, key: &str) -> Result<Option<Vec<u8>>, CallError> {
        Ok(self.inner.journal.as_ref().map_or(Ok(None), |journal| journal.note(key))?)
    }

    /// The warnings for thresholds that the thread has crossed and that were not taken before, each
    /// once, ascending by percent, with the numbers of now. With a database what was taken stays taken.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn take_warnings(&self, thread_id: &str) -> Result<Vec<BudgetWarning>, CallError> {
        self.inner.meter.call("take-warnings", || {
            if check_id(thread_id).is_err() {
                return Ok(Vec::new());
            }
            let mut locked = self.lock_for(thread_id)?;
            let warnings: Vec<BudgetWarning> =
                each(locked.call(|registry, store| registry.call_take_warnings(store, thread_id))?);
            let taken =
                (!warnings.is_empty()).then(|| Operation::TakeWarnings { thread_id: thread_id.into() });
            self.record(locked, taken)?;
            Ok(warnings)
        })
    }

    /// Whether the thread exists. An id that no thread can have does not.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn has_budget(&self, thread_id: &str) -> Result<bool, CallError> {
        self.query("has-budget", thread_id, |registry, store| registry.call_has_budget(store, thread_id))
    }

    /// The thread's usage, if it exists.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn get_usage(&self, thread_id: &str) -> Result<Option<Usage>, CallError> {
        let usage =
            self.query("get-usage", thread_id, |registry, store| registry.call_get_usage(store, thread_id))?;
        Ok(usage.map(Into::into))
    }

    /// Tokens that live reservations hold, of the thread and of those below it; 0 when it does not
    /// exist.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn held_tokens(&self, thread_id: &str) -> Result<u64, CallError> {
        self.query("held-tokens", thread_id, |registry, store| registry.call_held_tokens(store, thread_id))
    }

    /// Every thread's usage, ascending by thread id in byte order. Empty when the instance's memory
    /// cannot hold the list.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn get_all_usage(&self) -> Result<Vec<(String, Usage)>, CallError> {
        self.inner.meter.call("get-all-usage", || {
            let mut all: Vec<(String, Usage)> = Vec::new();
            for number in 0..self.inner.shards.len() {
                let part = self.lock(number)?.call(|registry, store| registry.call_get_all_usage(store))?;
                all.extend(part.into_iter().map(|(thread_id, usage)| (thread_id, usage.into())));
            }
            if self.inner.shards.len() > 1 {
                all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            }
            Ok(all)
        })
    }

    /// Start the thread over: its next use starts from zero. Handles on it go on counting, detached.
    /// One that was opened keeps its limit and its place in its tree.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn reset_thread(&self, thread_id: &str) -> Result<(), CallError> {
        self.inner.meter.call("reset-thread", || {
            if check_id(thread_id).is_err() {
                return Ok(());
            }
            let mut locked = self.lock_for(thread_id)?;
            locked.call(|registry, store| registry.call_reset_thread(store, thread_id))?;
            self.record(locked, Some(Operation::ResetThread { thread_id: thread_id.into() }))
        })
    }

    /// Forget the thread, and every thread below it, and return its final budget, if it existed.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn cleanup_thread(&self, thread_id: &str) -> Result<Option<FinalBudget>, CallError> {
        self.inner.meter.call("cleanup-thread", || {
            if check_id(thread_id).is_err() {
                return Ok(None);
            }
            let mut locked = self.lock_for(thread_id)?;
            let last = locked.call(|registry, store| registry.call_cleanup_thread(store, thread_id))?;
            self.inner.shards.move_back(thread_id);
            let cleaned_up = last.is_some().then(|| Operation::CleanupThread { thread_id: thread_id.into() });
            self.record(locked, cleaned_up)?;
            Ok(last.map(Into::into))
        })
    }

    /// Forget every thread; the settings stay.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn clear(&self) -> Result<(), CallError> {
        let _moving = self.inner.shards.moving.lock().unwrap_or_else(PoisonError::into_inner);
        if self.inner.shards.len() > 1 {
            // First, so that threads that come back meanwhile do so where their id says.
            self.inner.shards.move_all_back();
        }
        self.set(&Operation::Clear)
    }

    /// The states of all threads, in pages of up to `limit`: everything but holds. Parents come before
    /// their children. Pages agree with each other when nothing is changed meanwhile; of several
    /// instances one comes after the other. An error ends it.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn snapshot(&self, limit: u32) -> impl Iterator<Item = Result<Vec<ThreadState>, CallError>> {
        self.snapshot_after(None, limit)
    }

    /// The same, from the thread after that one on. When it is gone some threads may come again.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub fn snapshot_after(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> impl Iterator<Item = Result<Vec<ThreadState>, CallError>> {
        let mut number = after.map_or(0, |thread_id| self.inner.shards.number_for(thread_id));
        let mut after = after.map(String::from);
        std::iter::from_fn(move || {
            while number < self.inner.shards.len() {
                let page = self.lock(number).and_then(|mut locked| {
                    journal::snapshot(&mut locked.shard.instance, after.as_deref(), limit.max(1))
                });
                match page {
                    Ok(page) if page.is_empty() => (number, after) = (number + 1, None),
                    Ok(page) => {
                        after = page.last().map(|state| state.thread_id.clone());
                        return Some(Ok(page));
                    }
                    Err(error) => {
                        number = usize::MAX;
                        return Some(Err(error));
                    }
                }
            }
            None
        })
    }

    /// Bring threads back into a registry of one instance, all or none. None of them may exist; a
    /// parent must, or come earlier in the list.
    ///
    /// # Errors
    /// [`InvalidInput::State`], also for more than an instance can take at once and for a registry
    /// that has a database or several instances; otherwise as [`Registry::open_thread`].
    pub fn restore(&self, states: &[ThreadState]) -> Result<(), CallError> {
        let invalid = |reason: &str| CallError::Invalid(InvalidInput::State { reason: reason.into() });
        if self.inner.journal.is_some() || self.inner.shards.len() > 1 {
            return Err(invalid("states are restored into a registry of one instance without a database"));
        }
        if states.iter().map(journal::bytes_of).sum::<usize>() > journal::RESTORE_BYTES {
            return Err(invalid("the page is too large; take snapshots with a smaller limit"));
        }
        let portion: Vec<_> = states.iter().cloned().map(Into::into).collect();
        journal::restore_portion(&mut self.lock(0)?.shard.instance, &portion)
    }

    /// Which of the instances keeps the thread, or would, counted from 0. Callers that share threads out
    /// among themselves by it never wait for each other, and each stays with what its processor's cache
    /// holds. It changes when the thread is opened below a parent, and is another in the next registry.
    #[must_use]
    pub fn instance_of(&self, thread_id: &str) -> usize {
        self.inner.shards.number_for(thread_id)
    }

    /// Whether every instance answers.
    ///
    /// # Errors
    /// Those of the first that does not, see [`Registry`].
    pub fn answers(&self) -> Result<(), CallError> {
        (0..self.inner.shards.len()).try_for_each(|number| {
            self.lock(number)?.call(|registry, store| registry.call_max_tokens_per_thread(store)).map(drop)
        })
    }

    /// How many threads may exist, in a registry with a database; none without one. 4,294,967,295 is no
    /// limit.
    #[must_use]
    pub fn max_threads(&self) -> Option<u32> {
        self.inner.journal.as_ref().map(Journal::max_threads)
    }

    /// How many calls the database's log holds, beyond the states of its last checkpoint; each entry of a
    /// batch is one. 0 without a database.
    #[must_use]
    pub fn logged_calls(&self) -> u64 {
        self.inner.journal.as_ref().map_or(0, Journal::logged_calls)
    }

    /// The warning for the agent whose thread crossed a threshold.
    ///
    /// # Errors
    /// [`InvalidInput::ThreadId`]; otherwise those of every method, see [`Registry`].
    pub fn budget_warning(&self, crossed: &ThresholdCrossed) -> Result<BudgetWarning, CallError> {
        check_id(&crossed.thread_id)?;
        let crossed = crossed.clone().into();
        let warning = self.lock(0)?.shard.instance.enter(|exports, store| {
            exports.thread_budget_registry_warnings().call_budget_warning(store, &crossed)
        })?;
        Ok(warning.into())
    }

    /// A call whose answer about an impossible id is the empty one, without crossing.
    fn query<R: Default>(
        &self,
        name: &'static str,
        thread_id: &str,
        call: impl FnOnce(&wit::Guest, &mut Store<StoreLimits>) -> wasmtime::Result<R>,
    ) -> Result<R, CallError> {
        self.inner.meter.call(name, || match check_id(thread_id) {
            Ok(()) => self.lock_for(thread_id)?.call(call),
            Err(_) => Ok(R::default()),
        })
    }

    /// A call that every instance gets.
    fn set(&self, operation: &Operation) -> Result<(), CallError> {
        for number in 0..self.inner.shards.len() {
            let mut locked = self.lock(number)?;
            operation.replay(&mut locked.shard.instance)?;
            self.record(locked, Some(operation.clone()))?;
        }
        Ok(())
    }

    /// A call that creates its thread when it does not exist. That the thread is there is recorded, but
    /// not waited for: nothing was spent yet, and what is spent is recorded after it.
    fn creating<R>(
        &self,
        locked: &mut Locked<'_>,
        thread_id: &str,
        call: impl FnOnce(&wit::Guest, &mut Store<StoreLimits>) -> wasmtime::Result<R>,
    ) -> Result<R, CallError> {
        let existed = self.exists_for_journal(locked, thread_id)?;
        let result = locked.call(call)?;
        if let Some(journal) = &self.inner.journal
            && !existed
            && self.exists_for_journal(locked, thread_id)?
        {
            journal.append_unwaited(&Operation::Create { thread_id: thread_id.into() })?;
        }
        Ok(result)
    }

    /// Whether the thread exists; without a database that does not matter.
    fn exists_for_journal(&self, locked: &mut Locked<'_>, thread_id: &str) -> Result<bool, CallError> {
        if self.inner.journal.is_none() {
            return Ok(true);
        }
        locked.call(|registry, store| registry.call_has_budget(store, thread_id))
    }

    /// Record in the database, if there is one, what was just done in the instance, and let it go.
    pub(crate) fn record(&self, locked: Locked<'_>, operation: Option<Operation>) -> Result<(), CallError> {
        self.record_noting(locked, operation, None)
    }

    fn record_noting(
        &self,
        mut locked: Locked<'_>,
        operation: Option<Operation>,
        note: Option<Note>,
    ) -> Result<(), CallError> {
        let Some(journal) = &self.inner.journal else { return Ok(()) };
        if operation.is_none() && note.is_none() {
            return Ok(());
        }
        let ticket = journal.append(operation.as_ref(), note)?;
        let checkpoint = journal.checkpoint_is_due();
        if journal.durability == Durability::Batched && !checkpoint {
            drop(locked);
            return Ok(journal.wait(ticket)?);
        }
        // While the instance is locked nothing is added, so all that it has done is on disk then.
        journal.wait(ticket)?;
        if checkpoint {
            journal.checkpoint(&mut locked.shard.instance);
        }
        Ok(())
    }

    pub(crate) fn meter(&self) -> Meter {
        self.inner.meter
    }

    /// Whether it keeps its threads in a database, so that calls may wait for the disk.
    #[must_use]
    pub fn has_database(&self) -> bool {
        self.inner.journal.is_some()
    }

    /// Lock the instance that keeps the thread, rebuilt if need be.
    pub(crate) fn lock_for(&self, thread_id: &str) -> Result<Locked<'_>, CallError> {
        self.recovered(self.inner.shards.lock_for(thread_id))
    }

    fn lock(&self, number: usize) -> Result<Locked<'_>, CallError> {
        self.recovered(self.inner.shards.lock(number))
    }

    /// Lock an instance as a handle left it: none that was rebuilt since will do.
    pub(crate) fn lock_generation(&self, number: usize, generation: u64) -> Result<Locked<'_>, CallError> {
        let locked = self.lock(number)?;
        if locked.shard.generation == generation { Ok(locked) } else { Err(CallError::StaleHandle) }
    }

    /// Free what a handle stands for. When the instance is lost or was rebuilt, it is free already.
    pub(crate) fn free(&self, number: usize, generation: u64, handle: ResourceAny) {
        let mut locked = self.inner.shards.lock(number);
        if locked.shard.generation == generation {
            let _ = locked.shard.instance.enter(|_, store| handle.resource_drop(store));
        }
    }

    /// With a database, an instance that is lost, or ahead of the file, is rebuilt from it.
    fn recovered<'a>(&self, mut locked: Locked<'a>) -> Result<Locked<'a>, CallError> {
        let Some(journal) = &self.inner.journal else { return Ok(locked) };
        if locked.shard.instance.lost.is_some() || journal.is_stale() {
            let mut fresh = self
                .inner
                .blueprint
                .instantiate()
                .map_err(|error| CallError::InstanceLost { reason: error.to_string().into() })?;
            journal.load_into(&mut fresh)?;
            drop(mem::replace(&mut locked.shard.instance, fresh));
            locked.shard.generation += 1;
        }
        Ok(locked)
    }
}

impl Locked<'_> {
    /// Call into the locked instance.
    pub(crate) fn call<R>(
        &mut self,
        call: impl FnOnce(&wit::Guest, &mut Store<StoreLimits>) -> wasmtime::Result<R>,
    ) -> Result<R, CallError> {
        self.shard.instance.call(call)
    }
}

/// The thresholds as the contract has them.
pub(crate) fn lower_thresholds(thresholds: &[Threshold]) -> Result<Vec<wit::Threshold>, InvalidInput> {
    if thresholds.len() > MAX_THRESHOLDS {
        return Err(InvalidInput::TooManyThresholds { count: thresholds.len() });
    }
    Ok(thresholds.iter().map(Into::into).collect())
}
