//! An implementation and the naive model, side by side: the same calls, and the same has to come of them.

use crate::call::{Call, undo_portable};
use crate::model::Model;
use crate::subject::Subject;
use serde_json::{Value, json};
use std::collections::BTreeMap;

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
/// # Errors
/// Where the two disagree, and about what.
pub fn check<S: Subject>(fresh: impl Fn() -> S, steps: &[Step]) -> Result<(), String> {
    check_pair(Pair::new(fresh()), fresh, steps)
}

/// The same with what chooses births and deadlines of its own.
///
/// # Errors
/// Where the two disagree, and about what.
pub fn check_fleet<S: Subject>(fresh: impl Fn() -> S, steps: &[Step]) -> Result<(), String> {
    check_pair(Pair { is_fleet: true, ..Pair::new(fresh()) }, fresh, steps)
}

fn check_pair<S: Subject>(mut pair: Pair<S>, fresh: impl Fn() -> S, steps: &[Step]) -> Result<(), String> {
    pair.make_handles()?;
    for step in steps {
        match step {
            Step::Call(call) => pair.call(call)?,
            Step::Restart { page } => pair = pair.restarted(fresh(), (*page).max(1))?,
        }
    }
    let _ = pair.both(&Call::new("get-all-usage", json!({})))?;
    pair.states(u32::MAX).map(drop)
}

struct Pair<S> {
    subject: S,
    model: Model,
    max_threads: u64,
    is_fleet: bool,
}

impl<S: Subject> Pair<S> {
    fn new(subject: S) -> Self {
        Self { subject, model: Model::default(), max_threads: u32::MAX.into(), is_fleet: false }
    }

    fn make_handles(&mut self) -> Result<(), String> {
        HANDLES.into_iter().try_for_each(|name| {
            self.both(&Call::new("get-budget", json!({ "thread_id": name, "as": name }))).map(drop)
        })
    }

