//! Why a store cannot do what it is asked, and what to do about it.

use std::sync::Arc;

/// Whether a call that failed has written something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// Surely not.
    Nothing,
    /// Nobody knows: it was sent, and no answer came. Load the tree and look for the commit's number.
    Perhaps,
}

/// Why a store did not do what it was asked. The store is named as in its URL, without the password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The engine is out of reach, or did not answer in time. It may be back any moment.
    #[error("the store {store} is out of reach: {reason}; calls fail until it is back")]
    Unavailable {
        /// The store.
        store: Arc<str>,
        /// What the client says.
        reason: Arc<str>,
        /// Whether the call has written something.
        wrote: Wrote,
    },
    /// No room is left: of memory (Redis), or on the disk.
    #[error("the store {store} is full: {reason}; give it more room, or let idle trees expire sooner")]
    Full {
        /// The store.
        store: Arc<str>,
        /// What the engine says.
        reason: Arc<str>,
    },
    /// The server takes no writes: a replica, or one that was told so.
    #[error("the store {store} is read-only: {reason}; name the primary in the URL")]
    ReadOnly {
        /// The store.
        store: Arc<str>,
        /// What the engine says.
        reason: Arc<str>,
    },
    /// The user or the password is wrong, or may not do this.
    #[error(
        "the store {store} denies access: {reason}; correct user and password in the URL, or grant the rights"
    )]
    Denied {
        /// The store.
        store: Arc<str>,
        /// What the engine says.
        reason: Arc<str>,
    },
    /// The server may throw away budgets when its memory is full.
    #[error("the store {store} may evict budgets: its maxmemory-policy is {policy}; set it to noeviction")]
    Evicts {
        /// The store.
        store: Arc<str>,
        /// Its policy.
        policy: Arc<str>,
    },
    /// What is kept there was written by an older release.
    #[error(
        "the store {store} has schema {found}, older than {wanted} of this release; move it with the release that wrote it: `thread-budget db copy`"
    )]
    OlderSchema {
        /// The store.
        store: Arc<str>,
        /// Its schema.
        found: u64,
        /// The schema of this release.
        wanted: u64,
    },
    /// What is kept there was written by a newer release.
    #[error("the store {store} has schema {found}, newer than {wanted} of this release; use a newer release")]
    NewerSchema {
        /// The store.
        store: Arc<str>,
        /// Its schema.
        found: u64,
        /// The schema of this release.
        wanted: u64,
    },
    /// A tree is larger than one value of the engine may be.
    #[error(
        "the tree {root} takes {bytes} bytes, more than the {max} that the store {store} has for one; clean up threads of it"
    )]
    TooLarge {
        /// The store.
        store: Arc<str>,
        /// The tree.
        root: String,
        /// Its size.
        bytes: usize,
        /// The most there may be.
        max: usize,
    },
    /// Another process has it open.
    #[error("the store {store} is in use by another process; end that, or use an engine that many share")]
    InUse {
        /// The store.
        store: Arc<str>,
    },
    /// What is kept there is not what this crate writes, or is damaged.
    #[error("the store {store} holds what this program did not write: {reason}")]
    Foreign {
        /// The store.
        store: Arc<str>,
        /// What was found.
        reason: Arc<str>,
    },
    /// The URL names no store.
    #[error("no store can be opened at {url}: {reason}")]
    Url {
        /// The URL, without the password.
        url: Arc<str>,
        /// Why not, and what is wanted.
        reason: Arc<str>,
    },
    /// The engine refused for a reason of its own.
    #[error("the store {store} refuses: {reason}")]
    Refused {
        /// The store.
        store: Arc<str>,
        /// What it says.
        reason: Arc<str>,
        /// Whether the call has written something.
        wrote: Wrote,
    },
}

impl StoreError {
    /// Whether the call that failed may have written something.
    pub fn wrote(&self) -> Wrote {
        match self {
            Self::Unavailable { wrote, .. } | Self::Refused { wrote, .. } => *wrote,
            _ => Wrote::Nothing,
        }
    }

    /// Whether the same call may succeed later with nobody doing anything.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
