//! What becomes of something, told once to everybody who waits for it.

use crate::blocking;
use std::future::poll_fn;
use std::mem;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Poll, Waker};

pub(crate) struct Outcome<T> {
    told: OnceLock<T>,
    /// Of tasks. Threads that may block wait for `told` itself, and are woken all together.
    wakers: Mutex<Vec<Waker>>,
}

impl<T> Default for Outcome<T> {
    fn default() -> Self {
        Self { told: OnceLock::new(), wakers: Mutex::default() }
    }
}

impl<T: Clone> Outcome<T> {
    /// Tell it; what is told later is not heard.
    pub(crate) fn tell(&self, what: &T) {
        let _ = self.told.set(what.clone());
        for waker in mem::take(&mut *self.wakers()) {
            waker.wake();
        }
    }

    pub(crate) async fn wait(&self) -> T {
        poll_fn(|context| {
            if let Some(what) = self.told.get() {
                return Poll::Ready(what.clone());
            }
            if blocking::is_waiting() {
                return Poll::Ready(self.told.wait().clone());
            }
            let mut wakers = self.wakers();
            if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                wakers.push(context.waker().clone());
            }
            drop(wakers);
            // It may have been told while nobody would have been woken.
            self.told.get().map_or(Poll::Pending, |what| Poll::Ready(what.clone()))
        })
        .await
    }

    fn wakers(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
