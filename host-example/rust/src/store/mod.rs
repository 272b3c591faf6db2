//! Where the threads of one host, or of a fleet of hosts, are kept.
//!
//! The engine has the truth and an instance is a cache of it. The unit of atomicity is a tree of threads, the
//! unit of writing a thread's row. A host reads a tree, applies calls to it, and commits the rows it changed if
//! the tree's version is still the one it read. An engine knows nothing of budgets: rows are opaque bytes.
//!
//! A thread id leads to one tree. For the root's that is the tree itself, for others a forward to it, made
//! when the thread is born. A thread never changes its tree; when it is gone, its id is free again.

mod error;
mod memory;
mod types;

use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

pub use error::{StoreError, Wrote};
pub use memory::Memory;
pub use types::{
    Commit, Committed, Confirmed, Cursor, Page, Row, Settings, SettingsSet, Tree, Version, Writer,
};

/// An engine that keeps trees of threads. Clones of an [`Arc`] of it may be used from any
/// number of tasks, on any executor; what is asked at the same time shares round trips where the engine can.
///
/// A call takes two seconds at the longest, and is never sent twice. When it fails, the error says whether
/// what it was to write may have been written: see [`StoreError::wrote`].
#[async_trait]
pub trait Store: Send + Sync {
    /// The store, as in its URL, without the password.
    fn name(&self) -> Arc<str> {
        "of this program".into()
    }

    /// The tree that the thread id leads to, or `None`. The tree need not have a row of that thread: its root
    /// may be gone while others are left.
    async fn load(&self, thread_id: &str) -> Result<Option<Tree>, StoreError>;

    /// Write what changed in one tree, all of it or nothing, if the tree has the version expected.
    async fn commit(&self, commit: Commit) -> Result<Committed, StoreError>;

    /// Whether the tree still has that version, for answers that write nothing. `None`: that there is no tree
    /// of that root's id and no forward from it.
    async fn confirm(&self, root: &str, version: Option<Version>) -> Result<Confirmed, StoreError>;

    /// Some of the trees, at least `limit` threads of them if there are as many, from the place where the page
    /// before ended; `None` starts. A tree that exists all the while is on some page, and may be on more than
    /// one; a tree comes whole.
    async fn page(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError>;

    /// About how many threads there are. They are counted where an engine does not know better.
    async fn threads(&self) -> Result<u64, StoreError> {
        let (mut threads, mut after) = (0, None);
        loop {
            let page = self.page(after.as_ref(), 4_096).await?;
            let rows = page.trees.iter().flat_map(|tree| &tree.rows);
            threads += rows.filter(|row| !row.state.is_empty()).count() as u64;
            after = page.next;
            if after.is_none() {
                return Ok(threads);
            }
        }
    }

    /// What all hosts share beside the trees, if it was ever set.
    async fn settings(&self) -> Result<Option<Settings>, StoreError>;

    /// Replace it, if its number is still the one expected; `None`: if it was never set.
    async fn set_settings(&self, expected: Option<u64>, bytes: Vec<u8>) -> Result<SettingsSet, StoreError>;

    /// Announce a host's new incarnation, which is alive from now on for that long, by the engine's clock.
    async fn join(&self, incarnation: u64, ttl: Duration) -> Result<(), StoreError>;

    /// Keep it alive for that long from now. False when it no longer was: then it stays so, and its host joins
    /// as a new one.
    async fn refresh(&self, incarnation: u64, ttl: Duration) -> Result<bool, StoreError>;

    /// Which of the incarnations are alive, in the order asked for.
    async fn alive(&self, incarnations: &[u64]) -> Result<Vec<bool>, StoreError>;

    /// Drop some of what has expired or leads nowhere, as much as takes milliseconds. Whoever refreshes an
    /// incarnation calls it now and then.
    async fn sweep(&self) -> Result<(), StoreError>;
}
