//! The threads of the model, their trees and what is held in them: looked up and summed up every time.

use super::thread::{Hold, Mark, Name, Thread};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const MAX_DEPTH: usize = 16;

/// Every thread there ever was, by number, and those that are in the registry, by id.
#[derive(Default)]
pub(super) struct Forest {
    threads: Vec<Thread>,
    present: BTreeMap<String, usize>,
}

/// Where a hold or a mark is: a thread's number, and a place in its list.
pub(super) type Place = (usize, usize);

impl Forest {
    pub(super) fn len(&self) -> usize {
        self.present.len()
    }

    pub(super) fn find(&self, thread_id: &str) -> Option<usize> {
        self.present.get(thread_id).copied()
    }

    pub(super) fn thread(&self, number: usize) -> &Thread {
        &self.threads[number]
    }

    pub(super) fn thread_mut(&mut self, number: usize) -> &mut Thread {
        &mut self.threads[number]
    }

    /// Ascending by id.
    pub(super) fn all(&self) -> impl Iterator<Item = &Thread> {
        self.present.values().map(|number| &self.threads[*number])
    }

    pub(super) fn is_detached(&self, number: usize) -> bool {
        self.find(&self.threads[number].thread_id) != Some(number)
    }

    /// A thread and its ancestors, nearest first. A detached one is alone.
    pub(super) fn path(&self, number: usize) -> Vec<usize> {
        let mut path = vec![number];
        if !self.is_detached(number) {
            let mut last = number;
            while let Some(parent) = &self.threads[last].parent {
                last = self.present[parent];
                path.push(last);
            }
        }
        path
    }

    /// A thread and those below it. Of a detached one there are none.
    fn tree(&self, number: usize) -> Vec<usize> {
        self.present.values().copied().filter(|other| self.path(*other).contains(&number)).collect()
    }

    /// Make it the thread of its id, in the place of another if there is one.
    pub(super) fn put(&mut self, thread: Thread) -> usize {
        let number = self.threads.len();
        self.present.insert(thread.thread_id.clone(), number);
        self.threads.push(thread);
        number
    }

    /// Why `parent` cannot be the parent of the other.
    pub(super) fn check_parent(&self, thread_id: &str, parent: &str) -> Result<(), Value> {
        if parent == thread_id {
            return Err(json!({ "parent-cycle": parent }));
        }
        let number = self.find(parent).ok_or_else(|| json!({ "unknown-parent": parent }))?;
        let path = self.path(number);
        if path.iter().any(|ancestor| self.threads[*ancestor].thread_id == thread_id) {
            return Err(json!({ "parent-cycle": parent }));
        }
        if path.len() == MAX_DEPTH {
            return Err(json!({ "too-deep": MAX_DEPTH }));
        }
        Ok(())
    }

    /// Held of a thread and those below it, but for one hold.
    pub(super) fn held(&self, number: usize, apart: Option<Place>) -> u64 {
        u64::try_from(self.held_exactly(number, apart)).expect("what is held fits in a limit")
    }

    fn held_exactly(&self, number: usize, apart: Option<Place>) -> u128 {
        let tree = self.tree(number).into_iter();
        let holds = tree.flat_map(|number| {
            self.threads[number].holds.iter().enumerate().map(move |(at, hold)| ((number, at), hold))
        });
        holds.filter(|(place, _)| apart != Some(*place)).map(|(_, hold)| hold.tokens()).sum()
    }

    /// What a thread has left beside what is used and held, by itself.
    pub(super) fn left_of(&self, number: usize, apart: Option<Place>) -> u64 {
        self.threads[number].remaining().saturating_sub(self.held(number, apart))
    }

    /// The least that a thread and its ancestors have left.
    pub(super) fn left(&self, number: usize, apart: Option<Place>) -> u64 {
        self.path(number).into_iter().map(|number| self.left_of(number, apart)).min().unwrap_or_default()
    }

    pub(super) fn find_hold(&self, name: Name<'_>) -> Option<Place> {
        self.find_named(name, Thread::held_names)
    }

    pub(super) fn find_mark(&self, name: Name<'_>) -> Option<Place> {
        self.find_named(name, Thread::marked_names)
    }

    fn find_named(&self, name: Name<'_>, names: fn(&Thread) -> Vec<Name<'_>>) -> Option<Place> {
        self.present.values().find_map(|&number| {
            let at = names(&self.threads[number]).into_iter().position(|other| other == name)?;
            Some((number, at))
        })
    }

    pub(super) fn hold_mut(&mut self, (number, at): Place) -> &mut Hold {
        &mut self.threads[number].holds[at]
    }

    pub(super) fn take_hold(&mut self, (number, at): Place) -> Hold {
        self.threads[number].holds.remove(at)
    }

