//! Many consumptions, all or none.

use super::{Registry, check_id};
use crate::MAX_BATCH;
use crate::answer::ThresholdCrossed;
use crate::error::{BatchError, CreateError};
use crate::memory::has_room;
use alloc::vec::Vec;

impl Registry {
    /// Record all of these, or none: thread, prompt and completion tokens of each. Returns what they
    /// crossed, in their order. `row_bytes` is what a caller who copies that list takes for each row
    /// beside the id.
    ///
    /// # Errors
    /// As [`Registry::consume`], and when there may be no memory for the result; [`BatchError::TooLarge`].
    pub fn consume_batch<'a>(
        &mut self,
        entries: impl ExactSizeIterator<Item = (&'a str, u64, u64)> + Clone,
        row_bytes: usize,
    ) -> Result<Vec<ThresholdCrossed>, BatchError> {
        if entries.len() > MAX_BATCH {
            return Err(BatchError::TooLarge(MAX_BATCH as u32));
        }
        for (thread_id, _, _) in entries.clone() {
            check_id(thread_id)?;
        }
        let (births, before) = (self.next_birth, self.threads.len());
        let mut threads = Vec::with_capacity(entries.len());
        let mut created = Vec::new();
        let mut crossed = Vec::new();
        let mut prepare = || -> Result<(), CreateError> {
            for (thread_id, _, _) in entries.clone() {
                let thread = self.get_or_create(thread_id)?;
                if self.threads.len() > before + created.len() {
                    created.push(thread.clone());
                }
                threads.push(thread);
            }
            let (mut rows, mut copies) = (0, 0usize);
            for thread in &threads {
                for (thread, most) in thread.count_once(&self.thresholds) {
                    rows += most;
                    copies = copies.saturating_add(most * (thread.thread_id().len() + row_bytes));
                }
            }
            threads.iter().for_each(|thread| thread.count_again());
            // At once, since a list that grows takes up to three times its size.
            let room = crossed.try_reserve_exact(rows).is_ok() && has_room(copies);
            if room { Ok(()) } else { Err(CreateError::OutOfMemory) }
        };
        if let Err(error) = prepare() {
            created.iter().for_each(|thread| self.forget(thread, None));
            self.next_birth = births;
            return Err(error.into());
        }
        for (thread, (_, prompt_tokens, completion_tokens)) in threads.iter().zip(entries) {
            crossed.append(&mut self.consume_of(thread, prompt_tokens, completion_tokens).crossed);
        }
        Ok(crossed)
    }
}
