//! The contract as one would first write it down: nothing fast, nothing shared with the core.

mod forest;
mod thread;

use crate::call::{Acknowledgement, Call, Outcome, ThreadOptions, UsageEntry, returned};
use crate::subject::Subject;
use forest::{Forest, Place};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use thread::Name;

pub(crate) use thread::{Hold, Mark, Severity, Thread, Threshold};

/// A registry.
pub struct Model {
    max_tokens: u64,
    max_threads: u32,
    next_birth: u64,
    /// Above every birth restored.
    least_birth: u64,
    thresholds: BTreeMap<u32, Severity>,
    forest: Forest,
    /// The threads as `take-changes` told them last; none until it is called.
    told: Option<BTreeMap<String, Thread>>,
    /// Numbers of threads.
    handles: HashMap<String, usize>,
}

#[derive(Deserialize)]
struct Crossed {
    severity: Severity,
    percent_used: f64,
    tokens_remaining: u64,
}

/// Prompt and completion tokens.
type Used = (u64, u64);

/// What a hold asks for.
struct Wanted {
    prompt_tokens: u64,
    completion_tokens: u64,
    least_completion_tokens: u64,
    holder: u64,
    deadline: u64,
}

impl Wanted {
    fn all(&self) -> u128 {
        u128::from(self.prompt_tokens) + u128::from(self.completion_tokens)
    }

    fn least(&self) -> u128 {
        let completion = self.least_completion_tokens.min(self.completion_tokens);
        u128::from(self.prompt_tokens) + u128::from(completion)
    }

    /// The hold of so many tokens, made for a thread that is gone if any.
    fn granted(&self, request_id: &str, made_for: Option<String>, tokens: u128) -> Hold {
        let completion = tokens - u128::from(self.prompt_tokens);
        Hold {
            made_for,
            request_id: request_id.into(),
            prompt_tokens: self.prompt_tokens,
            completion_tokens: u64::try_from(completion).expect("it was cut down, or fits in what there was"),
            completion_before: 0,
            holder: self.holder,
            deadline: self.deadline,
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        use Severity::{Critical, Final, Warning};
        Self {
            max_tokens: 100_000,
            max_threads: u32::MAX,
            next_birth: 1,
            least_birth: 0,
            thresholds: BTreeMap::from([(75, Warning), (90, Critical), (95, Final)]),
            forest: Forest::default(),
            told: None,
            handles: HashMap::new(),
        }
    }
}

impl Model {
    pub(crate) fn thread_ids(&self) -> Vec<String> {
        self.forest.all().map(|thread| thread.thread_id.clone()).collect()
    }

    fn born(&mut self) -> u64 {
        let birth = self.next_birth;
        self.next_birth = birth.saturating_add(1);
        birth
    }

    fn get_or_create(&mut self, thread_id: &str) -> Result<usize, Value> {
        if let Some(number) = self.forest.find(thread_id) {
            return Ok(number);
        }
        check_thread_id(thread_id)?;
        self.check_room_for_one()?;
        let birth = self.born();
        Ok(self.forest.put(Thread::new(thread_id, birth, self.max_tokens)))
    }

    fn check_room_for_one(&self) -> Result<(), Value> {
        let fits = self.forest.len() < self.max_threads as usize;
        if fits { Ok(()) } else { Err(json!({ "too-many-threads": self.max_threads })) }
    }

    fn open(&mut self, thread_id: &str, options: ThreadOptions) -> Result<usize, Value> {
        check_thread_id(thread_id)?;
        if let Some(parent) = &options.parent {
            self.forest.check_parent(thread_id, parent)?;
        }
        if let Some(number) = self.forest.find(thread_id) {
            let thread = self.forest.thread(number);
            let other_limit = options.max_tokens.is_some_and(|limit| limit != thread.max_tokens);
            let other_parent = options.parent.is_some() && options.parent != thread.parent;
            if other_limit || other_parent {
                return Err(json!({ "options-differ": thread_id }));
            }
            return Ok(number);
        }
        self.check_room_for_one()?;
        let birth = self.born();
        Ok(self.forest.put(Thread {
            opened: options.max_tokens.is_some() || options.parent.is_some(),
            parent: options.parent,
            ..Thread::new(thread_id, birth, options.max_tokens.unwrap_or(self.max_tokens))
        }))
    }