    pub(super) fn mark_mut(&mut self, (number, at): Place) -> &mut Mark {
        &mut self.threads[number].lost[at]
    }

    pub(super) fn take_mark(&mut self, (number, at): Place) -> Mark {
        self.threads[number].lost.remove(at)
    }

    /// What outlives a thread goes to its nearest ancestor that is left, or ends.
    fn hand_over(&mut self, gone: usize, ancestor: Option<usize>) {
        let id = self.threads[gone].thread_id.clone();
        let holds = std::mem::take(&mut self.threads[gone].holds);
        let marks = std::mem::take(&mut self.threads[gone].lost);
        let Some(ancestor) = ancestor else { return };
        let ancestor = &mut self.threads[ancestor];
        for mut hold in holds {
            hold.made_for.get_or_insert_with(|| id.clone());
            ancestor.holds.push(hold);
        }
        for mut mark in marks {
            mark.made_for.get_or_insert_with(|| id.clone());
            ancestor.leave_mark(mark);
        }
    }

    /// The thread's parent, by number.
    pub(super) fn parent(&self, thread_id: &str) -> Option<usize> {
        self.path(self.find(thread_id)?).get(1).copied()
    }

    /// Start a thread over, or forget it. `birth` is that of a new one, `limit` that of one that was not opened.
    /// Says whether there is a new one.
    pub(super) fn reset(&mut self, thread_id: &str, birth: u64, limit: u64) -> bool {
        let Some(number) = self.find(thread_id) else { return false };
        let old = &self.threads[number];
        let (opened, parent) = (old.opened, old.parent.clone());
        let limit = if opened { old.max_tokens } else { limit };
        let ancestor = self.parent(thread_id);
        let starts_over = opened || self.tree(number).len() > 1;
        if starts_over {
            self.put(Thread { parent, opened, ..Thread::new(thread_id, birth, limit) });
        } else {
            self.present.remove(thread_id);
        }
        self.hand_over(number, ancestor);
        starts_over
    }

    /// Forget a thread and all below it. Returns it as it was.
    pub(super) fn forget(&mut self, thread_id: &str) -> Option<Thread> {
        let number = self.find(thread_id)?;
        let thread = self.threads[number].clone();
        let ancestor = self.parent(thread_id);
        for gone in self.tree(number) {
            self.present.retain(|_, other| *other != gone);
            self.hand_over(gone, ancestor);
        }
        Some(thread)
    }

    /// Take a thread, and all of its tree, out. Returns their ids.
    pub(super) fn drop_tree(&mut self, thread_id: &str) -> Vec<String> {
        let root = self.find(thread_id).and_then(|number| self.path(number).pop());
        let tree: Vec<_> = root.map(|root| self.tree(root)).unwrap_or_default();
        self.present.retain(|_, number| !tree.contains(number));
        tree.into_iter().map(|number| self.threads[number].thread_id.clone()).collect()
    }

    pub(super) fn clear(&mut self) {
        self.present.clear();
    }

    /// Undo what was put since then.
    pub(super) fn forget_since(&mut self, present: BTreeMap<String, usize>) {
        self.present = present;
    }

    pub(super) fn present(&self) -> BTreeMap<String, usize> {
        self.present.clone()
    }

    /// Parents first.
    pub(super) fn states(&self) -> Vec<&Thread> {
        let mut numbers: Vec<_> = self.present.values().copied().collect();
        numbers.sort_by_key(|number| self.path(*number).len());
        numbers.into_iter().map(|number| &self.threads[number]).collect()
    }

    /// Whether what the threads hold, mark and remember goes together.
    pub(super) fn is_possible(&self) -> bool {
        let (mut held, mut marked) = (BTreeMap::new(), BTreeMap::new());
        let mut remembered = BTreeSet::new();
        let each_once = self.present.iter().all(|(_, &number)| {
            let thread = &self.threads[number];
            thread.held_names().into_iter().all(|name| held.insert(name, number).is_none())
                && thread.marked_names().into_iter().all(|name| marked.insert(name, number).is_none())
                && thread.remembered_names().into_iter().all(|name| remembered.insert(name))
        });
        each_once
            && held.iter().all(|(name, number)| marked.get(name).is_none_or(|other| other == number))
            && remembered.iter().all(|name| !held.contains_key(name) && !marked.contains_key(name))
            && self.present.values().all(|&number| {
                let ids = self.path(number).into_iter().map(|number| &self.threads[number].thread_id);
                let ids: BTreeSet<_> = ids.map(Some).collect();
                let thread = &self.threads[number];
                self.held_exactly(number, None) <= u64::MAX.into()
                    && thread.holds.iter().all(|hold| !ids.contains(&hold.made_for.as_ref()))
                    && thread.lost.iter().all(|mark| !ids.contains(&mark.made_for.as_ref()))
            })
    }
}
