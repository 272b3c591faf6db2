//! A tree as it is read from a store: rows as states, and what of it is to be settled.

use crate::calls::{Operation, Release, SettleLost};
use crate::lost::{LostCalls, Slices};
use crate::store::{StoreError, Tree};
use crate::types::{HoldState, ThreadState};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// A tree, understood.
pub(super) struct Reading {
    pub(super) tree: Tree,
    /// Of its threads, parents first. A row without a state is of none.
    pub(super) states: Vec<ThreadState>,
    /// What settles the holds that were lost.
    pub(super) lost: Vec<Operation<'static>>,
    /// The earliest deadline of a hold of others.
    pub(super) overdue_at: u64,
    /// Hosts that wrote it and are no more.
    pub(super) forgotten: Vec<u64>,
}

/// A thread's state as a row.
pub(super) fn row(state: &ThreadState) -> Vec<u8> {
    // Writing to a vector does not fail, and every state can be written.
    postcard::to_stdvec(state).unwrap_or_default()
}

/// How many hosts may be among those that wrote a tree before one looks which are no more.
const MANY_WRITERS: usize = 8;

impl Reading {
    /// Read the rows.
    pub(super) fn of(store: &Arc<str>, tree: Tree, incarnation: u64) -> Result<Self, StoreError> {
        let mut states = states(store, &tree)?;
        sort(&mut states);
        let mut reading =
            Self { tree, states, lost: Vec::new(), overdue_at: u64::MAX, forgotten: Vec::new() };
        reading.overdue_at = reading
            .holds()
            .filter(|(_, hold)| hold.holder != incarnation)
            .map(|(_, hold)| hold.deadline)
            .min()
            .unwrap_or(u64::MAX);
        Ok(reading)
    }

    fn holds(&self) -> impl Iterator<Item = (&ThreadState, &HoldState)> {
        self.states.iter().flat_map(|state| state.holds.iter().map(move |hold| (state, hold)))
    }

    /// Whose life it matters to know: those whose holds are overdue, and those that wrote it when they are many.
    pub(super) fn asks_about(&self, incarnation: u64, now: u64) -> Vec<u64> {
        let overdue = self.holds().map(|(_, hold)| hold).filter(|hold| hold.deadline < now);
        let mut hosts: BTreeSet<u64> = overdue.map(|hold| hold.holder).collect();
        if self.tree.writers.len() > MANY_WRITERS {
            hosts.extend(self.tree.writers.iter().map(|writer| writer.incarnation));
        }
        hosts.remove(&incarnation);
        hosts.into_iter().collect()
    }

    /// These hosts are no more: what they held and should have ended by now is lost.
    pub(super) fn settle(&mut self, dead: &BTreeSet<u64>, lost_calls: LostCalls, now: u64) {
        let lost = self.holds().filter(|(_, hold)| dead.contains(&hold.holder) && hold.deadline < now);
        self.lost = lost.map(|(state, hold)| settlement(state, hold, lost_calls)).collect();
        let wrote = self.tree.writers.iter().map(|writer| writer.incarnation);
        self.forgotten = wrote.filter(|incarnation| dead.contains(incarnation)).collect();
    }
}

fn settlement(state: &ThreadState, hold: &HoldState, lost_calls: LostCalls) -> Operation<'static> {
    let thread_id = hold.made_for.as_ref().unwrap_or(&state.thread_id).clone().into();
    let request_id = hold.request_id.clone().into();
    let slices = Slices {
        prompt_tokens: hold.prompt_tokens,
        completion_tokens: hold.completion_tokens,
        completion_before: hold.completion_before,
    };
    match slices.charge(lost_calls) {
        Some((prompt_tokens, completion_tokens)) => {
            Operation::SettleLost(SettleLost { thread_id, request_id, prompt_tokens, completion_tokens })
        }
        None => Operation::Release(Release { thread_id, request_id }),
    }
}

/// The states of a tree's threads, in no order.
pub(super) fn states(store: &Arc<str>, tree: &Tree) -> Result<Vec<ThreadState>, StoreError> {
    let rows = tree.rows.iter().filter(|row| !row.state.is_empty());
    rows.map(|row| {
        postcard::from_bytes(&row.state).map_err(|error| StoreError::Foreign {
            store: store.clone(),
            reason: format!("the row of thread {:?} cannot be read: {error}", row.thread_id).into(),
        })
    })
    .collect()
}

/// Parents first.
pub(super) fn sort(states: &mut [ThreadState]) {
    let parents: HashMap<String, Option<String>> =
        states.iter().map(|state| (state.thread_id.clone(), state.parent.clone())).collect();
    let depth = |state: &ThreadState| {
        let line = std::iter::successors(state.parent.as_ref(), |id| parents.get(*id)?.as_ref());
        // No line is that long; a ring would be.
        line.take(64).count()
    };
    states.sort_by_cached_key(depth);
}
