//! What the callers of a process that is going to be killed do, and what must be left of it.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use thread_budget_core as core;
use thread_budget_host::blocking::Registry;
use thread_budget_host::{BudgetWarning, CallError, HoldTerms, Note, ThreadOptions, UsageEntry};

/// How many callers a process has. No thread and no note is of two of them.
pub const CALLERS: usize = 4;

/// A step of a caller: one call that the database has to remember, all of it or nothing.
#[derive(Debug)]
pub struct Step {
    caller: usize,
    index: u64,
}

const KINDS: u64 = 11;
const CHILD_LIMIT: u64 = 1_000;
const ROOT_LIMIT: u64 = 100_000;

impl Step {
    /// The step of a caller, counted from 0. Each is the same every time.
    #[must_use]
    pub fn of(caller: usize, index: u64) -> Self {
        Self { caller, index }
    }

    fn root(&self) -> String {
        format!("{}-root", self.caller)
    }

    /// The thread below the root that this round of steps is about.
    fn child(&self) -> String {
        format!("{}-child-{}", self.caller, self.index / KINDS % 20)
    }

    /// What this round holds, and the next one settles: the request's thread and name.
    fn in_flight(&self) -> (String, String) {
        (self.child(), format!("in-flight-{}", self.index / KINDS))
    }

    fn of_last_round(&self) -> Self {
        Self { caller: self.caller, index: self.index.saturating_sub(KINDS) }
    }

    fn tokens(&self) -> u64 {
        self.index * 7_919 % 300
    }

    /// The thread that only batches count on.
    fn beside(&self) -> String {
        format!("{}-batch", self.caller)
    }

    /// About what it will have used, sometimes less and sometimes more.
    fn limit(&self) -> u64 {
        self.index * (12 + self.index / KINDS % 8)
    }

    fn batch(&self) -> Vec<UsageEntry> {
        [self.child(), self.beside(), self.root()]
            .map(|thread_id| UsageEntry { thread_id, prompt_tokens: self.tokens(), completion_tokens: 1 })
            .into()
    }

    /// Do it. What comes back is the severities of the warnings that were handed out.
    ///
    /// # Errors
    /// Whatever the registry says.
    pub fn on_host(&self, registry: &Registry) -> Result<Vec<String>, CallError> {
        let (root, child, tokens) = (self.root(), self.child(), self.tokens());
        match self.index % KINDS {
            0 => {
                registry.open_thread(&root, &ThreadOptions { max_tokens: Some(ROOT_LIMIT), parent: None })?;
            }
            1 => {
                let options = ThreadOptions { max_tokens: Some(CHILD_LIMIT), parent: Some(root) };
                registry.open_thread(&child, &options)?;
            }
            2 => _ = registry.settle(&child, &format!("request-{}", self.index), tokens, 1, true)?,
            3 => {
                let terms = HoldTerms {
                    prompt_tokens: tokens,
                    completion_tokens: 2,
                    least_completion_tokens: 1,
                    holder: registry.holder(),
                    deadline: 0,
                };
                let (thread_id, request_id) = self.in_flight();
                registry.set_hold(&thread_id, &request_id, &terms).map(drop).or_else(refused)?;
            }
            4 => {
                let note = Note { key: self.caller.to_string(), value: self.index.to_be_bytes().into() };
                registry.consume_batch_noting(&self.batch(), |_| Some(note)).map_err(|error| error.error)?;
            }
            5 => _ = registry.consume(&child, tokens, tokens)?,
            6 => {
                let (thread_id, request_id) = self.of_last_round().in_flight();
                let settled = registry.settle(&thread_id, &request_id, tokens / 2, 3, false);
                settled.map(drop).or_else(refused)?;
            }
            7 | 8 => {
                let thread_id = if self.index % KINDS == 7 { child } else { root };
                let warnings = registry.pending_warnings(&thread_id)?;
                let named: Vec<_> = warnings.iter().map(BudgetWarning::acknowledgement).collect();
                registry.acknowledge_warnings(&thread_id, &named)?;
                return Ok(warnings.iter().map(|warning| warning.severity.to_string()).collect());
            }
            9 => _ = registry.set_limit(&self.beside(), self.limit())?,
            _ if (self.index / KINDS).is_multiple_of(2) => registry.reset_thread(&child)?,
            _ => _ = registry.cleanup_thread(&child)?,
        }
        Ok(Vec::new())
    }

