//! Between a lane and the store.

use super::Shared;
use super::cache::Cache;
use super::lane::{Id, Telling, Told, Work};
use super::reading::Reading;
use crate::clock;
use crate::error::CallError;
use crate::store::{Commit, Committed, Confirmed, StoreError, Tree, Version, Writer, Wrote};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

/// How long a commit of which nobody knows whether it was written is sent again.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long to wait before that.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a host that won lets one go first that lost. There is no shorter one.
const COURTESY: Duration = Duration::from_millis(1);

/// What the store said.
enum Sent {
    /// The tree is as it was taken to be; a commit gave it a version.
    Done(Option<Version>),
    /// It is not: it is this. What was sent may have been written before.
    Conflict { tree: Option<Tree>, is_written: bool },
    /// A thread that was to be born is elsewhere.
    Taken { thread_id: String },
}

impl Shared {
    /// Look an id up in the store, and have the tree that it leads to.
    pub(super) fn load(self: &Arc<Self>, cache: &mut Cache, thread_id: &str) -> Telling {
        let telling = Telling::default();
        let (shared, id, told) = (self.clone(), Id::from(thread_id), telling.clone());
        let began = cache.tick();
        cache.loads.insert(id.clone(), telling.clone());
        self.runtime.spawn(async move {
            let reading = match shared.store.load(&id).await {
                Ok(Some(tree)) => shared.read_tree(tree).await.map(Some),
                Ok(None) => Ok(None),
                Err(error) => Err(error.into()),
            };
            let done = reading.and_then(|reading| shared.put_loaded(&id, reading.as_ref(), began));
            shared.cache().loads.remove(&id);
            told.tell(&done.map_or_else(Told::Failed, |()| Told::Done));
        });
        telling
    }

    fn put_loaded(self: &Arc<Self>, id: &Id, reading: Option<&Reading>, began: u64) -> Result<(), CallError> {
        let mut cache = self.cache();
        cache.make_sound(&self.blueprint)?;
        let root = reading.map_or(&**id, |reading| &reading.tree.root);
        if cache.lanes.get(root).is_some_and(|lane| !lane.is_quiet()) {
            // It does not know the id. What is on its way finds out, and the id is looked up again.
            return Ok(());
        }
        let root = cache.put(id, reading, began)?;
        self.send(&mut cache, &root);
        Ok(())
    }

    /// Understand a tree, and find out what of it is lost.
    async fn read_tree(&self, tree: Tree) -> Result<Reading, CallError> {
        let (incarnation, now) = (self.presence.incarnation(), clock::milliseconds(clock::now()));
        let mut reading = Reading::of(&self.store.name(), tree, incarnation)?;
        let hosts = reading.asks_about(incarnation, now);
        if !hosts.is_empty() {
            let alive = self.store.alive(&hosts).await?;
            let dead = hosts.into_iter().zip(alive).filter(|(_, is_alive)| !is_alive);
            let dead: BTreeSet<u64> = dead.map(|(host, _)| host).collect();
            reading.settle(&dead, self.lost_calls, now);
        }
        Ok(reading)
    }

    /// Let a task send what the lane has, if none does.
    pub(super) fn send(self: &Arc<Self>, cache: &mut Cache, root: &Id) {
        if let Some(lane) = cache.lanes.get_mut(root)
            && !lane.is_quiet()
            && !lane.is_sending
        {
            lane.is_sending = true;
            self.runtime.spawn(self.clone().send_all(root.clone()));
        }
    }

