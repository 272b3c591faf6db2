//! What a store is given, and what it answers.

/// Which state of a tree: no two states of trees by one root's id, of any time, have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// Tells a tree that expired and came back from the one before.
    pub birth: u64,
    /// Grows with each commit.
    pub number: u64,
}

/// A thread's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The thread.
    pub thread_id: String,
    /// Its state, opaque, some 150 bytes.
    pub state: Vec<u8>,
}

/// How far a host's incarnation has got with a tree: a host that was not told what became of its commit finds
/// out here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    /// The host's incarnation.
    pub incarnation: u64,
    /// The number that it gave its latest commit of this tree; they grow.
    pub commit: u64,
}

/// A tree of threads, all of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The id of the thread that it was born with, which names it.
    pub root: String,
    /// Its version.
    pub version: Version,
    /// The states of its threads, in no order. None are left of a tree whose threads are all gone; the engine
    /// keeps its version and writers for ten minutes at least.
    pub rows: Vec<Row>,
    /// Who wrote it, in no order.
    pub writers: Vec<Writer>,
}

/// What is to become of one tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The tree.
    pub root: String,
    /// The version that it must have. `None`: there must be none, and it is born.
    pub expected: Option<Version>,
    /// Rows of threads that the tree did not have. Each claims its thread's id.
    pub born: Vec<Row>,
    /// Rows of threads that it has.
    pub changed: Vec<Row>,
    /// Threads that it no longer has.
    pub gone: Vec<String>,
    /// Who writes, and the number of this commit.
    pub writer: Writer,
    /// Incarnations whose latest commit nobody asks for any more.
    pub forgotten: Vec<u64>,
    /// Whether it must not expire, since something is held.
    pub keeps: bool,
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It was written; the tree's version is now this.
    Done(Version),
    /// Nothing was written: the tree has another version. This is what it is now.
    Conflict(Option<Tree>),
    /// Nothing was written: a thread that was to be born is in another tree, or its id is another tree's.
    Taken {
        /// The thread.
        thread_id: String,
    },
}

/// Whether a tree has the version asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// It has.
    Same,
    /// It has not. This is what it is now.
    Conflict(Option<Tree>),
}

/// What hosts share beside the trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Grows each time they are set.
    pub number: u64,
    /// Opaque.
    pub bytes: Vec<u8>,
}

/// What became of new settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingsSet {
    /// They are in force, under this number.
    Done(u64),
    /// They were changed meanwhile. These are in force.
    Conflict(Option<Settings>),
}

/// Where the next page starts. Opaque, and good for the engine that gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub String);

/// Some of the trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// They, each whole.
    pub trees: Vec<Tree>,
    /// Where the next page starts, if there is more.
    pub next: Option<Cursor>,
}
