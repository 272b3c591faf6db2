//! The threads of the model, and their trees: looked up by name every time.

use super::budget::Budget;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use thread_budget_host::ThreadState;

const MAX_DEPTH: usize = 16;

/// Every budget there ever was, by number, and those that are threads of the registry, by id.
#[derive(Default)]
pub(super) struct Forest {
    budgets: Vec<Budget>,
    threads: BTreeMap<String, usize>,
}

impl Forest {
    pub(super) fn len(&self) -> usize {
        self.threads.len()
    }

    pub(super) fn find(&self, thread_id: &str) -> Option<usize> {
        self.threads.get(thread_id).copied()
    }

    pub(super) fn budget(&self, number: usize) -> &Budget {
        &self.budgets[number]
    }

    pub(super) fn budget_mut(&mut self, number: usize) -> &mut Budget {
        &mut self.budgets[number]
    }

    /// Ascending by id.
    pub(super) fn all(&self) -> impl Iterator<Item = &Budget> {
        self.threads.values().map(|number| &self.budgets[*number])
    }

    pub(super) fn is_detached(&self, number: usize) -> bool {
        self.find(&self.budgets[number].thread_id) != Some(number)
    }

    /// A budget and its ancestors, nearest first. A detached one is alone.
    pub(super) fn path(&self, number: usize) -> Vec<usize> {
        let mut path = vec![number];
        if !self.is_detached(number) {
            let mut last = number;
            while let Some(parent) = &self.budgets[last].parent {
                last = self.threads[parent];
                path.push(last);
            }
        }
        path
    }

    /// Make it the thread of its id, in the place of another if there is one.
    pub(super) fn put(&mut self, budget: Budget) -> usize {
        let number = self.budgets.len();
        self.threads.insert(budget.thread_id.clone(), number);
        self.budgets.push(budget);
        number
    }

    /// Why `parent` cannot be the parent of the other.
    pub(super) fn check_parent(&self, thread_id: &str, parent: &str) -> Result<(), Value> {
        if parent == thread_id {
            return Err(json!({ "parent-cycle": parent }));
        }
        let number = self.find(parent).ok_or_else(|| json!({ "unknown-parent": parent }))?;
        let path = self.path(number);
        if path.iter().any(|ancestor| self.budgets[*ancestor].thread_id == thread_id) {
            return Err(json!({ "parent-cycle": parent }));
        }
        if path.len() == MAX_DEPTH {
            return Err(json!({ "too-deep": MAX_DEPTH }));
        }
        Ok(())
    }

    fn children(&self, thread_id: &str) -> Vec<String> {
        let below = self.all().filter(|budget| budget.parent.as_deref() == Some(thread_id));
        below.map(|budget| budget.thread_id.clone()).collect()
    }

    /// `limit` is that of a thread that was not opened.
    pub(super) fn reset(&mut self, thread_id: &str, limit: u64) {
        let Some(number) = self.find(thread_id) else { return };
        let old = &self.budgets[number];
        if old.opened {
            let (parent, limit) = (old.parent.clone(), old.max_tokens);
            self.put(Budget { parent, opened: true, ..Budget::new(thread_id, limit) });
        } else if self.children(thread_id).is_empty() {
            self.threads.remove(thread_id);
        } else {
            self.put(Budget::new(thread_id, limit));
        }
    }

    /// Forget a thread and all below it. Returns its budget.
    pub(super) fn forget(&mut self, thread_id: &str) -> Option<&Budget> {
        for child in self.children(thread_id) {
            self.forget(&child);
        }
        self.threads.remove(thread_id).map(|number| &self.budgets[number])
    }

    pub(super) fn clear(&mut self) {
        self.threads.clear();
    }

    /// Parents first.
    pub(super) fn states(&self) -> Vec<ThreadState> {
        let mut numbers: Vec<_> = self.threads.values().collect();
        numbers.sort_by_key(|number| self.path(**number).len());
        numbers.into_iter().map(|number| self.budgets[*number].state()).collect()
    }

    pub(super) fn restore(&mut self, states: &[ThreadState], max_threads: u32) -> Result<(), Value> {
        let before = self.threads.clone();
        let result = states.iter().try_for_each(|state| self.restore_one(state, max_threads));
        if result.is_err() {
            self.threads = before;
        }
        result
    }

    fn restore_one(&mut self, state: &ThreadState, max_threads: u32) -> Result<(), Value> {
        super::check_id(&state.thread_id)?;
        if self.find(&state.thread_id).is_some() {
            return Err(json!("invalid-state"));
        }
        let budget = Budget::of_state(state).ok_or_else(|| json!("invalid-state"))?;
        if let Some(parent) = &state.parent {
            self.check_parent(&state.thread_id, parent)?;
        }
        super::check_room(self.len(), max_threads)?;
        self.put(budget);
        Ok(())
    }
}