    /// Refuse for the nearest that has no room. `had` tokens fit anyway: those of the hold kept apart.
    fn check(&self, number: usize, requested: u128, apart: Option<Place>, had: u128) -> Result<(), Value> {
        for number in self.forest.path(number) {
            let left = self.forest.left_of(number, apart);
            if left == 0 || requested > u128::from(left).max(had) {
                return Err(exhausted(
                    self.forest.thread(number),
                    self.forest.held(number, apart),
                    requested,
                ));
            }
        }
        Ok(())
    }

    fn hold(&mut self, name: Name<'_>, wanted: &Wanted) -> Result<Value, Value> {
        let (thread_id, request_id) = name;
        if let Some(place) = self.forest.find_hold(name) {
            return self.hold_again(place, wanted);
        }
        let mark = self.forest.find_mark(name);
        let made_for = mark.and_then(|mark| self.forest.mark_mut(mark).made_for.clone());
        let number = match mark.map(|(number, _)| number).or(self.forest.find(thread_id)) {
            Some(number) if mark.is_none() && self.remembers(number, request_id) => {
                return Ok(self.held(number, 0, true));
            }
            Some(number) => {
                self.check(number, wanted.least(), None, 0)?;
                let moved = made_for.is_some();
                if self.forest.thread(number).holds(moved).len() == thread::MAX_HOLDS {
                    return Err(json!({ "too-many-holds": thread::MAX_HOLDS }));
                }
                number
            }
            None => {
                self.check_room_for_one()?;
                if self.max_tokens == 0 || wanted.least() > u128::from(self.max_tokens) {
                    return Err(exhausted(&Thread::new(thread_id, 0, self.max_tokens), 0, wanted.least()));
                }
                self.get_or_create(thread_id)?
            }
        };
        let tokens = wanted.all().min(self.forest.left(number, None).into());
        let hold = wanted.granted(request_id, made_for, tokens);
        let completion_tokens = hold.completion_tokens;
        self.forest.thread_mut(number).holds.push(hold);
        Ok(self.held(number, completion_tokens, false))
    }

    fn hold_again(&mut self, place: Place, wanted: &Wanted) -> Result<Value, Value> {
        let (number, _) = place;
        let old = self.forest.hold_mut(place).clone();
        let mut tokens = wanted.all();
        if tokens > old.tokens() {
            self.check(number, wanted.least(), Some(place), old.tokens())?;
            let left = self.forest.left(number, Some(place));
            tokens = tokens.min(u128::from(left).max(old.tokens()));
        }
        let mut new = wanted.granted(&old.request_id, old.made_for, tokens);
        new.completion_before = if new.completion_tokens > old.completion_tokens {
            old.completion_tokens
        } else {
            old.completion_before.min(new.completion_tokens)
        };
        let completion_tokens = new.completion_tokens;
        *self.forest.hold_mut(place) = new;
        Ok(self.held(number, completion_tokens, false))
    }

    fn held(&self, number: usize, completion_tokens: u64, repeated: bool) -> Value {
        let thread = self.forest.thread(number);
        returned(json!({
            "completion_tokens": completion_tokens,
            "usage": thread.usage(),
            "room": self.forest.left(number, None),
            "severity": thread.severity(),
            "runway": self.runway(number),
            "pending": self.pending(number),
            "repeated": repeated,
        }))
    }

    fn pending(&self, number: usize) -> Vec<Value> {
        let thread = self.forest.thread(number);
        let pending = |threshold: &&Threshold| thread.pending_thresholds.contains(&threshold.percent);
        let pending = thread.triggered_thresholds.iter().filter(pending);
        pending.map(|threshold| warning(self.crossed(number, *threshold))).collect()
    }

    fn runway(&self, number: usize) -> Option<u64> {
        self.forest.left(number, None).checked_div(self.forest.thread(number).average_tokens)
    }

    fn crossed(&self, number: usize, threshold: Threshold) -> Value {
        let thread = self.forest.thread(number);
        let tenths: f64 = format!("{:.1}", thread.percent_used()).parse().unwrap_or(f64::NAN);
        json!({
            "thread_id": thread.thread_id,
            "threshold_percent": threshold.percent,
            "severity": threshold.severity,
            "percent_used": tenths,
            "tokens_used": thread.total(),
            "tokens_remaining": thread.remaining(),
            "max_tokens": thread.max_tokens,
            "runway": self.runway(number),
        })
    }

    /// Report the thresholds that are reached and were not before.
    fn cross(&mut self, number: usize, thresholds: &BTreeMap<u32, Severity>) -> Vec<Value> {
        let mut crossed = Vec::new();
        for (&percent, &severity) in thresholds {
            let (threshold, thread) = (Threshold { percent, severity }, self.forest.thread_mut(number));
            if thread.reaches(percent) && thread.trigger(threshold) {
                crossed.push(self.crossed(number, threshold));
            }
        }
        crossed
    }

