//! The instance, and which trees it has.

use super::lane::{Id, Lane, Moves, Telling, Told};
use super::reading::Reading;
use super::settings::Settings;
use crate::calls::{Call, Configure, Operation, SetMaxThreads, SetNextBirth, SetThresholds};
use crate::clock;
use crate::error::CallError;
use crate::instance::{Blueprint, Instance};
use crate::states::restore_all;
use crate::types::ThreadState;
use std::collections::HashMap;
use std::sync::Arc;

/// How many threads are told of in one answer.
const CHANGES: u32 = 4_096;

/// What a thread in the instance may take on average before trees are dropped.
const BYTES_PER_THREAD: usize = 2 << 10;

pub(super) struct Cache {
    pub(super) instance: Instance,
    pub(super) lanes: HashMap<Id, Lane>,
    /// From an id to the root of the tree it leads to.
    roots: HashMap<Id, Id>,
    /// Ids that are being looked for in the store.
    pub(super) loads: HashMap<Id, Telling>,
    /// Counts what happens, to tell what was before.
    ticks: u64,
    pub(super) settings: Settings,
    /// The root of the tree in which something is carried out.
    entered: Option<Id>,
    /// Part of every birth that this host gives.
    host: u64,
    most_threads: usize,
}

/// Where an id leads.
pub(super) enum Place {
    Lane(Id),
    Loading(Telling),
    Unknown,
}

impl Cache {
    pub(super) fn new(blueprint: &Blueprint, max_memory_bytes: usize, host: u64) -> Result<Self, CallError> {
        let mut instance = fresh(blueprint)?;
        let settings = Settings::of(&mut instance)?;
        let mut cache = Self {
            instance,
            lanes: HashMap::new(),
            roots: HashMap::new(),
            loads: HashMap::new(),
            ticks: 0,
            settings,
            host,
            entered: None,
            most_threads: max_memory_bytes / BYTES_PER_THREAD,
        };
        cache.number_births()?;
        Ok(cache)
    }

    pub(super) fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    pub(super) fn place_of(&self, thread_id: &str) -> Place {
        match (self.roots.get(thread_id), self.loads.get(thread_id)) {
            (Some(root), _) => Place::Lane(root.clone()),
            (None, Some(loading)) => Place::Loading(loading.clone()),
            (None, None) => Place::Unknown,
        }
    }

    /// The root of the tree that the id is known to lead to.
    pub(super) fn root_of(&self, thread_id: &str) -> Option<&Id> {
        self.roots.get(thread_id)
    }

    pub(super) fn has_thread(&self, thread_id: &str) -> bool {
        let lane = self.root_of(thread_id).and_then(|root| self.lanes.get(root));
        lane.is_some_and(|lane| lane.birth_of(thread_id).is_some())
    }

    /// Do something in a tree.
    pub(super) fn enter<R>(&mut self, root: &Id, work: impl FnOnce(&mut Self) -> R) -> R {
        self.entered = Some(root.clone());
        let result = work(self);
        self.entered = None;
        result
    }

    /// Do something that may make a thread where there is room for one.
    pub(super) fn within<R>(
        &mut self,
        has_room: bool,
        work: impl FnOnce(&mut Self) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        if has_room {
            return work(self);
        }
        SetMaxThreads { max_threads: 0 }.apply(&mut self.instance)?;
        let result = work(self);
        SetMaxThreads { max_threads: u32::MAX }.apply(&mut self.instance)?;
        result.map_err(|error| match error {
            CallError::TooManyThreads { .. } => {
                CallError::TooManyThreads { limit: self.settings.max_threads }
            }
            other => other,
        })
    }

    /// The birth of a thread of the tree that was entered.
    pub(super) fn birth_of(&mut self, thread_id: &str) -> Result<Option<u64>, CallError> {
        let Some(root) = self.entered.clone() else { return Ok(None) };
        self.note(&root)?;
        Ok(self.lanes.get(&root).and_then(|lane| lane.birth_of(thread_id)))
    }

    /// Whether the id leads to another tree than the one that was entered, by requests of a thread that is gone.
    pub(super) fn is_ghost_elsewhere(&self, thread_id: &str) -> bool {
        self.root_of(thread_id).is_some_and(|root| {
            self.entered.as_ref() != Some(root)
                && self.lanes.get(root).is_some_and(|lane| lane.has_ghost(thread_id))
        })
    }