    async fn send_all(self: Arc<Self>, root: Id) {
        while let Some((work, telling)) = self.take_work(&root) {
            let is_commit = matches!(work, Work::Commit(_));
            match self.ask(&root, work).await {
                Ok(Sent::Done(version)) => {
                    let is_contended = self.cache().lanes.get_mut(&root).is_some_and(|lane| {
                        lane.sent(version);
                        lane.is_contended()
                    });
                    telling.tell(&Told::Done);
                    if is_commit && is_contended {
                        tokio::time::sleep(COURTESY).await;
                    }
                }
                Ok(Sent::Conflict { tree, is_written }) => {
                    self.read_anew(&root, tree).await;
                    telling.tell(&if is_written { Told::Done } else { Told::Again });
                }
                Ok(Sent::Taken { thread_id }) => {
                    let next = {
                        let mut cache = self.cache();
                        let next = cache.lanes.get_mut(&root).map(|lane| lane.overtaken(&telling));
                        cache.remove(&root);
                        if let Some(other) = cache.root_of(&thread_id).cloned() {
                            cache.set_adrift(&other);
                        }
                        next
                    };
                    telling.tell(&Told::Again);
                    next.inspect(|next| next.tell(&Told::Again));
                    return;
                }
                Err(error) => {
                    let next = {
                        let mut cache = self.cache();
                        let next = cache.lanes.get_mut(&root).map(|lane| lane.overtaken(&telling));
                        cache.remove(&root);
                        next
                    };
                    telling.tell(&Told::Failed(error.into()));
                    next.inspect(|next| next.tell(&Told::Again));
                    return;
                }
            }
        }
    }

    fn take_work(&self, root: &Id) -> Option<(Work, Telling)> {
        let mut cache = self.cache();
        let lane = cache.lanes.get_mut(root)?;
        let writer = Writer { incarnation: self.presence.incarnation(), commit: self.presence.next_commit() };
        let work = lane.take(root, writer);
        if work.is_none() {
            lane.is_sending = false;
            if lane.is_nothing() || lane.is_adrift && lane.is_quiet() {
                cache.remove(root);
            }
        }
        work
    }

    async fn ask(&self, root: &Id, work: Work) -> Result<Sent, StoreError> {
        match work {
            Work::Confirm(version) => Ok(match self.store.confirm(root, version).await? {
                Confirmed::Same => Sent::Done(None),
                Confirmed::Conflict(tree) => Sent::Conflict { tree, is_written: false },
            }),
            Work::Commit(commit) => self.commit(commit).await,
        }
    }

    /// Send a commit, the same one again where nobody knows whether it was written: either it was, and its number
    /// is in the tree, or it is written now.
    async fn commit(&self, commit: Commit) -> Result<Sent, StoreError> {
        let started = Instant::now();
        loop {
            let sent = timeout_at((started + PATIENCE).into(), self.store.commit(commit.clone())).await;
            match sent.unwrap_or_else(|_| Err(self.unavailable("it does not answer", Wrote::Perhaps))) {
                Ok(Committed::Done(version)) => return Ok(Sent::Done(Some(version))),
                Ok(Committed::Taken { thread_id }) => return Ok(Sent::Taken { thread_id }),
                Ok(Committed::Conflict(tree)) => {
                    let is_written = tree.as_ref().is_some_and(|tree| tree.writers.contains(&commit.writer));
                    return Ok(Sent::Conflict { tree, is_written });
                }
                Err(error) if error.wrote() == Wrote::Perhaps && started.elapsed() < PATIENCE => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Another host was faster: have the tree as it is now. Who waited for the next round asks again.
    async fn read_anew(self: &Arc<Self>, root: &Id, tree: Option<Tree>) {
        let reloaded = Telling::default();
        let (next, began) = {
            let mut cache = self.cache();
            let began = cache.tick();
            (cache.lanes.get_mut(root).map(|lane| lane.overtaken(&reloaded)), began)
        };
        let reading = match tree {
            Some(tree) if *tree.root == **root => self.read_tree(tree).await.ok(),
            _ => None,
        };
        {
            let mut cache = self.cache();
            let put = cache.make_sound(&self.blueprint).and_then(|()| match &reading {
                Some(reading) => cache.put(root, Some(reading), began).map(drop),
                // What the id leads to now is found by looking it up.
                None => {
                    cache.remove(root);
                    Ok(())
                }
            });
            if put.is_err() {
                cache.remove(root);
            }
        }
        reloaded.tell(&Told::Again);
        next.inspect(|next| next.tell(&Told::Again));
    }
}
