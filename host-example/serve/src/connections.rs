//! How many connections there may be at a time. When there are as many and another comes, the one that has
//! waited longest for its client has to go: so nobody is shut out by clients that say nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// The connections of one listener. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connections(Arc<Inner>);

struct Inner {
    most: usize,
    begun: Instant,
    places: Mutex<HashMap<u64, Arc<State>>>,
    number: AtomicU64,
    /// Told when a connection ends, or waits for its client.
    freed: Notify,
}

struct State {
    /// How much goes on for its client.
    works: AtomicUsize,
    /// Since when nothing does, in nanoseconds.
    waits_since: AtomicU64,
    evicted: Notify,
}

impl Connections {
    /// At most so many.
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Inner {
            most,
            begun: Instant::now(),
            places: Mutex::default(),
            number: AtomicU64::new(0),
            freed: Notify::new(),
        }))
    }

    /// A place for another, as soon as there is one.
    pub(super) async fn place(&self) -> Place {
        let inner = &*self.0;
        loop {
            let freed = inner.freed.notified();
            {
                let mut places = inner.places();
                if places.len() < inner.most {
                    let state = Arc::new(State {
                        works: AtomicUsize::new(0),
                        waits_since: AtomicU64::new(inner.now()),
                        evicted: Notify::new(),
                    });
                    let number = inner.number.fetch_add(1, Ordering::Relaxed);
                    places.insert(number, state.clone());
                    return Place { inner: self.0.clone(), number, state };
                }
                let waiting = places.values().filter(|state| state.works.load(Ordering::Relaxed) == 0);
                let longest = waiting.min_by_key(|state| state.waits_since.load(Ordering::Relaxed));
                if let Some(longest) = longest {
                    longest.evicted.notify_one();
                }
            }
            freed.await;
        }
    }

    /// Until there is none.
    pub(super) async fn gone(&self) {
        loop {
            let freed = self.0.freed.notified();
            if self.0.places().is_empty() {
                return;
            }
            freed.await;
        }
    }
}

impl Inner {
    fn places(&self) -> MutexGuard<'_, HashMap<u64, Arc<State>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The place of a connection. It is free when this is dropped.
pub(super) struct Place {
    inner: Arc<Inner>,
    number: u64,
    state: Arc<State>,
}

impl Place {
    /// Until it has to go.
    pub(super) async fn evicted(&self) {
        loop {
            self.state.evicted.notified().await;
            if self.state.works.load(Ordering::Relaxed) == 0 {
                return;
            }
            // Something goes on by now: another has to go.
            self.inner.freed.notify_waiters();
        }
    }

    /// Something goes on for the client, until what this returns is dropped. Meanwhile the connection stays.
    pub(super) fn work(&self) -> Work {
        self.state.works.fetch_add(1, Ordering::Relaxed);
        Work { inner: self.inner.clone(), state: self.state.clone() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.inner.places().remove(&self.number);
        // One that comes, and one that waits for the last.
        self.inner.freed.notify_waiters();
    }
}

/// Something goes on for a client.
pub(super) struct Work {
    inner: Arc<Inner>,
    state: Arc<State>,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.state.waits_since.store(self.inner.now(), Ordering::Relaxed);
        if self.state.works.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.inner.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    fn is_ready(future: impl Future) -> bool {
        pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[tokio::test]
    async fn who_has_waited_longest_goes_when_another_comes_and_who_works_stays() {
        let connections = Connections::new(2);
        let works = connections.place().await;
        let work = works.work();
        let waits = connections.place().await;
        let mut next = pin!(connections.place());
        assert!(!is_ready(next.as_mut()));
        assert!(is_ready(waits.evicted()) && !is_ready(works.evicted()));
        drop(waits);
        let next = next.await;
        let next_works = next.work();
        assert!(!is_ready(connections.place()));
        assert!(!is_ready(works.evicted()) && !is_ready(next.evicted()), "both work");
        drop((work, next_works));
        assert!(!is_ready(connections.place()));
        assert!(is_ready(works.evicted()), "it works no more, and waits for longer than the next");
        drop((works, next));
        connections.gone().await;
    }
}
