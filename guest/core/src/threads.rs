//! All threads of a registry, by id and as the trees they form.

use crate::MAX_DEPTH;
use crate::index::Index;
use crate::thread::ThreadBudget;
use alloc::collections::TryReserveError;

#[derive(Debug, Default)]
pub(crate) struct Threads {
    /// Those without a parent, apart, so that trees are found one after the other.
    roots: Index<ThreadBudget, 1>,
    below: Index<ThreadBudget, 1>,
    /// How many there are at each depth.
    at_depth: [u32; MAX_DEPTH as usize],
}

impl Threads {
    pub(crate) const fn new() -> Self {
        Self { roots: Index::new(), below: Index::new(), at_depth: [0; MAX_DEPTH as usize] }
    }

    pub(crate) fn len(&self) -> usize {
        self.roots.len() + self.below.len()
    }

    pub(crate) fn get(&self, id: &str) -> Option<&ThreadBudget> {
        self.roots.get([id]).or_else(|| self.below.get([id]))
    }

    /// Make room for one more, with that parent if there is one, but for what is small.
    pub(crate) fn reserve(&mut self, parent: Option<&ThreadBudget>) -> Result<(), TryReserveError> {
        match parent {
            None => self.roots.reserve(),
            Some(parent) => {
                self.below.reserve()?;
                parent.children().map_or(Ok(()), |mut children| children.reserve())
            }
        }
    }

    /// Add a thread that has its place in its tree and whose id is not among these yet.
    pub(crate) fn insert(&mut self, thread: ThreadBudget) {
        self.at_depth[thread.depth() as usize - 1] += 1;
        self.index_of(&thread).insert(thread);
    }

    /// Put a thread in the place of the one of the same id and depth.
    pub(crate) fn replace(&mut self, thread: ThreadBudget) {
        self.index_of(&thread).replace(thread);
    }

    /// Take out a thread that still has its place in its tree.
    pub(crate) fn remove(&mut self, thread: &ThreadBudget) {
        self.at_depth[thread.depth() as usize - 1] -= 1;
        self.index_of(thread).remove([thread.thread_id()]);
    }

    /// How many levels the deepest tree has; 1 when there is none.
    pub(crate) fn levels(&self) -> u32 {
        let deepest = self.at_depth.iter().rposition(|threads| *threads > 0);
        deepest.map_or(1, |depth| depth as u32 + 1)
    }

    /// In no order that matters.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &ThreadBudget> {
        self.roots.iter().chain(self.below.iter())
    }

    /// Tree after tree, each thread before those below it: those that come after that id.
    pub(crate) fn iter_after(&self, id: Option<&str>) -> impl Iterator<Item = ThreadBudget> {
        let first = match id.map(|id| (id, self.get(id))) {
            None => self.root_after(None),
            Some((_, Some(thread))) => self.next(thread),
            Some((gone, None)) => self.root_after(Some(gone)),
        };
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
        self.roots.after(id.map(|id| [id])).cloned()
    }

    fn index_of(&mut self, thread: &ThreadBudget) -> &mut Index<ThreadBudget, 1> {
        if thread.parent().is_some() { &mut self.below } else { &mut self.roots }
    }
}
