//! The contract as one would first write it down: nothing fast, nothing shared with the core.

use crate::call::{Call, Outcome, returned};
use crate::subject::Subject;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use thread_budget_host::{BudgetWarning, Severity, Threshold, ThresholdCrossed};

/// A registry after the reference class, but for exact thresholds and the limits of the contract.
pub struct Model {
    max_tokens: u64,
    max_threads: u32,
    thresholds: BTreeMap<u32, Severity>,
    budgets: HashMap<String, Rc<RefCell<Budget>>>,
    handles: HashMap<String, Rc<RefCell<Budget>>>,
}

#[derive(Clone)]
struct Budget {
    thread_id: String,
    max_tokens: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    request_count: u64,
    triggered: BTreeSet<u32>,
}

impl Default for Model {
    fn default() -> Self {
        use Severity::{Critical, Final, Warning};
        Self {
            max_tokens: 100_000,
            max_threads: u32::MAX,
            thresholds: BTreeMap::from([(75, Warning), (90, Critical), (95, Final)]),
            budgets: HashMap::new(),
            handles: HashMap::new(),
        }
    }
}

impl Budget {
    fn total(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }

    fn percent_used(&self) -> f64 {
        if self.max_tokens == 0 { 0.0 } else { self.total() as f64 / self.max_tokens as f64 * 100.0 }
    }

    fn can_consume(&self, estimated_tokens: u64) -> bool {
        u128::from(self.total()) + u128::from(estimated_tokens) <= u128::from(self.max_tokens)
    }

    fn is_exhausted(&self) -> bool {
        self.total() >= self.max_tokens
    }

    fn usage(&self) -> Value {
        returned(json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total(),
            "remaining": self.max_tokens.saturating_sub(self.total()),
            "max_tokens": self.max_tokens,
            "request_count": self.request_count,
        }))
    }

    fn consume(
        &mut self,
        prompt_tokens: u64,
        completion_tokens: u64,
        thresholds: &BTreeMap<u32, Severity>,
    ) -> Value {
        self.prompt_tokens = self.prompt_tokens.saturating_add(prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(completion_tokens);
        self.request_count += 1;
        let crossed = self.check_thresholds(thresholds);
        json!({ "usage": self.usage(), "crossed": crossed })
    }

    fn check_thresholds(&mut self, thresholds: &BTreeMap<u32, Severity>) -> Value {
        let mut crossed = Vec::new();
        for (&percent, &severity) in thresholds {
            let reached = u128::from(self.total()) * 100 >= u128::from(percent) * u128::from(self.max_tokens);
            if self.max_tokens > 0 && reached && self.triggered.insert(percent) {
                crossed.push(ThresholdCrossed {
                    thread_id: self.thread_id.clone(),
                    threshold_percent: percent,
                    severity,
                    percent_used: format!("{:.1}", self.percent_used()).parse().unwrap_or(f64::NAN),
                    tokens_used: self.total(),
                    tokens_remaining: self.max_tokens.saturating_sub(self.total()),
                    max_tokens: self.max_tokens,
                });
            }
        }
        returned(crossed)
    }
}

impl Model {
    fn get_budget(&mut self, thread_id: &str) -> Result<Rc<RefCell<Budget>>, Value> {
        if let Some(budget) = self.budgets.get(thread_id) {
            return Ok(budget.clone());
        }
        if thread_id.is_empty() || thread_id.len() > 1_024 {
            return Err(json!("invalid-thread-id"));
        }
        if self.budgets.len() as u64 >= u64::from(self.max_threads) {
            return Err(json!({ "too-many-threads": self.max_threads }));
        }
        let budget = Rc::new(RefCell::new(Budget {
            thread_id: thread_id.into(),
            max_tokens: self.max_tokens,
            prompt_tokens: 0,
            completion_tokens: 0,
            request_count: 0,
            triggered: BTreeSet::new(),
        }));
        self.budgets.insert(thread_id.into(), budget.clone());
        Ok(budget)
    }

    fn on(&self, handle: &str) -> std::cell::RefMut<'_, Budget> {
        self.handles.get(handle).unwrap_or_else(|| panic!("no handle {handle}")).borrow_mut()
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
                let budget = self.get_budget(thread_id)?;
                self.handles.insert(r#as.clone(), budget);
                Ok(Value::Null)
            }
            Call::CheckBudget { thread_id, estimated_tokens } => {
                let budget = self.get_budget(thread_id)?;
                let budget = budget.borrow();
                if budget.is_exhausted() || !budget.can_consume(*estimated_tokens) {
                    return Err(json!({ "exhausted": returned(json!({
                        "thread_id": thread_id,
                        "used": budget.total(),
                        "max_tokens": budget.max_tokens,
                        "requested": estimated_tokens,
                    }))}));
                }
                Ok(Value::Null)
            }
            Call::Consume { thread_id, prompt_tokens, completion_tokens } => {
                let budget = self.get_budget(thread_id)?;
                Ok(budget.borrow_mut().consume(*prompt_tokens, *completion_tokens, &self.thresholds))
            }
            Call::HasBudget { thread_id } => Ok(json!(self.budgets.contains_key(thread_id))),
            Call::GetUsage { thread_id } => {
                Ok(self.budgets.get(thread_id).map_or(Value::Null, |budget| budget.borrow().usage()))
            }
            Call::GetAllUsage {} => {
                let sorted: BTreeMap<_, _> = self.budgets.iter().collect();
                Ok(sorted.into_iter().map(|(id, budget)| json!([id, budget.borrow().usage()])).collect())
            }
            Call::ResetThread { thread_id } => {
                self.budgets.remove(thread_id);
                Ok(Value::Null)
            }
            Call::CleanupThread { thread_id } => {
                Ok(self.budgets.remove(thread_id).map_or(Value::Null, |budget| {
                    let budget = budget.borrow();
                    json!({
                        "usage": budget.usage(),
                        "percent_used": budget.percent_used(),
                        "triggered_thresholds": budget.triggered,
                    })
                }))
            }
            Call::Clear {} => {
                self.budgets.clear();
                Ok(Value::Null)
            }
            Call::BudgetThreadId { on } => Ok(json!(self.on(on).thread_id)),
            Call::BudgetUsage { on } => Ok(self.on(on).usage()),
            Call::BudgetPercentUsed { on } => Ok(json!(self.on(on).percent_used())),
            Call::BudgetIsExhausted { on } => Ok(json!(self.on(on).is_exhausted())),
            Call::BudgetCanConsume { on, estimated_tokens } => {
                Ok(json!(self.on(on).can_consume(*estimated_tokens)))
            }
            Call::BudgetConsume { on, prompt_tokens, completion_tokens } => {
                Ok(self.on(on).consume(*prompt_tokens, *completion_tokens, &self.thresholds))
            }
            Call::BudgetTriggeredThresholds { on } => Ok(json!(self.on(on).triggered)),
            Call::BudgetCheckThresholds { on, thresholds } => {
                let in_range = thresholds.iter().filter(|threshold| (1..=100).contains(&threshold.percent));
                let thresholds = in_range.map(|threshold| (threshold.percent, threshold.severity)).collect();
                Ok(self.on(on).check_thresholds(&thresholds))
            }
            Call::BudgetWarning { crossed } => Ok(returned(BudgetWarning {
                percent_used: crossed.percent_used,
                tokens_used: crossed.tokens_used,
                tokens_remaining: crossed.tokens_remaining,
                max_tokens: crossed.max_tokens,
                severity: crossed.severity,
                message: message(crossed.severity, crossed.percent_used, crossed.tokens_remaining),
            })),
        }
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
