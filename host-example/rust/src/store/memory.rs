//! A store in this process, for tests: hosts of a fleet share clones of one [`Arc`](std::sync::Arc).

use super::{
    Commit, Committed, Confirmed, Cursor, Page, Row, Settings, SettingsSet, Store, StoreError, Tree, Version,
    Writer,
};
use async_trait::async_trait;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What it has. Nothing is written down.
#[derive(Debug)]
pub struct Memory {
    idle: Option<Duration>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    trees: BTreeMap<String, KeptTree>,
    /// From a thread's id to the tree that has it, its root's apart.
    forwards: HashMap<String, String>,
    settings: Option<Settings>,
    /// Until when each incarnation is alive.
    incarnations: HashMap<u64, Instant>,
    births: u64,
}

#[derive(Debug)]
struct KeptTree {
    version: Version,
    rows: BTreeMap<String, Vec<u8>>,
    writers: BTreeMap<u64, u64>,
    expires: Option<Instant>,
}

/// How long a tree is remembered whose threads are all gone.
const EMPTY: Duration = Duration::from_secs(600);

impl Memory {
    /// An empty store, whose trees expire when they are idle for that long.
    pub fn new(idle: Option<Duration>) -> Self {
        Self { idle, kept: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        kept.trees.retain(|_, tree| tree.expires.is_none_or(|at| at > now));
        kept
    }
}

impl Kept {
    /// The root of the tree that the id leads to.
    fn root_of(&self, thread_id: &str) -> Option<&str> {
        let tree = |root: &String| self.trees.get_key_value(root.as_str());
        if let Some((root, _)) = self.trees.get_key_value(thread_id) {
            return Some(root);
        }
        let (root, tree) = self.forwards.get(thread_id).and_then(tree)?;
        tree.rows.contains_key(thread_id).then_some(root)
    }

    fn tree(&self, root: &str) -> Option<Tree> {
        self.trees.get(root).map(|tree| tree.whole(root))
    }

    fn is_version(&self, root: &str, expected: Option<Version>) -> bool {
        match expected {
            Some(expected) => self.trees.get(root).is_some_and(|tree| tree.version == expected),
            None => self.root_of(root).is_none(),
        }
    }
}

impl KeptTree {
    fn whole(&self, root: &str) -> Tree {
        let row = |(thread_id, state): (&String, &Vec<u8>)| Row {
            thread_id: thread_id.clone(),
            state: state.clone(),
        };
        let writer = |(&incarnation, &commit): (&u64, &u64)| Writer { incarnation, commit };
        Tree {
            root: root.into(),
            version: self.version,
            rows: self.rows.iter().map(row).collect(),
            writers: self.writers.iter().map(writer).collect(),
        }
    }
}

#[async_trait]
impl Store for Memory {
    async fn threads(&self) -> Result<u64, StoreError> {
        let kept = self.lock();
        let rows = kept.trees.values().flat_map(|tree| tree.rows.values());
        Ok(rows.filter(|state| !state.is_empty()).count() as u64)
    }

