//! What takes more than one instance to decide: a thread that moves below a parent elsewhere, and a batch
//! for threads of several.

use crate::bounds::check_batch;
use crate::calls::{Call, ConsumeBatch, OpenThread};
use crate::error::{BatchError, CallError};
use crate::instance::{Handle, Instance};
use crate::shards::Shards;
use crate::types::{ThresholdCrossed, UsageEntry};
use std::sync::PoisonError;

impl Shards {
    /// Open the thread in the instance of its parent.
    pub(crate) fn open(&self, call: &OpenThread<'_>) -> Result<Handle, CallError> {
        let thread_id = call.thread_id();
        let Some(parent) = call.options.parent.as_deref().filter(|_| self.len() > 1) else {
            return call.apply(&mut self.lock_for(thread_id));
        };
        let mut tidied = self.several.lock().unwrap_or_else(PoisonError::into_inner);
        let there = self.number_for(parent);
        // Locked until it is announced elsewhere: nobody makes or ends the thread here meanwhile.
        let (here, mut instance) = self.locate(thread_id);
        let result = if here == there {
            call.apply(&mut instance)
        } else {
            if has_budget(&mut instance, thread_id)? {
                return Err(CallError::OptionsDiffer { thread_id: thread_id.into() });
            }
            self.move_to(thread_id, there);
            drop(instance);
            let result = call.apply(&mut self.lock(there));
            if result.is_err() {
                self.undo_move(thread_id, there, here);
            }
            result
        };
        self.tidy_up(&mut tidied, |instance, thread_id| has_budget(instance, thread_id).unwrap_or(true));
        result
    }

    /// Take back that a thread was sent to an instance, unless others have used it there meanwhile.
    fn undo_move(&self, thread_id: &str, there: usize, here: usize) {
        let mut instance = self.lock(there);
        if self.number_for(thread_id) != there || has_budget(&mut instance, thread_id).unwrap_or(false) {
            return;
        }
        if here == self.number_by_id(thread_id) {
            self.move_back(thread_id);
        } else {
            self.move_to(thread_id, here);
        }
    }

    /// Record the entries, those of each instance all or none.
    pub(crate) fn consume_batch(&self, entries: &[UsageEntry]) -> Result<Vec<ThresholdCrossed>, BatchError> {
        let mut rest: Vec<usize> = (0..entries.len()).collect();
        if let Err(error) = check_batch(entries) {
            return Err(BatchError { error: error.into(), unrecorded: rest });
        }
        if self.len() == 1 {
            let result = ConsumeBatch { entries: entries.into() }.apply(&mut self.lock(0));
            return result.map_err(|error| BatchError { error, unrecorded: rest });
        }
        let mut crossed = Vec::new();
        let mut failed: Option<BatchError> = None;
        while let Some(first) = rest.first() {
            let number = self.number_for(&entries[*first].thread_id);
            let mut instance = self.lock(number);
            // Asked again under the lock, since a thread may just have moved.
            let (part, others): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|at| self.number_for(&entries[*at].thread_id) == number);
            rest = others;
            let of_part: Vec<_> = part.iter().map(|at| entries[*at].clone()).collect();
            match (ConsumeBatch { entries: of_part.into() }.apply(&mut instance)) {
                Ok(mut of_part) => crossed.append(&mut of_part),
                Err(error) => {
                    failed.get_or_insert(BatchError { error, unrecorded: Vec::new() }).unrecorded.extend(part)
                }
            }
        }
        failed.map_or(Ok(crossed), Err)
    }
}

fn has_budget(instance: &mut Instance, thread_id: &str) -> Result<bool, CallError> {
    instance.call(|registry, store| registry.call_has_budget(store, thread_id))
}