    fn add(&mut self, number: usize, (prompt_tokens, completion_tokens): Used) -> Value {
        let path = self.forest.path(number);
        for number in &path {
            self.forest.thread_mut(*number).add(prompt_tokens, completion_tokens);
        }
        let thresholds = self.thresholds.clone();
        let crossed = path.iter().flat_map(|number| self.cross(*number, &thresholds)).collect();
        self.consumed(number, crossed, false)
    }

    fn record(&mut self, number: usize, used: Used) -> Value {
        for number in self.forest.path(number) {
            self.forest.thread_mut(number).count(used.0.saturating_add(used.1));
        }
        self.add(number, used)
    }

    fn consumed(&self, number: usize, crossed: Vec<Value>, repeated: bool) -> Value {
        let thread = self.forest.thread(number);
        returned(json!({
            "usage": thread.usage(),
            "room": self.forest.left(number, None),
            "severity": thread.severity(),
            "crossed": crossed,
            "repeated": repeated,
        }))
    }

    fn settle(&mut self, name: Name<'_>, remember: bool, used: Used) -> Outcome {
        let (thread_id, request_id) = name;
        let (hold, mark) = (self.forest.find_hold(name), self.forest.find_mark(name));
        let Some((number, _)) = hold.or(mark) else {
            if let Some(number) = self.remembering(name) {
                return Ok(self.consumed(number, Vec::new(), true));
            }
            if !remember {
                return Err(json!("unknown-hold"));
            }
            let number = self.get_or_create(thread_id)?;
            self.forest.thread_mut(number).remember(request_id);
            return Ok(self.record(number, used));
        };
        let held_for = hold.map(|place| self.forest.take_hold(place).made_for);
        let marked_for = mark.map(|place| self.forest.mark_mut(place).made_for.clone());
        let made_for = held_for.or(marked_for).flatten();
        if remember && made_for.is_none() {
            self.forest.thread_mut(number).remember(request_id);
        }
        if let Some(mark) = mark {
            let more = raise(self.forest.mark_mut(mark), used);
            if !remember || made_for.is_none() {
                self.forest.take_mark(mark);
            }
            return Ok(self.add(number, more));
        }
        if remember && made_for.is_some() {
            self.leave_mark(number, made_for, request_id, used);
        }
        Ok(self.record(number, used))
    }

    fn settle_lost(&mut self, name: Name<'_>, used: Used) -> Outcome {
        if let Some(place) = self.forest.find_hold(name) {
            return Ok(self.charge_lost(place, used, true));
        }
        let marked = self.forest.find_mark(name).map(|(number, _)| number);
        let number = marked.or(self.remembering(name)).ok_or_else(|| json!("unknown-hold"))?;
        Ok(self.consumed(number, Vec::new(), true))
    }

    /// End a hold, and count what may have been used or, beside a mark, what is more.
    fn charge_lost(&mut self, place: Place, used: Used, leaves_mark: bool) -> Value {
        let (number, at) = place;
        let mark = self.forest.find_mark(self.forest.thread(number).held_names()[at]);
        let hold = self.forest.take_hold(place);
        if let Some(mark) = mark {
            let more = raise(self.forest.mark_mut(mark), used);
            return self.add(number, more);
        }
        if leaves_mark {
            self.leave_mark(number, hold.made_for, &hold.request_id, used);
        }
        self.record(number, used)
    }

    /// Charge the oldest holds beyond those that may have moved to a thread, at what they hold.
    fn charge_excess(&mut self, number: usize) {
        loop {
            let moved = self.forest.thread(number).holds(true);
            if moved.len() <= thread::MAX_HOLDS {
                return;
            }
            let place = (number, moved[0]);
            let hold = self.forest.hold_mut(place);
            let used = (hold.prompt_tokens, hold.completion_tokens);
            self.charge_lost(place, used, false);
        }
    }

    fn leave_mark(&mut self, number: usize, made_for: Option<String>, request_id: &str, used: Used) {
        let (prompt_tokens, completion_tokens) = used;
        let mark = Mark { made_for, request_id: request_id.into(), prompt_tokens, completion_tokens };
        self.forest.thread_mut(number).leave_mark(mark);
    }

    fn remembers(&self, number: usize, request_id: &str) -> bool {
        self.forest.thread(number).request_ids.iter().any(|known| known == request_id)
    }