    /// The threads without a parent of the tree that was entered.
    pub(super) fn roots_here(&self) -> Vec<Id> {
        let lane = self.entered.as_ref().and_then(|root| self.lanes.get(root));
        lane.map_or_else(Vec::new, |lane| lane.roots().cloned().collect())
    }

    /// Let the limit and thresholds be these.
    pub(super) fn apply_settings(&mut self, settings: Settings) -> Result<(), CallError> {
        let Settings { max_tokens_per_thread, thresholds, .. } = &settings;
        Configure { max_tokens_per_thread: *max_tokens_per_thread }.apply(&mut self.instance)?;
        SetThresholds { thresholds: thresholds.as_slice().into() }.apply(&mut self.instance)?;
        self.settings = settings;
        Ok(())
    }

    /// From now on births are above those of threads that are gone, and other than those that others give.
    fn number_births(&mut self) -> Result<(), CallError> {
        let birth = clock::birth() << 12 | self.host & 0xFFF;
        SetNextBirth { birth }.apply(&mut self.instance)
    }

    /// Where an instance was lost make another. It has no tree; what is on its way to the store goes there.
    pub(super) fn make_sound(&mut self, blueprint: &Blueprint) -> Result<(), CallError> {
        if self.instance.lost.is_none() {
            return Ok(());
        }
        self.instance = fresh(blueprint)?;
        self.lanes.values_mut().for_each(|lane| lane.is_adrift = true);
        let quiet: Vec<Id> =
            self.lanes.iter().filter(|(_, lane)| lane.is_quiet()).map(|(root, _)| root.clone()).collect();
        quiet.iter().for_each(|root| self.remove(root));
        self.apply_settings(self.settings.clone())?;
        self.number_births()
    }

    /// Take what was changed, all of it in one tree.
    pub(super) fn note(&mut self, root: &Id) -> Result<(), CallError> {
        let (mut changed, mut gone) = (Vec::new(), Vec::new());
        loop {
            let changes = self.instance.ask(|registry, store| registry.call_take_changes(store, CHANGES))?;
            let count = changes.changed.len() + changes.gone.len();
            for state in changes.changed {
                let row = super::reading::row(&state);
                changed.push((state, row));
            }
            gone.extend(changes.gone);
            if count == 0 {
                break;
            }
        }
        if changed.is_empty() && gone.is_empty() {
            return Ok(());
        }
        if let Some(lane) = self.lanes.get_mut(root) {
            let moves = lane.note(changed, gone);
            self.make(root, moves);
        }
        Ok(())
    }

    fn make(&mut self, root: &Id, Moves { here, away }: Moves) {
        for id in away {
            if id != *root {
                self.roots.remove(&id);
            }
        }
        for id in here {
            self.roots.insert(id, root.clone());
        }
    }

    /// Have a tree as the store has it, or that there is none of the id. Holds that were lost are settled.
    pub(super) fn put(&mut self, id: &str, reading: Option<&Reading>, now: u64) -> Result<Id, CallError> {
        let root = Id::from(reading.map_or(id, |reading| &reading.tree.root));
        let before = self.lanes.get_mut(&root).map(|lane| lane.used);
        if before.is_some() {
            self.drop_from_instance(&root);
        }
        let states = reading.map_or(&[][..], |reading| &reading.states);
        let mut lane = Lane::new(reading.map(|reading| &reading.tree), states, now);
        if let Some(reading) = reading {
            lane.mind(reading.overdue_at, reading.forgotten.clone());
        }
        if let Some(before) = self.lanes.get(&root) {
            lane = lane.reloaded(before);
        }
        self.unlist(&root);
        let ids: Vec<Id> = lane.ids().cloned().collect();
        ids.iter().for_each(|id| self.leave_other(id, &root));
        ids.into_iter().chain([root.clone()]).for_each(|id| _ = self.roots.insert(id, root.clone()));
        self.lanes.insert(root.clone(), lane);
        self.make_room(self.most_threads);
        let restored = self.restore(states).and_then(|()| {
            for lost in reading.map_or(&[][..], |reading| &reading.lost) {
                self.settle_lost(lost)?;
            }
            self.note(&root)
        });
        match restored {
            Ok(()) => Ok(root),
            Err(error) => {
                self.remove(&root);
                Err(error)
            }
        }
    }

