//! What becomes of a batch, told once to everybody who waits for it.

use crate::blocking;
use crate::error::StorageError;
use std::future::poll_fn;
use std::mem;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Poll, Waker};

pub(super) type Written = Result<(), StorageError>;

#[derive(Default)]
pub(super) struct Outcome {
    written: OnceLock<Written>,
    /// Of tasks. Threads that may block wait for `written` itself, and are woken all together.
    wakers: Mutex<Vec<Waker>>,
}

impl Outcome {
    /// Tell it; what is told later is not heard.
    pub(super) fn tell(&self, written: &Written) {
        let _ = self.written.set(written.clone());
        for waker in mem::take(&mut *self.wakers()) {
            waker.wake();
        }
    }

    pub(super) async fn wait(&self) -> Written {
        poll_fn(|context| {
            if let Some(written) = self.written.get() {
                return Poll::Ready(written.clone());
            }
            if blocking::is_waiting() {
                return Poll::Ready(self.written.wait().clone());
            }
            let mut wakers = self.wakers();
            if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                wakers.push(context.waker().clone());
            }
            drop(wakers);
            // It may have been told while nobody would have been woken.
            self.written.get().map_or(Poll::Pending, |written| Poll::Ready(written.clone()))
        })
        .await
    }

    fn wakers(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
