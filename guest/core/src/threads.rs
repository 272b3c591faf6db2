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
    /// The deepest of them; 0 when there is none.
    levels: u32,
}

impl Threads {
    pub(crate) const fn new() -> Self {
        Self { by_id: Index::new(), at_depth: [0; MAX_DEPTH as usize], levels: 0 }
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
        let depth = thread.depth();
        self.at_depth[depth as usize - 1] += 1;
        self.levels = self.levels.max(depth);
        self.by_id.insert(thread);
    }

    /// Put a thread in the place of the one that has the same id and place in the tree.
    pub(crate) fn replace(&mut self, thread: ThreadBudget) {
        self.by_id.replace(thread);
    }

    /// Take out a thread that still has its place in its tree.
    pub(crate) fn remove(&mut self, thread: &ThreadBudget) {
        self.at_depth[thread.depth() as usize - 1] -= 1;
        self.levels = self.at_depth.iter().rposition(|threads| *threads > 0).map_or(0, |at| at as u32 + 1);
        self.by_id.remove([thread.thread_id()]);
    }

    /// How many levels the deepest tree has; 1 when there is none.
    pub(crate) fn levels(&self) -> u32 {
        self.levels.max(1)
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
        self.by_id.listed_after(id.map(|id| [id])).cloned()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::budget::Budget;
    use crate::crossings::Crossings;
    use std::collections::BTreeSet;
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    fn add(threads: &mut Threads, id: &str, parent: Option<&ThreadBudget>) -> ThreadBudget {
        let thread = ThreadBudget::new(id, 0, Budget::new(0), Crossings::NONE);
        if let Some(parent) = parent {
            thread.adopt(parent);
        }
        threads.insert(thread.clone());
        thread
    }

    /// 200 threads without a parent, some with trees below them.
    fn forest() -> Threads {
        let mut threads = Threads::new();
        for n in 0..200 {
            let mut parent = add(&mut threads, &format!("{n}"), None);
            for depth in 0..n % 16 {
                let [first, ..] =
                    [0, 1, 2].map(|wide| add(&mut threads, &format!("{n}-{depth}-{wide}"), Some(&parent)));
                parent = first;
            }
        }
        threads
    }

    #[test]
    fn every_thread_comes_once_and_after_its_parent() {
        let threads = forest();
        assert_eq!(threads.levels(), 16);
        let mut seen = BTreeSet::new();
        for thread in threads.iter_after(None) {
            assert!(thread.parent().is_none_or(|parent| seen.contains(parent.thread_id())));
            assert!(seen.insert(String::from(thread.thread_id())));
        }
        assert_eq!(seen.len(), threads.len());
    }

    #[test]
    fn it_goes_on_after_any_of_them() {
        let threads = forest();
        let all: Vec<_> = threads.iter_after(None).collect();
        for (at, thread) in all.iter().enumerate() {
            let next = threads.iter_after(Some(thread.thread_id())).next();
            assert_eq!(
                next.as_ref().map(ThreadBudget::thread_id),
                all.get(at + 1).map(ThreadBudget::thread_id)
            );
        }
        assert!(threads.iter_after(Some("nobody")).count() < all.len());
    }

    #[test]
    fn the_levels_are_those_that_are_there() {
        let mut threads = forest();
        assert_eq!(Threads::new().levels(), 1);
        // The deepest first, as a cleanup takes them out.
        let mut all: Vec<_> = threads.iter().cloned().collect();
        all.sort_by_key(|thread| core::cmp::Reverse(thread.depth()));
        for thread in &all {
            assert_eq!(threads.levels(), thread.depth());
            threads.remove(thread);
            thread.detach();
        }
        assert_eq!((threads.len(), threads.levels()), (0, 1));
    }
}
