//! The contract as one would first write it down: nothing fast, nothing shared with the core.

mod budget;
mod forest;

use crate::call::{Call, Outcome, returned};
use crate::subject::Subject;
use budget::Budget;
use forest::Forest;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use thread_budget_host::{BudgetWarning, Severity, ThreadOptions, Threshold, ThresholdCrossed};

/// A registry after the reference class, but for exact thresholds and what the contract adds.
pub struct Model {
    max_tokens: u64,
    max_threads: u32,
    thresholds: BTreeMap<u32, Severity>,
    forest: Forest,
    /// Numbers of budgets.
    handles: HashMap<String, usize>,
    reservations: HashMap<String, Reservation>,
}

struct Reservation {
    tokens: u64,
    /// The budgets it was made on, nearest first.
    path: Vec<usize>,
}

impl Default for Model {
    fn default() -> Self {
        use Severity::{Critical, Final, Warning};
        Self {
            max_tokens: 100_000,
            max_threads: u32::MAX,
            thresholds: BTreeMap::from([(75, Warning), (90, Critical), (95, Final)]),
            forest: Forest::default(),
            handles: HashMap::new(),
            reservations: HashMap::new(),
        }
    }
}

impl Model {
    pub(crate) fn thread_ids(&self) -> Vec<String> {
        self.forest.all().map(|budget| budget.thread_id.clone()).collect()
    }

    fn get_or_create(&mut self, thread_id: &str) -> Result<usize, Value> {
        if let Some(number) = self.forest.find(thread_id) {
            return Ok(number);
        }
        check_id(thread_id)?;
        check_room(self.forest.len(), self.max_threads)?;
        Ok(self.forest.put(Budget::new(thread_id, self.max_tokens)))
    }

    fn open(&mut self, thread_id: &str, options: &ThreadOptions) -> Result<usize, Value> {
        check_id(thread_id)?;
        if let Some(parent) = &options.parent {
            self.forest.check_parent(thread_id, parent)?;
        }
        if let Some(number) = self.forest.find(thread_id) {
            let budget = self.forest.budget(number);
            let other_limit = options.max_tokens.is_some_and(|limit| limit != budget.max_tokens);
            let other_parent = options.parent.is_some() && options.parent != budget.parent;
            if other_limit || other_parent {
                return Err(json!({ "options-differ": thread_id }));
            }
            return Ok(number);
        }
        check_room(self.forest.len(), self.max_threads)?;
        Ok(self.forest.put(Budget {
            parent: options.parent.clone(),
            opened: options.max_tokens.is_some() || options.parent.is_some(),
            ..Budget::new(thread_id, options.max_tokens.unwrap_or(self.max_tokens))
        }))
    }

    fn held(&self, number: usize) -> u64 {
        let here = self.reservations.values().filter(|reservation| reservation.path.contains(&number));
        here.map(|reservation| reservation.tokens).sum()
    }

    fn check(&self, number: usize, estimated_tokens: u64) -> Result<(), Value> {
        for number in self.forest.path(number) {
            let (budget, held) = (self.forest.budget(number), self.held(number));
            if budget.is_exhausted(held) || !budget.fits(held, estimated_tokens) {
                return Err(json!({ "exhausted": returned(json!({
                    "thread_id": budget.thread_id,
                    "used": budget.total(),
                    "max_tokens": budget.max_tokens,
                    "requested": estimated_tokens,
                }))}));
            }
        }
        Ok(())
    }

    /// Record on these budgets. Returns the usage of the first.
    fn record(&mut self, path: &[usize], prompt_tokens: u64, completion_tokens: u64) -> Value {
        let mut crossed = Vec::new();
        for number in path {
            let budget = self.forest.budget_mut(*number);
            budget.record(prompt_tokens, completion_tokens);
            crossed.append(&mut budget.cross(&self.thresholds));
        }
        self.consumed(path[0], &crossed, false)
    }

    fn consumed(&self, number: usize, crossed: &[ThresholdCrossed], repeated: bool) -> Value {
        let usage = self.forest.budget(number).usage();
        json!({ "usage": usage, "crossed": returned(crossed), "repeated": repeated })
    }

    fn consume(&mut self, number: usize, prompt_tokens: u64, completion_tokens: u64) -> Value {
        let path = self.forest.path(number);
        self.record(&path, prompt_tokens, completion_tokens)
    }

    fn commit(&mut self, name: &str, prompt_tokens: u64, completion_tokens: u64) -> Value {
        let charged = self.charged(name);
        let Reservation { path, .. } = self.reservations.remove(name).unwrap_or_else(|| panic!("{name}"));
        let forgotten = path.into_iter().take_while(|number| self.forest.is_detached(*number));
        let still_there = charged.map_or_else(Vec::new, |number| self.forest.path(number));
        let path: Vec<_> = forgotten.chain(still_there).collect();
        self.record(&path, prompt_tokens, completion_tokens)
    }

