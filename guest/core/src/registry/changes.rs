//! For hosts that keep the threads elsewhere too: what has changed, and a tree out of the registry.

use super::Registry;
use crate::MAX_PAGE;
use crate::changes::Changes;
use crate::error::CreateError;

impl Registry {
    /// What has changed since this was called last, up to `limit` threads; fewer when memory or [`MAX_PAGE`]
    /// want it so, none when that is all. The first call answers with nothing, and from then on it is noted what
    /// changes, other than settings and what [`Registry::restore`] and [`Registry::drop_tree`] do. A thread that
    /// was touched and is as it was may be among them. `row_bytes` is what a caller who copies a state takes
    /// beside its lists.
    ///
    /// # Errors
    /// There was no memory to note everything. What was noted is forgotten, and noting goes on.
    pub fn take_changes(&mut self, limit: u32, row_bytes: usize) -> Result<Changes, CreateError> {
        let limit = (limit as usize).min(MAX_PAGE);
        self.noted.tell(&self.threads, limit, row_bytes).ok_or(CreateError::OutOfMemory)
    }

    /// Take the thread, and all of the tree that it is in, out of the registry, with what is held and marked.
    /// Handles on them go on counting, detached. Says whether there was such a thread.
    pub fn drop_tree(&mut self, thread_id: &str) -> bool {
        let root = self.threads.get(thread_id).and_then(|thread| thread.line().last());
        if let Some(root) = &root {
            self.forget(root, None);
        }
        root.is_some()
    }
}