    /// The thread, when it remembers the request.
    fn remembering(&self, (thread_id, request_id): Name<'_>) -> Option<usize> {
        self.forest.find(thread_id).filter(|number| self.remembers(*number, request_id))
    }

    fn consume_batch(&mut self, entries: &[UsageEntry]) -> Outcome {
        if entries.len() > 4_096 {
            return Err(json!({ "batch-too-large": 4_096 }));
        }
        entries.iter().try_for_each(|entry| check_thread_id(&entry.thread_id))?;
        let before = (self.forest.present(), self.next_birth);
        for entry in entries {
            if let Err(error) = self.get_or_create(&entry.thread_id) {
                self.forest.forget_since(before.0);
                self.next_birth = before.1;
                return Err(error);
            }
        }
        let mut crossed = Vec::new();
        for entry in entries {
            let number = self.get_or_create(&entry.thread_id)?;
            let consumed = self.record(number, (entry.prompt_tokens, entry.completion_tokens));
            crossed.extend(consumed["crossed"].as_array().cloned().unwrap_or_default());
        }
        Ok(crossed.into())
    }

    fn take_changes(&mut self, limit: usize) -> Value {
        let now: BTreeMap<_, _> =
            self.forest.all().map(|thread| (thread.thread_id.clone(), thread.clone())).collect();
        let told = self.told.get_or_insert_with(|| now.clone());
        let limit = limit.min(4_096);
        let changed: Vec<_> =
            now.values().filter(|thread| told.get(&thread.thread_id) != Some(thread)).collect();
        let changed = &changed[..limit.min(changed.len())];
        let gone: Vec<_> = told.keys().filter(|id| !now.contains_key(*id)).cloned().collect();
        let gone = &gone[..(limit - changed.len()).min(gone.len())];
        told.extend(changed.iter().map(|thread| (thread.thread_id.clone(), (*thread).clone())));
        told.retain(|id, _| !gone.contains(id));
        returned(json!({ "changed": changed, "gone": gone }))
    }

    fn drop_tree(&mut self, thread_id: &str) -> bool {
        let gone = self.forest.drop_tree(thread_id);
        if let Some(told) = &mut self.told {
            told.retain(|id, _| !gone.contains(id));
        }
        !gone.is_empty()
    }

    fn restore(&mut self, states: Vec<Thread>) -> Outcome {
        let before = self.forest.present();
        let restored: Vec<_> = states.iter().map(|state| (state.thread_id.clone(), state.clone())).collect();
        let mut least_birth = self.least_birth;
        for state in states {
            least_birth = least_birth.max(state.birth.saturating_add(1));
            if let Err(error) = self.restore_one(state) {
                self.forest.forget_since(before);
                return Err(error);
            }
        }
        self.least_birth = least_birth;
        self.next_birth = self.next_birth.max(least_birth);
        if let Some(told) = &mut self.told {
            told.extend(restored);
        }
        Ok(Value::Null)
    }

    fn restore_one(&mut self, state: Thread) -> Result<(), Value> {
        check_thread_id(&state.thread_id)?;
        if self.forest.find(&state.thread_id).is_some() || !state.is_possible() {
            return Err(json!("invalid-state"));
        }
        if let Some(parent) = &state.parent {
            self.forest.check_parent(&state.thread_id, parent)?;
        }
        self.check_room_for_one()?;
        self.forest.put(state);
        if self.forest.is_possible() { Ok(()) } else { Err(json!("invalid-state")) }
    }

    fn keep(&mut self, call: &Call, number: usize) -> Outcome {
        self.handles.insert(call.text("as").into(), number);
        Ok(Value::Null)
    }