    fn charged(&self, name: &str) -> Option<usize> {
        self.reservation(name).path.iter().copied().find(|number| !self.forest.is_detached(*number))
    }

    fn reservation(&self, name: &str) -> &Reservation {
        self.reservations.get(name).unwrap_or_else(|| panic!("no reservation {name}"))
    }

    fn number(&self, handle: &str) -> usize {
        *self.handles.get(handle).unwrap_or_else(|| panic!("no handle {handle}"))
    }

    fn on(&self, handle: &str) -> &Budget {
        self.forest.budget(self.number(handle))
    }
}

impl Subject for Model {
    fn call(&mut self, call: &Call) -> Outcome {
        match call {
            Call::Configure { max_tokens_per_thread } => {
                self.max_tokens = *max_tokens_per_thread;
                Ok(Value::Null)
            }
            Call::MaxTokensPerThread {} => Ok(returned(self.max_tokens)),
            Call::SetThresholds { thresholds } => {
                let mut new = BTreeMap::new();
                for Threshold { percent, severity } in thresholds {
                    if *percent < 1 || *percent > 100 || new.insert(*percent, *severity).is_some() {
                        return Err(json!({ "invalid-threshold": percent }));
                    }
                }
                self.thresholds = new;
                Ok(Value::Null)
            }
            Call::Thresholds {} => {
                let list = self.thresholds.iter();
                Ok(list
                    .map(|(percent, severity)| json!({ "percent": percent, "severity": severity }))
                    .collect())
            }
            Call::SetMaxThreads { max_threads } => {
                self.max_threads = *max_threads;
                Ok(Value::Null)
            }
            Call::GetBudget { thread_id, r#as } => {
                let number = self.get_or_create(thread_id)?;
                self.handles.insert(r#as.clone(), number);
                Ok(Value::Null)
            }
            Call::OpenThread { thread_id, options, r#as } => {
                let number = self.open(thread_id, options)?;
                self.handles.insert(r#as.clone(), number);
                Ok(Value::Null)
            }
            Call::SetLimit { thread_id, max_tokens } => {
                let number = self.get_or_create(thread_id)?;
                let budget = self.forest.budget_mut(number);
                budget.set_limit(*max_tokens);
                Ok(budget.usage())
            }
            Call::CheckBudget { thread_id, estimated_tokens } => {
                let number = self.get_or_create(thread_id)?;
                self.check(number, *estimated_tokens)?;
                Ok(Value::Null)
            }
            Call::Reserve { thread_id, estimated_tokens, r#as } => {
                let number = self.get_or_create(thread_id)?;
                self.check(number, *estimated_tokens)?;
                let reservation = Reservation { tokens: *estimated_tokens, path: self.forest.path(number) };
                self.reservations.insert(r#as.clone(), reservation);
                Ok(Value::Null)
            }
            Call::Consume { thread_id, prompt_tokens, completion_tokens } => {
                let number = self.get_or_create(thread_id)?;
                Ok(self.consume(number, *prompt_tokens, *completion_tokens))
            }
            Call::ConsumeOnce { thread_id, request_id, prompt_tokens, completion_tokens } => {
                check_id(thread_id)?;
                if request_id.is_empty() || request_id.len() > 256 {
                    return Err(json!("invalid-request-id"));
                }
                let number = self.get_or_create(thread_id)?;
                let budget = self.forest.budget_mut(number);
                if budget.remembers(request_id) {
                    return Ok(self.consumed(number, &[], true));
                }
                budget.requests.push(request_id.clone());
                Ok(self.consume(number, *prompt_tokens, *completion_tokens))
            }
            Call::ConsumeBatch { entries } => {
                if entries.len() > 4_096 {
                    return Err(json!({ "batch-too-large": 4_096 }));
                }
                entries.iter().try_for_each(|entry| check_id(&entry.thread_id))?;
                let mut created: Vec<&str> = Vec::new();
                for entry in entries {
                    let existed = self.forest.find(&entry.thread_id).is_some();
                    if let Err(error) = self.get_or_create(&entry.thread_id) {
                        for thread_id in created {
                            self.forest.forget(thread_id);
                        }
                        return Err(error);
                    }
                    if !existed {
                        created.push(&entry.thread_id);
                    }
                }
                let mut crossed = Vec::new();
                for entry in entries {
                    let number = self.get_or_create(&entry.thread_id)?;
                    let consumed = self.consume(number, entry.prompt_tokens, entry.completion_tokens);
                    crossed.extend(consumed["crossed"].as_array().cloned().unwrap_or_default());
                }
                Ok(Value::Array(crossed))
            }
            Call::TakeWarnings { thread_id } => {
                let number = self.forest.find(thread_id);
                Ok(number.map_or_else(
                    || json!([]),
                    |number| returned(self.forest.budget_mut(number).take_warnings()),
                ))
            }
            Call::HeldTokens { thread_id } => {
                Ok(returned(self.forest.find(thread_id).map_or(0, |number| self.held(number))))
            }
            Call::HasBudget { thread_id } => Ok(json!(self.forest.find(thread_id).is_some())),
            Call::GetUsage { thread_id } => {
                let number = self.forest.find(thread_id);
                Ok(number.map_or(Value::Null, |number| self.forest.budget(number).usage()))
            }
            Call::GetAllUsage {} => {
                Ok(self.forest.all().map(|budget| json!([budget.thread_id, budget.usage()])).collect())
            }
            Call::ResetThread { thread_id } => {
                self.forest.reset(thread_id, self.max_tokens);
                Ok(Value::Null)
            }
            Call::CleanupThread { thread_id } => {
                Ok(self.forest.forget(thread_id).map_or(Value::Null, |budget| {
                    json!({
                        "usage": budget.usage(),
                        "percent_used": budget.percent_used(),
                        "triggered_thresholds": budget.triggered,
                    })
                }))
            }
            Call::Clear {} => {
                self.forest.clear();
                Ok(Value::Null)
            }
            Call::Snapshot { after, limit } => {
                let states = self.forest.states();
                let ended = after.as_ref().map(|after| {
                    states.iter().position(|state| state.thread_id == *after).map_or(0, |at| at + 1)
                });
                let page = states.into_iter().skip(ended.unwrap_or(0)).take(*limit as usize);
                Ok(returned(page.collect::<Vec<_>>()))
            }
            Call::Restore { states } => {
                self.forest.restore(states, self.max_threads)?;
                Ok(Value::Null)
            }
            Call::ReservationTokens { on } => Ok(returned(self.reservation(on).tokens)),
            Call::ReservationChargedThread { on } => {
                Ok(json!(self.charged(on).map(|number| &self.forest.budget(number).thread_id)))
            }
            Call::ReservationCommit { on, prompt_tokens, completion_tokens } => {
                Ok(self.commit(on, *prompt_tokens, *completion_tokens))
            }
            Call::ReservationDrop { on } => {
                self.reservations.remove(on);
                Ok(Value::Null)
            }
            Call::BudgetThreadId { on } => Ok(json!(self.on(on).thread_id)),
            Call::BudgetUsage { on } => Ok(self.on(on).usage()),
            Call::BudgetPercentUsed { on } => Ok(json!(self.on(on).percent_used())),
            Call::BudgetIsExhausted { on } => Ok(json!(self.on(on).is_exhausted(0))),
            Call::BudgetHeldTokens { on } => Ok(returned(self.held(self.number(on)))),
            Call::BudgetIsDetached { on } => Ok(json!(self.forest.is_detached(self.number(on)))),
            Call::BudgetCanConsume { on, estimated_tokens } => {
                let mut path = self.forest.path(self.number(on)).into_iter();
                Ok(json!(
                    path.all(|number| {
                        self.forest.budget(number).fits(self.held(number), *estimated_tokens)
                    })
                ))
            }
            Call::BudgetConsume { on, prompt_tokens, completion_tokens } => {
                Ok(self.consume(self.number(on), *prompt_tokens, *completion_tokens))
            }
            Call::BudgetTriggeredThresholds { on } => Ok(json!(self.on(on).triggered)),
            Call::BudgetCheckThresholds { on, thresholds } => {
                let in_range = thresholds.iter().filter(|threshold| (1..=100).contains(&threshold.percent));
                let thresholds = in_range.map(|threshold| (threshold.percent, threshold.severity)).collect();
                let number = self.number(on);
                Ok(returned(self.forest.budget_mut(number).cross(&thresholds)))
            }
            Call::BudgetWarning { crossed } => Ok(returned(warning(crossed))),
        }
    }
}

fn check_id(thread_id: &str) -> Result<(), Value> {
    if thread_id.is_empty() || thread_id.len() > 1_024 { Err(json!("invalid-thread-id")) } else { Ok(()) }
}

/// Whether there may be one more thread.
fn check_room(threads: usize, max_threads: u32) -> Result<(), Value> {
    if threads < max_threads as usize { Ok(()) } else { Err(json!({ "too-many-threads": max_threads })) }
}

fn warning(crossed: &ThresholdCrossed) -> BudgetWarning {
    BudgetWarning {
        percent_used: crossed.percent_used,
        tokens_used: crossed.tokens_used,
        tokens_remaining: crossed.tokens_remaining,
        max_tokens: crossed.max_tokens,
        severity: crossed.severity,
        message: message(crossed.severity, crossed.percent_used, crossed.tokens_remaining),
    }
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
