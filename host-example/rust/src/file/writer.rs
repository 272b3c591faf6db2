//! The thread that writes: all that waits for the disk happens here.

use super::disk::{Checkpoint, Disk};
use super::queue::Errand;
use super::{Shared, clock};
use crate::error::CallError;
use std::mem;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::thread;

impl Shared {
    /// Write what is appended, until the file is closed.
    pub(super) fn write(&self, mut disk: Disk) {
        while self.wait_for_work() {
            if !self.queue().left.is_empty() {
                self.do_what_was_left(&mut disk);
            }
            // Those who waited for the batch before may have a next call for this one.
            thread::yield_now();
            self.write_batch(&mut disk);
            let errands = mem::take(&mut self.queue().errands);
            for errand in errands {
                // Who has stopped waiting need not know.
                match errand {
                    Errand::Rebuild(tell) => _ = tell.send(self.rebuild(&mut disk)),
                    Errand::ReadNote(key, tell) => _ = tell.send(disk.note(&key)),
                }
            }
            if disk.checkpoint_is_due(self.options.checkpoint_after) {
                self.checkpoint(&mut disk);
            }
            self.logged_calls.store(disk.logged_calls(), Ordering::Relaxed);
        }
    }

    /// Whether there is some; if not, the file is closed.
    fn wait_for_work(&self) -> bool {
        let queue = self.queue();
        let idle = |queue: &mut super::Queue| !queue.has_work() && !queue.closing;
        let queue = self.work.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner);
        queue.has_work()
    }

    /// What guards have left that were dropped, in case that nobody enters the instance.
    fn do_what_was_left(&self, disk: &mut Disk) {
        let mut instance = self.instance.blocking_lock();
        if !self.is_sound(&instance) {
            drop(instance);
            let rebuilt = self.rebuild(disk);
            instance = self.instance.blocking_lock();
            if rebuilt.is_err() {
                // The file is as it was, and settles as lost what they were for.
                self.queue().left.clear();
            }
        }
        self.do_what_is_left(&mut instance);
    }

    fn write_batch(&self, disk: &mut Disk) {
        let batch = self.queue().take();
        let outcome = disk.write(&batch);
        self.queue().written(&outcome);
        batch.end(&outcome);
    }

    /// Make the instance what the file says, if it is ahead of it or lost.
    fn rebuild(&self, disk: &mut Disk) -> Result<(), CallError> {
        let mut instance = self.instance.blocking_lock();
        if self.is_sound(&instance) {
            return Ok(());
        }
        // Calls that the lost instance had carried out, and whose callers wait.
        self.write_batch(disk);
        let mut fresh = self
            .blueprint
            .instantiate()
            .map_err(|error| CallError::InstanceLost { reason: error.to_string().into() })?;
        disk.load_into(&mut fresh)?;
        *instance = fresh;
        self.queue().stale = None;
        self.number_births(&mut instance);
        Ok(())
    }

    /// Replace states and log by the states of now. When that fails the file is as it was: the log is kept,
    /// so nothing is lost by not shortening it.
    fn checkpoint(&self, disk: &mut Disk) {
        let checkpoint = {
            let mut instance = self.instance.blocking_lock();
            // While it is locked nothing is added, so all that it has done is on disk then.
            self.write_batch(disk);
            if !self.is_sound(&instance) {
                return;
            }
            Checkpoint::of(&mut instance, clock::birth())
        };
        if let Ok(checkpoint) = checkpoint {
            let _ = disk.replace(&checkpoint);
        }
    }
}