    fn call(&mut self, call: &Call) -> Result<(), String> {
        let succeeded = self.both(call)?.is_ok();
        match &*call.name {
            "hold" | "settle" | "reset-thread" | "cleanup-thread" if succeeded => self.holds(),
            "set-max-threads" => {
                self.max_threads = call.get("max_threads");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Compare what is held, of every thread.
    fn holds(&mut self) -> Result<(), String> {
        let mut threads = self.model.thread_ids().into_iter();
        threads.try_for_each(|thread_id| {
            self.both(&Call::new("held-tokens", json!({ "thread_id": thread_id }))).map(drop)
        })
    }

    /// Make the call on both.
    fn both(&mut self, call: &Call) -> Result<Result<Value, Value>, String> {
        let (mut outcome, mut expected) = (self.subject.call(call), self.model.call(call));
        if call.name == "take-changes" {
            let now = snapshot(&mut self.model, &Value::Null, u32::MAX)?;
            (outcome, expected) = (outcome.map(changes), expected.map(changes));
            if let (Ok(outcome), Ok(expected)) = (&mut outcome, &expected) {
                leave_out_untouched(outcome, expected, &changes(json!({ "changed": now, "gone": [] })));
            }
        }
        // Of several faults in a list of states the contract does not say which is named.
        let refused = call.name == "restore" && outcome.is_err() && expected.is_err();
        if outcome != expected && !refused {
            return Err(format!("{call:?}\n  expected  {expected:?}\n  got       {outcome:?}"));
        }
        Ok(outcome)
    }

    /// The same settings and threads in another registry; what is detached ends here.
    fn restarted(mut self, subject: S, page: u32) -> Result<Self, String> {
        let states = self.states(page)?;
        let mut setting = |name| {
            let call = Call::new(name, json!({}));
            let mut value = self.both(&call)?.map_err(|error| format!("{call:?} failed: {error}"))?;
            undo_portable(&mut value);
            Ok::<_, String>(value)
        };
        let max_tokens = setting("max-tokens-per-thread")?;
        let thresholds = setting("thresholds")?;

        let mut new = Self::new(subject);
        new.call(&Call::new("configure", json!({ "max_tokens_per_thread": max_tokens })))?;
        new.call(&Call::new("set-thresholds", json!({ "thresholds": thresholds })))?;
        for page in states.chunks(page as usize) {
            let restore = Call::new("restore", json!({ "states": page }));
            if let Err(error) = new.both(&restore)? {
                return Err(format!("{restore:?} failed: {error}"));
            }
        }
        new.make_handles()?;
        // Last, since there may be more threads than a lowered limit lets come back.
        new.call(&Call::new("set-max-threads", json!({ "max_threads": self.max_threads })))?;
        Ok(new)
    }

    /// Every state, in the order of the subject's pages, which has to be one.
    fn states(&mut self, page: u32) -> Result<Vec<Value>, String> {
        let mut all: Vec<Value> = Vec::new();
        loop {
            let after = all.last().map_or(Value::Null, |state| state["thread_id"].clone());
            let states = snapshot(&mut self.subject, &after, page)?;
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
            if state["parent"].as_str().is_some_and(|parent| !earlier.contains_key(parent)) {
                return Err(format!("{state} comes before its parent"));
            }
            if earlier.insert(state["thread_id"].as_str().unwrap_or_default(), ()).is_some() {
                return Err(format!("{state} comes twice"));
            }
        }
        let (mut expected, mut got) =
            (comparable(snapshot(&mut self.model, &Value::Null, u32::MAX)?), comparable(all.clone()));
        if self.is_fleet {
            expected.iter_mut().chain(&mut got).for_each(leave_out_the_hosts_own);
        }
        if got != expected {
            let differ = |(expected, got): (&Value, &Value)| {
                (expected != got).then(|| format!("a snapshot\n  expected  {expected}\n  got       {got}"))
            };
            let lengths = || format!("a snapshot of {} threads for {}", got.len(), expected.len());
            return Err(expected.iter().zip(&got).find_map(differ).unwrap_or_else(lengths));
        }
        Ok(all)
    }
}

/// A page of states.
pub(crate) fn snapshot(subject: &mut dyn Subject, after: &Value, limit: u32) -> Result<Vec<Value>, String> {
    let mut states = subject
        .call(&Call::new("snapshot", json!({ "after": after, "limit": limit })))
        .map_err(|error| format!("a snapshot failed: {error}"))?;
    undo_portable(&mut states);
    serde_json::from_value(states).map_err(|error| error.to_string())
}

/// What a fleet has of its own: births, and until when a hold is answered for.
fn leave_out_the_hosts_own(state: &mut Value) {
    state["birth"] = 0.into();
    for hold in state["holds"].as_array_mut().into_iter().flatten() {
        hold["deadline"] = 0.into();
    }
}

/// Changes, their states as [`comparable`] has them.
fn changes(mut changes: Value) -> Value {
    undo_portable(&mut changes);
    if let Some(changed) = changes["changed"].as_array_mut() {
        *changed = comparable(std::mem::take(changed));
    }
    changes
}

/// Leave out what may be told, and need not: threads that are as they were, or that came and went.
fn leave_out_untouched(told: &mut Value, expected: &Value, now: &Value) {
    let has = |list: &Value, one: &Value| list.as_array().is_some_and(|list| list.contains(one));
    if let Some(changed) = told["changed"].as_array_mut() {
        changed.retain(|state| has(&expected["changed"], state) || !has(&now["changed"], state));
    }
    let exists = |id: &Value| {
        now["changed"].as_array().is_some_and(|all| all.iter().any(|one| one["thread_id"] == *id))
    };
    if let Some(gone) = told["gone"].as_array_mut() {
        gone.retain(|id| has(&expected["gone"], id) || exists(id));
    }
}

/// States in one order where the contract leaves it open: that of threads, and that of what several threads
/// handed over at once. Vectors look at the order of the others.
pub(crate) fn comparable(mut states: Vec<Value>) -> Vec<Value> {
    states.sort_by_key(|state| state["thread_id"].to_string());
    for state in &mut states {
        for list in ["holds", "lost"] {
            if let Some(list) = state[list].as_array_mut() {
                list.sort_by_key(|one| (one["made_for"].to_string(), one["request_id"].to_string()));
            }
        }
    }
    states
}