    /// A thread that was in another tree, as far as is known here, is in this one by now: that is not known as
    /// it is.
    fn leave_other(&mut self, thread_id: &Id, root: &Id) {
        let Some(other) = self.roots.get(thread_id).filter(|other| *other != root).cloned() else { return };
        if self.lanes.get(&other).is_some_and(Lane::is_quiet) {
            self.remove(&other);
        } else {
            self.set_adrift(&other);
        }
    }

    fn restore(&mut self, states: &[ThreadState]) -> Result<(), CallError> {
        if states.is_empty() {
            return Ok(());
        }
        let mut restored = self.instance.with_allowances(|instance| restore_all(instance, states.to_vec()));
        if matches!(restored, Err(CallError::OutOfMemory)) && self.make_room(self.roots.len() / 2) {
            self.forget(states);
            restored = self.instance.with_allowances(|instance| restore_all(instance, states.to_vec()));
        }
        if restored.is_err() {
            self.forget(states);
        }
        restored?;
        self.number_births()
    }

    fn settle_lost(&mut self, lost: &Operation<'static>) -> Result<(), CallError> {
        match lost.replay(&mut self.instance) {
            // It ended with another thread of the tree.
            Ok(()) | Err(CallError::UnknownHold) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Forget the tree, here and in the instance.
    pub(super) fn remove(&mut self, root: &Id) {
        self.drop_from_instance(root);
        self.unlist(root);
        self.lanes.remove(root);
    }

    fn unlist(&mut self, root: &Id) {
        let Some(lane) = self.lanes.get(root) else { return };
        for id in lane.ids().chain([root]) {
            if self.roots.get(id) == Some(root) {
                self.roots.remove(id);
            }
        }
    }

    /// The instance no longer has the tree as it should be: what is on its way to the store goes there, and then
    /// it is read anew.
    pub(super) fn set_adrift(&mut self, root: &Id) {
        self.drop_from_instance(root);
        if let Some(lane) = self.lanes.get_mut(root) {
            lane.is_adrift = true;
        }
    }

    pub(super) fn drop_from_instance(&mut self, root: &Id) {
        let Some(lane) = self.lanes.get(root) else { return };
        if self.instance.lost.is_none() && !lane.is_adrift {
            for id in lane.roots() {
                // What fails leaves the instance lost, and then it is no longer there either.
                let _ = self.instance.call(|registry, store| registry.call_drop_tree(store, id));
            }
        }
    }

    fn forget(&mut self, states: &[ThreadState]) {
        for state in states.iter().filter(|state| state.parent.is_none()) {
            let _ = self.instance.call(|registry, store| registry.call_drop_tree(store, &state.thread_id));
        }
    }

    /// Drop trees that nobody has used for long, until no more ids lead anywhere. Says whether any was.
    pub(super) fn make_room(&mut self, most_ids: usize) -> bool {
        if self.roots.len() <= most_ids {
            return false;
        }
        let idle = self.lanes.iter().filter(|(_, lane)| lane.is_quiet() && !lane.is_sending);
        let mut idle: Vec<_> = idle.map(|(root, lane)| (lane.used, root.clone())).collect();
        idle.sort_unstable_by_key(|(used, _)| *used);
        // The latest is the one that room is wanted for.
        idle.pop();
        let (most_ids, before) = (most_ids * 3 / 4, self.roots.len());
        for (_, root) in idle {
            if self.roots.len() <= most_ids {
                break;
            }
            self.remove(&root);
        }
        self.roots.len() < before
    }

    /// Drop half of the trees, other than this one. Says whether any was.
    pub(super) fn make_room_beside(&mut self, root: &Id) -> bool {
        let now = self.tick();
        if let Some(lane) = self.lanes.get_mut(root) {
            lane.used = now;
        }
        self.make_room(self.roots.len() / 2)
    }

    /// Everybody who waits for a tree or an id is told this.
    pub(super) fn end(&mut self, told: &Told) -> Vec<(Telling, Told)> {
        let lanes = self.lanes.values_mut().filter_map(|lane| lane.last_telling());
        lanes
            .chain(self.loads.drain().map(|(_, telling)| telling))
            .map(|telling| (telling, told.clone()))
            .collect()
    }
}

/// An instance that notes what changes.
fn fresh(blueprint: &Blueprint) -> Result<Instance, CallError> {
    let instance = blueprint.instantiate();
    let mut instance =
        instance.map_err(|error| CallError::InstanceLost { reason: Arc::from(error.to_string()) })?;
    instance.ask(|registry, store| registry.call_take_changes(store, 0))?;
    Ok(instance)
}
