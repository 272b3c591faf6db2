//! All threads of a registry, by id and as the trees they form.

use crate::MAX_DEPTH;
use crate::index::Index;
use crate::thread::ThreadBudget;
use alloc::collections::TryReserveError;

#[derive(Debug, Default)]
pub(crate) struct Threads {
    by_id: Index<ThreadBudget, 1>,
    /// How many there are at each depth.
    at_depth: [u32; MAX_DEPTH as usize],
}

impl Threads {
    pub(crate) const fn new() -> Self {
        Self { by_id: Index::new(), at_depth: [0; MAX_DEPTH as usize] }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn get(&self, id: &str) -> Option<&ThreadBudget> {
        self.by_id.get([id])
    }

    /// Make room for one more, but for what is small.
    pub(crate) fn reserve(&mut self) -> Result<(), TryReserveError> {
        self.by_id.reserve()
    }

    /// Add a thread that has its place in its tree and whose id is not among these yet.
    pub(crate) fn insert(&mut self, thread: ThreadBudget) {
        self.at_depth[thread.depth() as usize - 1] += 1;
        self.by_id.insert(thread);
    }

    /// Put a thread in the place of the one that has the same id and place in the tree.
    pub(crate) fn replace(&mut self, thread: ThreadBudget) {
        self.by_id.replace(thread);
    }

    /// Take out a thread that still has its place in its tree.
    pub(crate) fn remove(&mut self, thread: &ThreadBudget) {
        self.at_depth[thread.depth() as usize - 1] -= 1;
        self.by_id.remove([thread.thread_id()]);
    }

    /// How many levels the deepest tree has; 1 when there is none.
    pub(crate) fn levels(&self) -> u32 {
        let deepest = self.at_depth.iter().rposition(|threads| *threads > 0);
        deepest.map_or(1, |depth| depth as u32 + 1)
    }

    /// In no order that matters.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &ThreadBudget> {
        self.by_id.iter()
    }

    /// Tree after tree, each thread before those below it: those that come after that id.
    pub(crate) fn iter_after(&self, id: Option<&str>) -> impl Iterator<Item = ThreadBudget> {
        let thread = id.and_then(|id| self.get(id));
        let first = thread.map_or_else(|| self.root_after(id), |thread| self.next(thread));
        core::iter::successors(first, |thread| self.next(thread))
    }

    fn next(&self, thread: &ThreadBudget) -> Option<ThreadBudget> {
        thread.child_after(None).or_else(|| {
            thread.line().find_map(|thread| match thread.parent() {
                Some(parent) => parent.child_after(Some(thread.thread_id())),
                None => self.root_after(Some(thread.thread_id())),
            })
        })
    }

    fn root_after(&self, id: Option<&str>) -> Option<ThreadBudget> {
        self.by_id.after(id.map(|id| [id])).cloned()
    }
}
