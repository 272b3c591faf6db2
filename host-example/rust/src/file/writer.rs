//! The thread that writes: all that waits for the disk happens here.

use super::disk::{Checkpoint, Disk};
use super::queue::{Errand, Queue};
use super::{Shared, clock};
use crate::error::CallError;
use crate::instance::Instance;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::thread;

impl Shared {
    /// Write what is appended, until the file is closed.
    pub(super) fn run(&self, disk: Disk) {
        // A bug in here, or in the database, must not leave anybody waiting.
        let _ = panic::catch_unwind(AssertUnwindSafe(|| self.write(disk)));
        let closed = Err(self.closed());
        let outcomes = self.queue().end(&closed);
        outcomes.for_each(|outcome| outcome.tell(&closed));
        self.back.notify_waiters();
    }

    fn write(&self, mut disk: Disk) {
        while self.wait_for_work() {
            self.do_what_was_left(&mut disk);
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
        let idle = |queue: &mut Queue| !queue.has_work() && !queue.closing;
        let queue = self.work.wait_while(self.queue(), idle).unwrap_or_else(PoisonError::into_inner);
        queue.has_work()
    }

    /// What guards have left that were dropped, in case that nobody enters the instance.
    fn do_what_was_left(&self, disk: &mut Disk) {
        if self.queue().left.is_empty() {
            return;
        }
        if self.rebuild(disk).is_err() {
            // The file is as it was, and whoever opens it next settles as lost what they were for.
            self.queue().left.clear();
        }
        if let Some(instance) = &mut *self.lock() {
            self.do_what_is_left(instance);
        }
    }

    fn write_batch(&self, disk: &mut Disk) {
        let batch = self.queue().take();
        let written = disk.write(&batch);
        let outcomes = self.queue().written(&written);
        outcomes.for_each(|outcome| outcome.tell(&written));
    }

    /// Make the instance what the file says, if it is ahead of it or lost.
    fn rebuild(&self, disk: &mut Disk) -> Result<(), CallError> {
        let Some(instance) = self.lock().take() else { return Err(self.closed().into()) };
        if self.is_sound(&instance) {
            self.give_back(instance);
            return Ok(());
        }
        // Calls that the lost instance had carried out, and whose callers wait.
        self.write_batch(disk);
        let mut rebuilt = self.load(disk);
        if let Ok(instance) = &mut rebuilt {
            self.queue().stale = None;
            self.number_births(instance);
        }
        let result = rebuilt.as_ref().map(drop).map_err(Clone::clone);
        self.give_back(rebuilt.unwrap_or(instance));
        result
    }

    fn load(&self, disk: &mut Disk) -> Result<Instance, CallError> {
        let mut instance = self
            .blueprint
            .instantiate()
            .map_err(|error| CallError::InstanceLost { reason: error.to_string().into() })?;
        disk.load_into(&mut instance)?;
        Ok(instance)
    }

    /// Replace states and log by the states of now. When that fails the file is as it was: the log is kept,
    /// so nothing is lost by not shortening it.
    fn checkpoint(&self, disk: &mut Disk) {
        let Some(mut instance) = self.lock().take() else { return };
        // While it is away nothing is added, so all that it has done is on disk then.
        self.write_batch(disk);
        let checkpoint = self.is_sound(&instance).then(|| Checkpoint::of(&mut instance, clock::birth()));
        self.give_back(instance);
        if let Some(Ok(checkpoint)) = checkpoint {
            let _ = disk.replace(&checkpoint);
        }
    }
}
