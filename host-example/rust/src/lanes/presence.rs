//! Whether this host counts as alive. It says so to the store again and again; when it could not for too long, others
//! may settle what it holds, and it admits nothing until it is back, under another name.

use super::Shared;
use super::lane::{Id, Lane};
use crate::clock;
use crate::registry::new_holder;
use crate::store::{StoreError, Wrote};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(super) struct Presence {
    incarnation: AtomicU64,
    /// How long the store takes a sign of life for.
    pub(super) ttl: Duration,
    /// When the latest sign of life was given that the store has heard of.
    heard: Mutex<Instant>,
    /// Numbers commits.
    commits: AtomicU64,
    /// What nobody waits for and has yet to be told to the store, and what of it was tried in vain.
    left: AtomicUsize,
    late: AtomicUsize,
}

impl Presence {
    pub(super) fn new(incarnation: u64, ttl: Duration) -> Self {
        Self {
            incarnation: AtomicU64::new(incarnation),
            ttl,
            heard: Mutex::new(Instant::now()),
            commits: AtomicU64::new(0),
            left: AtomicUsize::new(0),
            late: AtomicUsize::new(0),
        }
    }

    pub(super) fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::Acquire)
    }

    pub(super) fn next_commit(&self) -> u64 {
        self.commits.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Until when this host answers for what is held now, beside being alive.
    pub(super) fn deadline(&self) -> u64 {
        clock::milliseconds(clock::now() + self.ttl)
    }

    fn hear(&self, at: Instant) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    fn is_alive(&self) -> bool {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < self.ttl
    }

    /// Something was left to be done, until this is dropped.
    pub(super) fn leave(self: &Arc<Self>) -> Left {
        self.left.fetch_add(1, Ordering::Relaxed);
        Left { presence: self.clone(), is_late: false }
    }

    pub(super) fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 0
    }

    /// Whether new work may be let in.
    pub(super) fn admits(&self, store: &Arc<str>) -> Result<(), StoreError> {
        let reason = if !self.is_alive() {
            "it has not heard of this host for too long"
        } else if self.late.load(Ordering::Relaxed) > 0 {
            "it has yet to be told what was used"
        } else {
            return Ok(());
        };
        Err(StoreError::Unavailable { store: store.clone(), reason: reason.into(), wrote: Wrote::Nothing })
    }
}

/// Something that nobody waits for.
pub(super) struct Left {
    presence: Arc<Presence>,
    is_late: bool,
}

impl Left {
    /// It was tried in vain.
    pub(super) fn set_late(&mut self) {
        if !self.is_late {
            self.is_late = true;
            self.presence.late.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        self.presence.left.fetch_sub(1, Ordering::Relaxed);
        if self.is_late {
            self.presence.late.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// How many signs of life there are between two sweeps.
const SIGNS_PER_SWEEP: u32 = 10;

impl Shared {
    /// Join the hosts of the store.
    pub(super) async fn join(&self) -> Result<(), StoreError> {
        let at = Instant::now();
        self.store.join(self.presence.incarnation(), self.presence.ttl).await?;
        self.presence.hear(at);
        Ok(())
    }

    /// Give signs of life, and see to what has to be seen to now and then.
    pub(super) async fn live(self: Arc<Self>) {
        for sign in 1u32.. {
            tokio::time::sleep(self.presence.ttl / 3).await;
            // What fails now is tried again with the next sign.
            let _ = self.give_sign().await;
            let _ = self.refresh_settings().await;
            self.reread_overdue();
            if sign.is_multiple_of(SIGNS_PER_SWEEP) {
                let _ = self.store.sweep().await;
            }
        }
    }

    async fn give_sign(&self) -> Result<(), StoreError> {
        let at = Instant::now();
        if self.store.refresh(self.presence.incarnation(), self.presence.ttl).await? {
            self.presence.hear(at);
            return Ok(());
        }
        // The store took it for dead: what it held may be settled, and its name is used up.
        self.presence.incarnation.store(new_holder(), Ordering::Release);
        self.join().await
    }

    /// Trees in which a hold of others should have ended are read anew, which settles it if they are dead.
    fn reread_overdue(self: &Arc<Self>) {
        let now = clock::milliseconds(clock::now());
        let mut cache = self.cache();
        let overdue = cache.lanes.iter().filter(|(_, lane)| lane.is_overdue(now));
        let overdue: Vec<Id> = overdue.map(|(root, _)| root.clone()).collect();
        for root in overdue {
            if cache.lanes.get(&root).is_some_and(Lane::is_quiet) {
                cache.remove(&root);
                self.load(&mut cache, &root);
            } else {
                cache.set_adrift(&root);
            }
        }
    }
}