    fn on(&self, call: &Call) -> usize {
        let name = call.text("on");
        *self.handles.get(name).unwrap_or_else(|| panic!("no handle {name}"))
    }
}

impl Subject for Model {
    fn call(&mut self, call: &Call) -> Outcome {
        let find = |model: &Self| model.forest.find(call.text("thread_id"));
        let used = || (call.get("prompt_tokens"), call.get("completion_tokens"));
        match &*call.name {
            "configure" => {
                self.max_tokens = call.get("max_tokens_per_thread");
                Ok(Value::Null)
            }
            "max-tokens-per-thread" => Ok(returned(self.max_tokens)),
            "set-thresholds" => {
                let mut new = BTreeMap::new();
                for Threshold { percent, severity } in call.get::<Vec<_>>("thresholds") {
                    if !(1..=100).contains(&percent) || new.insert(percent, severity).is_some() {
                        return Err(json!({ "invalid-threshold": percent }));
                    }
                }
                self.thresholds = new;
                Ok(Value::Null)
            }
            "thresholds" => {
                let list = self.thresholds.iter();
                Ok(list.map(|(&percent, &severity)| json!(Threshold { percent, severity })).collect())
            }
            "set-max-threads" => {
                self.max_threads = call.get("max_threads");
                Ok(Value::Null)
            }
            "set-next-birth" => {
                self.next_birth = self.least_birth.max(call.get("birth"));
                Ok(Value::Null)
            }
            "get-budget" => {
                let number = self.get_or_create(call.text("thread_id"))?;
                self.keep(call, number)
            }
            "check-budget" => {
                let number = self.get_or_create(call.text("thread_id"))?;
                self.check(number, call.get::<u64>("estimated_tokens").into(), None, 0)?;
                Ok(Value::Null)
            }
            "consume" => {
                let number = self.get_or_create(call.text("thread_id"))?;
                Ok(self.record(number, used()))
            }
            "consume-batch" => self.consume_batch(&call.get::<Vec<_>>("entries")),
            "hold" => {
                let wanted = Wanted {
                    prompt_tokens: call.get("prompt_tokens"),
                    completion_tokens: call.get("completion_tokens"),
                    least_completion_tokens: call.get("least_completion_tokens"),
                    holder: call.get("holder"),
                    deadline: call.get("deadline"),
                };
                self.hold(checked_name(call)?, &wanted)
            }
            "settle" => self.settle(checked_name(call)?, call.get("remember"), used()),
            "settle-lost" => self.settle_lost(checked_name(call)?, used()),
            "release" => {
                let place = self.forest.find_hold(name(call));
                Ok(json!(place.map(|place| self.forest.take_hold(place)).is_some()))
            }
            "open-thread" => {
                let number = self.open(call.text("thread_id"), call.get("options"))?;
                self.keep(call, number)
            }
            "set-limit" => {
                let number = self.get_or_create(call.text("thread_id"))?;
                let thread = self.forest.thread_mut(number);
                thread.set_limit(call.get("max_tokens"));
                Ok(thread.usage())
            }
            "pending-warnings" => {
                Ok(returned(find(self).map_or_else(Vec::new, |number| self.pending(number))))
            }
            "acknowledge-warnings" => {
                if let Some(number) = find(self) {
                    let thread = self.forest.thread_mut(number);
                    let named: Vec<Acknowledgement> = call.get("acknowledgements");
                    let acknowledged = |percent: u32| {
                        named.iter().any(|one| {
                            (one.threshold_percent, one.max_tokens) == (percent, thread.max_tokens)
                        })
                    };
                    thread.pending_thresholds.retain(|percent| !acknowledged(*percent));
                }
                Ok(Value::Null)
            }
            "has-budget" => Ok(json!(find(self).is_some())),
            "get-usage" => Ok(find(self).map_or(Value::Null, |number| self.forest.thread(number).usage())),
            "get-all-usage" => {
                Ok(self.forest.all().map(|thread| json!([thread.thread_id, thread.usage()])).collect())
            }
            "held-tokens" => Ok(returned(find(self).map_or(0, |number| self.forest.held(number, None)))),
            "reset-thread" => {
                let (birth, ancestor) = (self.next_birth, self.forest.parent(call.text("thread_id")));
                if self.forest.reset(call.text("thread_id"), birth, self.max_tokens) {
                    self.born();
                }
                ancestor.into_iter().for_each(|ancestor| self.charge_excess(ancestor));
                Ok(Value::Null)
            }
            "cleanup-thread" => {
                let ancestor = self.forest.parent(call.text("thread_id"));
                let Some(thread) = self.forest.forget(call.text("thread_id")) else { return Ok(Value::Null) };
                ancestor.into_iter().for_each(|ancestor| self.charge_excess(ancestor));
                Ok(json!({
                    "usage": thread.usage(),
                    "percent_used": thread.percent_used(),
                    "triggered_thresholds": thread.triggered(),
                }))
            }
            "clear" => {
                self.forest.clear();
                Ok(Value::Null)
            }
            "snapshot" => {
                let states = self.forest.states();
                let ended = call.get::<Option<String>>("after").map(|after| {
                    states.iter().position(|state| state.thread_id == after).map_or(0, |at| at + 1)
                });
                let page = states.into_iter().skip(ended.unwrap_or(0)).take(call.get("limit"));
                Ok(returned(page.collect::<Vec<_>>()))
            }
            "restore" => self.restore(call.get("states")),
            "take-changes" => Ok(self.take_changes(call.get("limit"))),
            "drop-tree" => Ok(json!(self.drop_tree(call.text("thread_id")))),
            "thread-budget.thread-id" => Ok(json!(self.forest.thread(self.on(call)).thread_id)),
            "thread-budget.usage" => Ok(self.forest.thread(self.on(call)).usage()),
            "thread-budget.percent-used" => Ok(json!(self.forest.thread(self.on(call)).percent_used())),
            "thread-budget.is-exhausted" => {
                let thread = self.forest.thread(self.on(call));
                Ok(json!(thread.total() >= thread.max_tokens))
            }
            "thread-budget.held-tokens" => Ok(returned(self.forest.held(self.on(call), None))),
            "thread-budget.is-detached" => Ok(json!(self.forest.is_detached(self.on(call)))),
            "thread-budget.can-consume" => {
                let estimated_tokens = u128::from(call.get::<u64>("estimated_tokens"));
                let mut path = self.forest.path(self.on(call)).into_iter();
                Ok(json!(path.all(|number| {
                    let thread = self.forest.thread(number);
                    let taken = u128::from(thread.total()) + u128::from(self.forest.held(number, None));
                    taken + estimated_tokens <= u128::from(thread.max_tokens)
                })))
            }
            "thread-budget.consume" => Ok(self.record(self.on(call), used())),
            "thread-budget.triggered-thresholds" => Ok(json!(self.forest.thread(self.on(call)).triggered())),
            "thread-budget.check-thresholds" => {
                let thresholds = call.get::<Vec<Threshold>>("thresholds").into_iter();
                let thresholds =
                    thresholds.map(|threshold| (threshold.percent, threshold.severity)).collect();
                Ok(returned(self.cross(self.on(call), &thresholds)))
            }
            "budget-warning" => Ok(returned(warning(call.get("crossed")))),
            unknown => panic!("no call {unknown}"),
        }
    }
}

fn check_thread_id(thread_id: &str) -> Result<(), Value> {
    if thread::is_thread_id(thread_id) { Ok(()) } else { Err(json!("invalid-thread-id")) }
}

/// What names a hold.
fn name(call: &Call) -> Name<'_> {
    (call.text("thread_id"), call.text("request_id"))
}

