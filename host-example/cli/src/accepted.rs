//! Whether a record is allowed beside those that were accepted and are not recorded yet.

use super::Failure;
use super::threads::pages;
use std::collections::HashMap;
use std::iter::successors;
use thread_budget_host::CallError;
use thread_budget_host::blocking::Registry;

/// What was accepted since the last write. Nothing of it is held in the database: after a crash it is read
/// from the recording again.
pub(super) struct Accepted {
    /// Of threads that have one.
    parents: HashMap<String, String>,
    /// By thread, what it and those below it are going to use.
    tokens: HashMap<String, u64>,
}

impl Accepted {
    pub(super) fn new(registry: &Registry) -> Result<Self, Failure> {
        let mut parents = HashMap::new();
        for page in pages(registry) {
            parents.extend(page?.into_iter().filter_map(|thread| Some((thread.thread_id, thread.parent?))));
        }
        Ok(Self { parents, tokens: HashMap::new() })
    }

    /// Accept a record, if the thread and its ancestors have room for it.
    pub(super) fn accept(
        &mut self,
        registry: &Registry,
        thread_id: &str,
        tokens: u64,
    ) -> Result<bool, CallError> {
        let Self { parents, tokens: accepted } = self;
        let line = || successors(Some(thread_id), |id| parents.get(*id).map(String::as_str));
        for id in line() {
            let before = accepted.get(id).copied().unwrap_or(0);
            // What was accepted is as good as used, and at the limit even a request of nothing is refused.
            match registry.check_budget(id, before.saturating_add(tokens.max(1))) {
                Ok(()) => {}
                Err(CallError::Refused(_)) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        for id in line() {
            let sum = accepted.entry(id.to_owned()).or_default();
            *sum = sum.saturating_add(tokens);
        }
        Ok(true)
    }

    /// A thread is now below another.
    pub(super) fn opened(&mut self, thread_id: &str, parent: &str) {
        self.parents.insert(thread_id.to_owned(), parent.to_owned());
    }

    /// It is recorded.
    pub(super) fn clear(&mut self) {
        self.tokens.clear();
    }
}
