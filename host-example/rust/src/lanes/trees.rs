//! What concerns more than one tree: a thread that is opened below another, a batch, and the end of all.

use super::cache::{Cache, Place};
use super::lane::Id;
use super::{Entered, Lanes, Shared};
use crate::bounds::{check_batch, check_id};
use crate::calls::{Call, CleanupThread, ConsumeBatch, OpenThread};
use crate::error::{BatchError, CallError};
use crate::types::{ThresholdCrossed, UsageEntry};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// How many threads a page has at least of those that are cleared.
const PAGE: usize = 1_024;

impl Lanes {
    /// Open a thread in the tree of its parent. Returns its birth.
    pub(crate) async fn open(&self, call: &OpenThread<'_>) -> Result<Option<u64>, CallError> {
        let thread_id = call.thread_id();
        let parent = call.options.parent.as_deref().filter(|parent| *parent != thread_id);
        let open = |cache: &mut Cache| open_here(cache, call);
        match parent.filter(|parent| check_id(parent).is_ok() && check_id(thread_id).is_ok()) {
            None => self.shared.on_tree(thread_id, open).await,
            Some(parent) => self.shared.open_below(thread_id, parent, open).await,
        }
    }

    /// Record the entries, those of each tree all or none.
    pub(crate) async fn consume_batch(
        &self,
        entries: &[UsageEntry],
    ) -> Result<Vec<ThresholdCrossed>, BatchError> {
        let all = || (0..entries.len()).collect();
        check_batch(entries).map_err(|error| BatchError { error: error.into(), unrecorded: all() })?;
        self.shared.consume_batch(entries).await
    }

    /// Forget every thread.
    pub(crate) async fn clear(&self) -> Result<(), CallError> {
        let mut after = None;
        loop {
            let page = self.shared.store.page(after.as_ref(), PAGE).await?;
            for tree in page.trees.iter().filter(|tree| !tree.rows.is_empty()) {
                self.shared.on_tree(&tree.root, clean_up_tree).await?;
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

/// In the tree that is entered.
fn open_here(cache: &mut Cache, call: &OpenThread<'_>) -> Result<Option<u64>, CallError> {
    let thread_id = call.thread_id();
    if cache.is_ghost_elsewhere(thread_id) {
        // Its requests are open in another tree, and there its id leads.
        return Err(CallError::OptionsDiffer { thread_id: thread_id.into() });
    }
    call.replay(&mut cache.instance)?;
    cache.birth_of(thread_id)
}

fn clean_up_tree(cache: &mut Cache) -> Result<(), CallError> {
    for root in cache.roots_here() {
        CleanupThread { thread_id: (&*root).into() }.apply(&mut cache.instance)?;
    }
    Ok(())
}

impl Shared {
    async fn open_below<R>(
        self: &Arc<Self>,
        thread_id: &str,
        parent: &str,
        open: impl Fn(&mut Cache) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        let (started, began) = (Instant::now(), self.cache().tick());
        loop {
            // Know whether it exists elsewhere; that it does not is asked once more when it is born.
            self.on_tree(thread_id, |_| Ok(())).await?;
            let room = self.room_for_a_thread(thread_id).await?;
            let entered = self.enter(parent, began, |cache| cache.within(room, &open));
            if let Some(result) = self.stands(entered).await? {
                return result;
            }
            self.check_patience(started)?;
        }
    }

    async fn consume_batch(
        self: &Arc<Self>,
        entries: &[UsageEntry],
    ) -> Result<Vec<ThresholdCrossed>, BatchError> {
        let (started, began) = (Instant::now(), self.cache().tick());
        let mut rest: Vec<usize> = (0..entries.len()).collect();
        let mut crossed = Vec::new();
        let mut failed: Option<BatchError> = None;
        while !rest.is_empty() {
            let patience = self.check_patience(started).map_err(CallError::from);
            let parts = match patience {
                Ok(()) => self.parts(entries, &rest).await,
                Err(error) => Err(error),
            };
            let (parts, others) = parts.map_err(|error| {
                let mut failed = failed.take().unwrap_or(BatchError { error, unrecorded: Vec::new() });
                failed.unrecorded.append(&mut rest.clone());
                failed
            })?;
            rest = others;
            let mut entered = Vec::new();
            for (root, part) in parts {
                let of_part: Vec<_> = part.iter().map(|at| entries[*at].clone()).collect();
                let room = self.room_for_all(&of_part).await;
                let call = ConsumeBatch { entries: of_part.into() };
                let work = |cache: &mut Cache| cache.within(room?, |cache| call.apply(&mut cache.instance));
                entered.push((part, self.enter_by_root(&root, began, work)));
            }
            for (part, entered) in entered {
                match self.stands(entered).await {
                    Ok(Some(Ok(mut of_part))) => crossed.append(&mut of_part),
                    Ok(None) => rest.extend(part),
                    Ok(Some(Err(error))) | Err(error) => {
                        let failed = failed.get_or_insert(BatchError { error, unrecorded: Vec::new() });
                        failed.unrecorded.extend(part);
                    }
                }
            }
        }
        failed.map_or(Ok(crossed), Err)
    }

    /// Which of the entries belong to which tree, as far as that is known; the others are being looked up.
    async fn parts(
        self: &Arc<Self>,
        entries: &[UsageEntry],
        rest: &[usize],
    ) -> Result<(BTreeMap<Id, Vec<usize>>, Vec<usize>), CallError> {
        let mut loads = Vec::new();
        {
            let mut cache = self.cache();
            cache.make_sound(&self.blueprint)?;
            for at in rest {
                let thread_id = &entries[*at].thread_id;
                match cache.place_of(thread_id) {
                    Place::Lane(_) => {}
                    Place::Loading(telling) => loads.push(telling),
                    Place::Unknown => loads.push(self.load(&mut cache, thread_id)),
                }
            }
        }
        for load in loads {
            self.stands(Entered::<()>::First(load)).await?;
        }
        let cache = self.cache();
        let (mut parts, mut others) = (BTreeMap::<Id, Vec<usize>>::new(), Vec::new());
        for at in rest {
            match cache.root_of(&entries[*at].thread_id) {
                Some(root) => parts.entry(root.clone()).or_default().push(*at),
                None => others.push(*at),
            }
        }
        Ok((parts, others))
    }

    async fn room_for_all(&self, entries: &[UsageEntry]) -> Result<bool, CallError> {
        for entry in entries {
            if !self.room_for_a_thread(&entry.thread_id).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn enter_by_root<R>(
        self: &Arc<Self>,
        root: &Id,
        began: u64,
        work: impl FnOnce(&mut Cache) -> Result<R, CallError>,
    ) -> Entered<R> {
        let mut cache = self.cache();
        match cache.make_sound(&self.blueprint) {
            Ok(()) => self.enter_lane(&mut cache, root, began, work),
            Err(error) => Entered::Answer(Err(error)),
        }
    }
}