    /// The same, in the core; what comes back must be the same, too.
    ///
    /// # Panics
    /// When the core refuses what the host did not.
    pub fn on_core(&self, registry: &mut core::Registry) -> Vec<String> {
        const POSSIBLE: &str = "the host could do it";
        let (root, child, tokens) = (self.root(), self.child(), self.tokens());
        match self.index % KINDS {
            0 => _ = registry.open_thread(&root, Some(ROOT_LIMIT), None).expect(POSSIBLE),
            1 => _ = registry.open_thread(&child, Some(CHILD_LIMIT), Some(&root)).expect(POSSIBLE),
            2 => {
                let request = format!("request-{}", self.index);
                registry.settle(&child, request.as_str(), tokens, 1, true).expect(POSSIBLE);
            }
            3 => {
                let wanted = core::Wanted {
                    prompt_tokens: tokens,
                    completion_tokens: 2,
                    least_completion_tokens: 1,
                    holder: 0,
                    deadline: 0,
                };
                let (thread_id, request_id) = self.in_flight();
                // A refusal is an outcome like any other.
                let _ = registry.hold(&thread_id, request_id.as_str(), wanted);
            }
            4 => {
                let batch = self.batch();
                let entries = batch
                    .iter()
                    .map(|entry| (&*entry.thread_id, entry.prompt_tokens, entry.completion_tokens));
                registry.consume_batch(entries, 0).expect(POSSIBLE);
            }
            5 => _ = registry.consume(&child, tokens, tokens).expect(POSSIBLE),
            6 => {
                let (thread_id, request_id) = self.of_last_round().in_flight();
                let _ = registry.settle(&thread_id, request_id.as_str(), tokens / 2, 3, false);
            }
            7 | 8 => {
                let thread_id = if self.index % KINDS == 7 { child } else { root };
                let warnings = registry.pending_warnings(&thread_id);
                let named: Vec<_> =
                    warnings.iter().map(|warning| (warning.threshold_percent, warning.max_tokens)).collect();
                registry.acknowledge_warnings(&thread_id, named);
                return warnings.iter().map(|warning| returned_name(warning.severity)).collect();
            }
            9 => _ = registry.set_limit(&self.beside(), self.limit()).expect(POSSIBLE),
            _ if (self.index / KINDS).is_multiple_of(2) => registry.reset_thread(&child),
            _ => _ = registry.cleanup_thread(&child),
        }
        Vec::new()
    }
}

fn returned_name(severity: core::Severity) -> String {
    json!(severity).as_str().unwrap_or_default().into()
}

/// A refusal is an outcome like any other.
fn refused(error: CallError) -> Result<(), CallError> {
    if matches!(error, CallError::Refused(_) | CallError::UnknownHold) { Ok(()) } else { Err(error) }
}

/// Everything about the threads and the note of a caller.
pub type State = BTreeMap<String, Value>;

/// A caller whose calls in flight get lost, and nothing else, when its process is killed.
#[derive(Debug, Default)]
pub struct Survivor {
    caller: usize,
    steps: u64,
    /// After how many steps its process was killed.
    kills: Vec<u64>,
    registry: core::Registry,
    note: Value,
}

impl Survivor {
    /// One that has done nothing yet.
    #[must_use]
    pub fn new(caller: usize) -> Self {
        Self { caller, ..Self::default() }
    }

    /// How many steps it has done.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Do the next step. What comes back is what it hands out.
    pub fn go_on(&mut self) -> Vec<String> {
        let handed_out = Step::of(self.caller, self.steps).on_core(&mut self.registry);
        if self.steps % KINDS == 4 {
            self.note = json!(self.steps.to_be_bytes());
        }
        self.steps += 1;
        handed_out
    }

    /// The same one, whose process was killed when it had done so many steps more.
    #[must_use]
    pub fn killed_after(&self, more: u64) -> Self {
        let mut again = Self::new(self.caller);
        for kill in self.kills.iter().copied().chain([self.steps + more]) {
            while again.steps < kill {
                again.go_on();
            }
            again.lose_what_is_in_flight();
            again.kills.push(kill);
        }
        again
    }

    /// As who opens the file next does: by thread and request, at the prompt.
    fn lose_what_is_in_flight(&mut self) {
        let threads = self.threads();
        let holds = threads.iter().flat_map(|thread| thread.holds.iter().map(move |hold| (thread, hold)));
        let mut lost: Vec<_> = holds
            .map(|(thread, hold)| {
                let thread_id = hold.made_for.as_ref().unwrap_or(&thread.thread_id);
                (thread_id, &hold.request_id, hold.prompt_tokens)
            })
            .collect();
        lost.sort();
        for (thread_id, request_id, prompt_tokens) in lost {
            self.registry.settle_lost(thread_id, request_id, prompt_tokens, 0).expect("it is held");
        }
    }

    /// What must be left of it.
    #[must_use]
    pub fn state(&self) -> State {
        let threads = self.threads();
        let threads = threads.iter().map(|thread| (thread.thread_id.clone(), without_birth(json!(thread))));
        threads.chain([("note".into(), self.note.clone())]).collect()
    }

    fn threads(&self) -> Vec<core::ThreadState> {
        let mut threads: Vec<core::ThreadState> = Vec::new();
        loop {
            let after = threads.last().map(|thread| &*thread.thread_id);
            let page = self.registry.snapshot(after, 1_000, 0);
            if page.is_empty() {
                return threads;
            }
            threads.extend(page);
        }
    }
}

/// When threads are born is the host's to say.
fn without_birth(mut thread: Value) -> Value {
    thread.as_object_mut().map(|fields| fields.remove("birth"));
    thread
}

/// What is left of all callers.
///
/// # Panics
/// When the registry cannot be read.
#[must_use]
pub fn found(registry: &Registry) -> Vec<State> {
    let note = |caller: usize| json!(registry.note(&caller.to_string()).expect("it can be read"));
    let mut states: Vec<_> =
        (0..CALLERS).map(|caller| State::from([("note".into(), note(caller))])).collect();
    let mut after: Option<String> = None;
    loop {
        let page = registry.snapshot(after.as_deref(), 1_000).expect("it can be read");
        let Some(last) = page.last() else { return states };
        after = Some(last.thread_id.clone());
        for thread in page {
            let caller = thread.thread_id.split('-').next().and_then(|caller| caller.parse().ok());
            let state = caller.and_then(|caller: usize| states.get_mut(caller)).expect("a caller's thread");
            state.insert(thread.thread_id.clone(), without_birth(json!(thread)));
        }
    }
}
