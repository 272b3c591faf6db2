//! An implementation and the naive model, side by side: the same calls, and the same has to come of them.

use crate::call::{Call, undo_portable};
use crate::model::Model;
use crate::subject::Subject;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use thread_budget_host::ThreadState;

/// The names of handles on budgets. Each is there from the start, on the thread of that name.
pub const HANDLES: [&str; 4] = ["h0", "h1", "h2", "h3"];

/// One thing to do to both.
#[derive(Clone, Debug)]
pub enum Step {
    /// The call; not of `snapshot`, whose order is for the implementation to choose.
    Call(Call),
    /// Move all state to a fresh registry, in pages of this many threads, at least one.
    Restart {
        /// Threads a page.
        page: u32,
    },
}

/// Go through the steps with what `fresh` makes.
///
/// Calls on a reservation that is not there are passed over, and one that is there is dropped before
/// its name is used again.
///
/// # Errors
/// Where the two disagree, and about what.
pub fn check<S: Subject>(fresh: impl Fn() -> S, steps: &[Step]) -> Result<(), String> {
    let mut pair = Pair::new(fresh());
    pair.make_handles()?;
    for step in steps {
        match step {
            Step::Call(call) => pair.call(call)?,
            Step::Restart { page } => pair = pair.restarted(fresh(), (*page).max(1))?,
        }
    }
    pair.call(&Call::GetAllUsage {})?;
    pair.states(u32::MAX).map(drop)
}

struct Pair<S> {
    subject: S,
    model: Model,
    reservations: BTreeSet<String>,
    max_threads: u32,
}

impl<S: Subject> Pair<S> {
    fn new(subject: S) -> Self {
        Self { subject, model: Model::default(), reservations: BTreeSet::new(), max_threads: u32::MAX }
    }

    fn make_handles(&mut self) -> Result<(), String> {
        HANDLES.into_iter().try_for_each(|name| {
            self.both(&Call::GetBudget { thread_id: name.into(), r#as: name.into() }).map(drop)
        })
    }

    fn call(&mut self, call: &Call) -> Result<(), String> {
        match call {
            Call::ReservationTokens { on } | Call::ReservationChargedThread { on }
                if !self.reservations.contains(on) =>
            {
                return Ok(());
            }
            Call::ReservationCommit { on, .. } | Call::ReservationDrop { on }
                if !self.reservations.remove(on) =>
            {
                return Ok(());
            }
            Call::Reserve { r#as, .. } if self.reservations.remove(r#as) => {
                let _ = self.both(&Call::ReservationDrop { on: r#as.clone() })?;
            }
            _ => {}
        }
        let succeeded = self.both(call)?.is_ok();
        match call {
            Call::Reserve { r#as, .. } if succeeded => {
                self.reservations.insert(r#as.clone());
                self.holds()?;
            }
            Call::SetMaxThreads { max_threads } => self.max_threads = *max_threads,
            _ => {}
        }
        Ok(())
    }

    /// Compare what is held, of every thread. Other calls seldom ask before it is released.
    fn holds(&mut self) -> Result<(), String> {
        let mut threads = self.model.thread_ids().into_iter();
        threads.try_for_each(|thread_id| self.both(&Call::HeldTokens { thread_id }).map(drop))
    }

    /// Make the call on both.
    fn both(&mut self, call: &Call) -> Result<Result<Value, Value>, String> {
        let (outcome, expected) = (self.subject.call(call), self.model.call(call));
        if outcome != expected {
            return Err(format!("{call:?}\n  expected  {expected:?}\n  got       {outcome:?}"));
        }
        Ok(outcome)
    }

    /// The same settings and threads in another registry; holds and what is detached end here.
    fn restarted(mut self, subject: S, page: u32) -> Result<Self, String> {
        let states = self.states(page)?;
        let mut setting = |call| {
            let mut value = self.both(&call)?.map_err(|error| format!("{call:?} failed: {error}"))?;
            undo_portable(&mut value);
            Ok::<_, String>(value)
        };
        let max_tokens = setting(Call::MaxTokensPerThread {})?;
        let thresholds = setting(Call::Thresholds {})?;

        let mut new = Self::new(subject);
        new.call(&Call::Configure { max_tokens_per_thread: max_tokens.as_u64().ok_or("not a limit")? })?;
        new.call(&Call::SetThresholds { thresholds: of_json(thresholds)? })?;
        for page in states.chunks(page as usize) {
            let restore = Call::Restore { states: page.to_vec() };
            if let Err(error) = new.both(&restore)? {
                return Err(format!("{restore:?} failed: {error}"));
            }
        }
        new.make_handles()?;
        // Last, since there may be more threads than a lowered limit lets come back.
        new.call(&Call::SetMaxThreads { max_threads: self.max_threads })?;
        Ok(new)
    }

    /// Every state, in the order of the subject's pages, which has to be one.
    fn states(&mut self, page: u32) -> Result<Vec<ThreadState>, String> {
        let mut all: Vec<ThreadState> = Vec::new();
        loop {
            let after = all.last().map(|state| state.thread_id.clone());
            let states = snapshot(&mut self.subject, after, page)?;
            if states.len() > page as usize {
                return Err(format!("{} states on a page of {page}", states.len()));
            }
            if states.is_empty() {
                break;
            }
            all.extend(states);
        }
        let mut earlier = BTreeMap::new();
        for state in &all {
            if state.parent.as_ref().is_some_and(|parent| !earlier.contains_key(parent)) {
                return Err(format!("{state:?} comes before its parent"));
            }
            if earlier.insert(state.thread_id.clone(), state).is_some() {
                return Err(format!("{state:?} comes twice"));
            }
        }
        let mut expected = snapshot(&mut self.model, None, u32::MAX)?;
        expected.sort_by(|a, b| a.thread_id.cmp(&b.thread_id));
        if !earlier.values().copied().eq(&expected) {
            return Err(format!("a snapshot\n  expected  {expected:?}\n  got       {all:?}"));
        }
        Ok(all)
    }
}

/// A page of states.
pub(crate) fn snapshot(
    subject: &mut dyn Subject,
    after: Option<String>,
    limit: u32,
) -> Result<Vec<ThreadState>, String> {
    let mut states = subject
        .call(&Call::Snapshot { after, limit })
        .map_err(|error| format!("a snapshot failed: {error}"))?;
    undo_portable(&mut states);
    of_json(states)
}

fn of_json<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}