    async fn load(&self, thread_id: &str) -> Result<Option<Tree>, StoreError> {
        let kept = self.lock();
        Ok(kept.root_of(thread_id).and_then(|root| kept.tree(root)))
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, StoreError> {
        let mut kept = self.lock();
        let is_elsewhere = |id: &str| {
            let has_rows = |root: &str| kept.trees.get(root).is_some_and(|tree| !tree.rows.is_empty());
            kept.root_of(id).is_some_and(|root| root != commit.root && has_rows(root))
        };
        if is_elsewhere(&commit.root) {
            return Ok(Committed::Taken { thread_id: commit.root });
        }
        if !kept.is_version(&commit.root, commit.expected) {
            return Ok(Committed::Conflict(kept.tree(&commit.root)));
        }
        if let Some(row) = commit.born.iter().find(|row| is_elsewhere(&row.thread_id)) {
            return Ok(Committed::Taken { thread_id: row.thread_id.clone() });
        }
        kept.births += 1;
        let birth = kept.births;
        for row in commit.born.iter().filter(|row| row.thread_id != commit.root) {
            kept.trees.remove(&row.thread_id);
            kept.forwards.insert(row.thread_id.clone(), commit.root.clone());
        }
        for gone in &commit.gone {
            kept.forwards.remove(gone);
        }
        let tree = kept.trees.entry(commit.root).or_insert_with(|| KeptTree {
            version: Version { birth, number: 0 },
            rows: BTreeMap::new(),
            writers: BTreeMap::new(),
            expires: None,
        });
        tree.version.number += 1;
        tree.rows.extend(commit.born.into_iter().chain(commit.changed).map(|row| (row.thread_id, row.state)));
        tree.rows.retain(|thread_id, _| !commit.gone.contains(thread_id));
        tree.writers.retain(|incarnation, _| !commit.forgotten.contains(incarnation));
        tree.writers.insert(commit.writer.incarnation, commit.writer.commit);
        let idle = if tree.rows.is_empty() { Some(EMPTY) } else { self.idle };
        tree.expires = idle.filter(|_| !commit.keeps).map(|idle| Instant::now() + idle);
        Ok(Committed::Done(tree.version))
    }

    async fn confirm(&self, root: &str, version: Option<Version>) -> Result<Confirmed, StoreError> {
        let kept = self.lock();
        if kept.is_version(root, version) {
            return Ok(Confirmed::Same);
        }
        Ok(Confirmed::Conflict(kept.root_of(root).and_then(|root| kept.tree(root))))
    }

    async fn page(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        let kept = self.lock();
        let from = after.map_or(Bound::Unbounded, |cursor| Bound::Excluded(cursor.0.clone()));
        let mut page = Page { trees: Vec::new(), next: None };
        let mut threads = 0;
        for (root, tree) in kept.trees.range((from, Bound::Unbounded)) {
            if threads >= limit {
                page.next = page.trees.last().map(|tree: &Tree| Cursor(tree.root.clone()));
                break;
            }
            threads += tree.rows.len().max(1);
            page.trees.push(tree.whole(root));
        }
        Ok(page)
    }

    async fn settings(&self) -> Result<Option<Settings>, StoreError> {
        Ok(self.lock().settings.clone())
    }

    async fn set_settings(&self, expected: Option<u64>, bytes: Vec<u8>) -> Result<SettingsSet, StoreError> {
        let mut kept = self.lock();
        if kept.settings.as_ref().map(|settings| settings.number) != expected {
            return Ok(SettingsSet::Conflict(kept.settings.clone()));
        }
        let number = expected.map_or(1, |number| number + 1);
        kept.settings = Some(Settings { number, bytes });
        Ok(SettingsSet::Done(number))
    }

    async fn join(&self, incarnation: u64, ttl: Duration) -> Result<(), StoreError> {
        self.lock().incarnations.insert(incarnation, Instant::now() + ttl);
        Ok(())
    }

    async fn refresh(&self, incarnation: u64, ttl: Duration) -> Result<bool, StoreError> {
        let now = Instant::now();
        let mut kept = self.lock();
        let until = kept.incarnations.get_mut(&incarnation).filter(|until| **until > now);
        Ok(until.map(|until| *until = now + ttl).is_some())
    }

    async fn alive(&self, incarnations: &[u64]) -> Result<Vec<bool>, StoreError> {
        let now = Instant::now();
        let kept = self.lock();
        let is_alive = |incarnation| kept.incarnations.get(incarnation).is_some_and(|until| *until > now);
        Ok(incarnations.iter().map(is_alive).collect())
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        let mut kept = self.lock();
        let Kept { trees, forwards, incarnations, .. } = &mut *kept;
        forwards.retain(|id, root| trees.get(root.as_str()).is_some_and(|tree| tree.rows.contains_key(id)));
        let now = Instant::now();
        incarnations.retain(|_, until| *until > now);
        Ok(())
    }
}
