//! Several instances behind one door: which of them keeps a thread.
//!
//! A thread lives in the instance that its id hashes to, a thread with a parent in that of its parent,
//! so that a tree is in one place. Only threads that live elsewhere than their id says are listed.

use crate::calls::Call;
use crate::error::CallError;
use crate::instance::Instance;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

pub(crate) struct Shards {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    /// The instances of threads that live elsewhere than their id says.
    moved: RwLock<HashMap<Box<str>, usize>>,
    /// How often `moved` has changed. Whoever looked before the last change looks again.
    changes: AtomicUsize,
    /// Held by what concerns more than one instance: settings, and threads that move in. So the instances
    /// never disagree for longer than such a call takes.
    pub(crate) several: Mutex<Tidied>,
}

/// How long the list was when it was last tidied up.
#[derive(Default)]
pub(crate) struct Tidied(usize);

/// An instance. No two share a cache line, or the line before or after it, which processors fetch as well.
#[repr(align(128))]
pub(crate) struct Shard(Instance);

impl Deref for Shard {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.0
    }
}

impl DerefMut for Shard {
    fn deref_mut(&mut self) -> &mut Instance {
        &mut self.0
    }
}

impl Shards {
    /// The instances are numbered in their order, from 0.
    pub(crate) fn new(instances: Vec<Instance>) -> Self {
        Self {
            shards: instances.into_iter().map(|instance| Mutex::new(Shard(instance))).collect(),
            hasher: RandomState::new(),
            moved: RwLock::default(),
            changes: AtomicUsize::new(0),
            several: Mutex::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.len()
    }

    /// Lock an instance.
    pub(crate) fn lock(&self, number: usize) -> MutexGuard<'_, Shard> {
        // A panic while it was held cannot have left the instance in between: wasmtime reports what
        // happens inside as errors, and that an instance is lost is noted last.
        self.shards[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lock the instance that keeps the thread.
    pub(crate) fn lock_for(&self, thread_id: &str) -> MutexGuard<'_, Shard> {
        self.locate(thread_id).1
    }

    /// The same, and its number.
    pub(crate) fn locate(&self, thread_id: &str) -> (usize, MutexGuard<'_, Shard>) {
        loop {
            let changes = self.changes.load(Ordering::Acquire);
            let number = self.number_for(thread_id);
            let locked = self.lock(number);
            if self.changes.load(Ordering::Acquire) == changes {
                return (number, locked);
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

    /// A call that every instance gets, one such call at a time.
    pub(crate) fn apply_to_all(&self, call: &impl Call<Answer = ()>) -> Result<(), CallError> {
        let _alone = self.several.lock().unwrap_or_else(PoisonError::into_inner);
        (0..self.len()).try_for_each(|number| call.apply(&mut self.lock(number)))
    }

    /// From now on the thread is looked for in that instance.
    pub(crate) fn move_to(&self, thread_id: &str, number: usize) {
        self.change(|moved| _ = moved.insert(thread_id.into(), number));
    }

    /// From now on the thread is looked for where its id says. The instance it was in must be locked
    /// and have forgotten it.
    pub(crate) fn move_back(&self, thread_id: &str) {
        self.change(|moved| _ = moved.remove(thread_id));
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<Box<str>, usize>)) {
        let mut moved = self.moved.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut moved);
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Forget the places of threads that no longer exist, when so many were added that it is worth it.
    pub(crate) fn tidy_up(&self, tidied: &mut Tidied, exists: impl Fn(&mut Instance, &str) -> bool) {
        let moved = self.moved.read().unwrap_or_else(PoisonError::into_inner);
        if moved.len() < 2 * tidied.0 + 1_024 {
            return;
        }
        let listed: Vec<_> = moved.iter().map(|(id, number)| (id.clone(), *number)).collect();
        drop(moved);
        for (thread_id, number) in listed {
            let mut instance = self.lock(number);
            if !exists(&mut instance, &thread_id) {
                self.move_back(&thread_id);
            }
        }
        tidied.0 = self.moved.read().unwrap_or_else(PoisonError::into_inner).len();
    }
}
