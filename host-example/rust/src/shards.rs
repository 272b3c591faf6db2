//! Several instances behind one door: which of them keeps a thread.
//!
//! A thread lives in the instance that its id hashes to, a thread with a parent in that of its parent,
//! so that a tree is in one place. Only threads that live elsewhere than their id says are listed.

use crate::instance::Instance;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

pub(crate) struct Shards {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    /// The instances of threads that live elsewhere than their id says.
    moved: RwLock<HashMap<Box<str>, usize>>,
    /// How often `moved` has changed. Whoever looked before the last change looks again.
    changes: AtomicUsize,
    /// Held while threads move in or their list is tidied up, by one caller at a time.
    pub(crate) moving: Mutex<Tidied>,
}

/// How long the list was when it was last tidied up.
#[derive(Default)]
pub(crate) struct Tidied(usize);

/// An instance, and which of its kind it is. No two share a cache line, or the line before or after it,
/// which processors fetch as well.
#[repr(align(128))]
pub(crate) struct Shard {
    pub(crate) instance: Instance,
    /// Counts the instances that have been in this place. Handles are of one of them.
    pub(crate) generation: u64,
}

/// A shard that is locked, and its number.
pub(crate) struct Locked<'a> {
    pub(crate) shard: MutexGuard<'a, Shard>,
    pub(crate) number: usize,
}

impl Shards {
    pub(crate) fn new(instances: Vec<Instance>) -> Self {
        let shards = instances.into_iter().map(|instance| Mutex::new(Shard { instance, generation: 0 }));
        Self {
            shards: shards.collect(),
            hasher: RandomState::new(),
            moved: RwLock::default(),
            changes: AtomicUsize::new(0),
            moving: Mutex::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.len()
    }

    pub(crate) fn lock(&self, number: usize) -> Locked<'_> {
        // A panic while it was held cannot have left the instance in between: wasmtime reports what
        // happens inside as errors, and that an instance is lost is noted last.
        let shard = self.shards[number].lock().unwrap_or_else(PoisonError::into_inner);
        Locked { shard, number }
    }

    /// Lock the instance that keeps the thread.
    pub(crate) fn lock_for(&self, thread_id: &str) -> Locked<'_> {
        loop {
            let changes = self.changes.load(Ordering::Acquire);
            let locked = self.lock(self.number_for(thread_id));
            if self.changes.load(Ordering::Acquire) == changes {
                return locked;
            }
        }
    }

    /// The instance that keeps the thread, or would.
    pub(crate) fn number_for(&self, thread_id: &str) -> usize {
        if self.len() == 1 {
            return 0;
        }
        if self.changes.load(Ordering::Acquire) > 0
            && let Some(number) =
                self.moved.read().unwrap_or_else(PoisonError::into_inner).get(thread_id).copied()
        {
            return number;
        }
        self.number_by_id(thread_id)
    }

    pub(crate) fn number_by_id(&self, thread_id: &str) -> usize {
        (self.hasher.hash_one(thread_id) % self.len() as u64) as usize
    }

    /// From now on the thread is looked for in that instance.
    pub(crate) fn move_to(&self, thread_id: &str, number: usize) {
        self.change(|moved| _ = moved.insert(thread_id.into(), number));
    }

    /// From now on the thread is looked for where its id says. The instance it was in must be locked
    /// and have forgotten it.
    pub(crate) fn move_back(&self, thread_id: &str) {
        let is_moved = |moved: &HashMap<Box<str>, usize>| moved.contains_key(thread_id);
        if self.len() > 1 && is_moved(&self.moved.read().unwrap_or_else(PoisonError::into_inner)) {
            self.change(|moved| _ = moved.remove(thread_id));
        }
    }

    /// From now on every thread is looked for where its id says.
    pub(crate) fn move_all_back(&self) {
        self.change(HashMap::clear);
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<Box<str>, usize>)) {
        let mut moved = self.moved.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut moved);
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Forget the places of threads that no longer exist, when so many were added that it is worth it:
    /// those that went with a parent leave theirs behind.
    pub(crate) fn tidy_up(&self, tidied: &mut Tidied, exists: impl Fn(&mut Instance, &str) -> bool) {
        let moved = self.moved.read().unwrap_or_else(PoisonError::into_inner);
        if moved.len() < 2 * tidied.0 + 1_024 {
            return;
        }
        let listed: Vec<_> = moved.iter().map(|(id, number)| (id.clone(), *number)).collect();
        drop(moved);
        for (thread_id, number) in listed {
            let mut locked = self.lock(number);
            if !exists(&mut locked.shard.instance, &thread_id) {
                self.move_back(&thread_id);
            }
        }
        tidied.0 = self.moved.read().unwrap_or_else(PoisonError::into_inner).len();
    }
}