fn checked_name(call: &Call) -> Result<Name<'_>, Value> {
    let (thread_id, request_id) = name(call);
    check_thread_id(thread_id)?;
    if thread::is_request_id(request_id) {
        Ok((thread_id, request_id))
    } else {
        Err(json!("invalid-request-id"))
    }
}

fn exhausted(thread: &Thread, held: u64, requested: u128) -> Value {
    json!({ "exhausted": returned(json!({
        "thread_id": thread.thread_id,
        "used": thread.total(),
        "held": held,
        "max_tokens": thread.max_tokens,
        "requested": u64::try_from(requested).unwrap_or(u64::MAX),
    }))})
}

/// Make it say these numbers where they are larger. Returns what is more.
fn raise(mark: &mut Mark, (prompt_tokens, completion_tokens): Used) -> Used {
    let more = (
        prompt_tokens.saturating_sub(mark.prompt_tokens),
        completion_tokens.saturating_sub(mark.completion_tokens),
    );
    mark.prompt_tokens += more.0;
    mark.completion_tokens += more.1;
    more
}

/// The warning of a crossing: the same fields, and a message.
fn warning(mut crossed: Value) -> Value {
    let Crossed { severity, percent_used, tokens_remaining } =
        Crossed::deserialize(&crossed).unwrap_or_else(|error| panic!("{crossed}: {error}"));
    crossed["message"] = message(severity, percent_used, tokens_remaining).into();
    crossed
}

fn message(severity: Severity, percent_used: f64, tokens_remaining: u64) -> String {
    let (opening, advice) = match severity {
        Severity::Warning => ("Note: ", ""),
        Severity::Critical => {
            ("WARNING: ", " Consider wrapping up: finish the current step, summarise, or hand over.")
        }
        Severity::Final => {
            ("CRITICAL: ", " The next request may fail: give your answer or save your state now.")
        }
    };
    let percent = grouped(&format!("{percent_used:.0}"));
    let left = grouped(&tokens_remaining.to_string());
    format!("{opening}{percent}% of the token budget is used, {left} tokens are left.{advice}")
}

fn grouped(digits: &str) -> String {
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    groups.join(",")
}
