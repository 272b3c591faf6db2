//! The core, natively.

// A call without a result returns null, as any other returns its value.
#![allow(clippy::unit_arg)]

use super::Subject;
use crate::call::{Acknowledgement, Call, Outcome, ThreadOptions, UsageEntry, returned};
use serde_json::{Value, json};
use std::collections::HashMap;
use thread_budget_core::{
    BudgetWarning, InvalidThreshold, Registry, RegistryError, ThreadBudget, Threshold, ThresholdCrossed,
    Thresholds, Wanted,
};

/// The core, natively.
#[derive(Default)]
pub struct Core {
    registry: Registry,
    handles: HashMap<String, ThreadBudget>,
}

impl Core {
    fn keep(&mut self, call: &Call, budget: ThreadBudget) -> Value {
        self.handles.insert(call.text("as").into(), budget);
        Value::Null
    }

    fn on(&self, call: &Call) -> &ThreadBudget {
        let name = call.text("on");
        self.handles.get(name).unwrap_or_else(|| panic!("no handle {name}"))
    }

    fn make(&mut self, call: &Call) -> Result<Value, RegistryError> {
        let registry = &mut self.registry;
        let thread_id = || call.text("thread_id");
        let names = || (call.text("thread_id"), call.text("request_id"));
        let used = || (call.get("prompt_tokens"), call.get("completion_tokens"));
        let estimated_tokens = || call.get("estimated_tokens");
        Ok(match &*call.name {
            "configure" => returned(registry.configure(call.get("max_tokens_per_thread"))),
            "max-tokens-per-thread" => returned(registry.max_tokens_per_thread()),
            "set-thresholds" => returned(registry.set_thresholds(call.get::<Vec<_>>("thresholds"))?),
            "thresholds" => returned(registry.thresholds().iter().collect::<Vec<_>>()),
            "set-max-threads" => returned(registry.set_max_threads(call.get("max_threads"))),
            "set-next-birth" => returned(registry.set_next_birth(call.get("birth"))),
            "get-budget" => {
                let budget = registry.get_budget(thread_id())?;
                self.keep(call, budget)
            }
            "check-budget" => returned(registry.check_budget(thread_id(), estimated_tokens())?),
            "consume" => returned(registry.consume(thread_id(), used().0, used().1)?),
            "consume-batch" => {
                let entries: Vec<UsageEntry> = call.get("entries");
                let entries = entries
                    .iter()
                    .map(|entry| (&*entry.thread_id, entry.prompt_tokens, entry.completion_tokens));
                returned(registry.consume_batch(entries, 0)?)
            }
            "hold" => {
                let wanted = Wanted {
                    prompt_tokens: call.get("prompt_tokens"),
                    completion_tokens: call.get("completion_tokens"),
                    least_completion_tokens: call.get("least_completion_tokens"),
                    holder: call.get("holder"),
                    deadline: call.get("deadline"),
                };
                returned(registry.hold(names().0, names().1, wanted)?)
            }
            "settle" => {
                let remember = call.get("remember");
                returned(registry.settle(names().0, names().1, used().0, used().1, remember)?)
            }
            "settle-lost" => returned(registry.settle_lost(names().0, names().1, used().0, used().1)?),
            "release" => returned(registry.release(names().0, names().1)),
            "open-thread" => {
                let ThreadOptions { max_tokens, parent } = call.get("options");
                let budget = registry.open_thread(thread_id(), max_tokens, parent.as_deref())?;
                self.keep(call, budget)
            }
            "set-limit" => returned(registry.set_limit(thread_id(), call.get("max_tokens"))?),
            "pending-warnings" => returned(registry.pending_warnings(thread_id())),
            "acknowledge-warnings" => {
                let acknowledged: Vec<Acknowledgement> = call.get("acknowledgements");
                let acknowledged = acknowledged.iter().map(|one| (one.threshold_percent, one.max_tokens));
                returned(registry.acknowledge_warnings(thread_id(), acknowledged))
            }
            "has-budget" => returned(registry.has_budget(thread_id())),
            "get-usage" => returned(registry.get_usage(thread_id())),
            "get-all-usage" => {
                let threads = registry.all_threads(0)?;
                returned(threads.map(|thread| (thread.thread_id(), thread.usage())).collect::<Vec<_>>())
            }
            "held-tokens" => returned(registry.held_tokens(thread_id())),
            "reset-thread" => returned(registry.reset_thread(thread_id())),
            "cleanup-thread" => returned(registry.cleanup_thread(thread_id())),
            "clear" => returned(registry.clear()),
            "snapshot" => {
                let after: Option<String> = call.get("after");
                returned(registry.snapshot(after.as_deref(), call.get("limit"), 0))
            }
            "restore" => returned(registry.restore(&call.get::<Vec<_>>("states"))?),
            "thread-budget.thread-id" => returned(self.on(call).thread_id()),
            "thread-budget.usage" => returned(self.on(call).usage()),
            "thread-budget.percent-used" => returned(self.on(call).budget().percent_used()),
            "thread-budget.is-exhausted" => returned(self.on(call).budget().is_exhausted()),
            "thread-budget.held-tokens" => returned(self.on(call).held_tokens()),
            "thread-budget.is-detached" => returned(self.on(call).is_detached()),
            "thread-budget.can-consume" => returned(self.on(call).can_consume(estimated_tokens())),
            "thread-budget.consume" => {
                returned(self.on(call).consume(used().0, used().1, self.registry.thresholds()))
            }
            "thread-budget.triggered-thresholds" => {
                let triggered = self.on(call).budget();
                returned(triggered.triggered().map(|threshold| threshold.percent).collect::<Vec<_>>())
            }
            "thread-budget.check-thresholds" => {
                let thresholds: Vec<Threshold> = call.get("thresholds");
                returned(self.on(call).check_thresholds(&Thresholds::reachable(thresholds.into_iter())))
            }
            "budget-warning" => returned(BudgetWarning::from(call.get::<ThresholdCrossed>("crossed"))),
            unknown => panic!("the core has no {unknown}"),
        })
    }
}

impl Subject for Core {
    fn call(&mut self, call: &Call) -> Outcome {
        self.make(call).map_err(|error| match error {
            RegistryError::Exhausted(exhausted) => json!({ "exhausted": returned(exhausted) }),
            RegistryError::InvalidThreadId(_) => json!("invalid-thread-id"),
            RegistryError::TooManyThreads(limit) => json!({ "too-many-threads": limit }),
            RegistryError::InvalidThreshold(InvalidThreshold(percent)) => {
                json!({ "invalid-threshold": percent })
            }
            RegistryError::OutOfMemory => json!("out-of-memory"),
            RegistryError::UnknownParent(parent) => json!({ "unknown-parent": parent }),
            RegistryError::ParentCycle(parent) => json!({ "parent-cycle": parent }),
            RegistryError::TooDeep(max) => json!({ "too-deep": max }),
            RegistryError::OptionsDiffer(thread_id) => json!({ "options-differ": thread_id }),
            RegistryError::InvalidRequestId(_) => json!("invalid-request-id"),
            RegistryError::TooManyHolds(max) => json!({ "too-many-holds": max }),
            RegistryError::UnknownHold => json!("unknown-hold"),
            RegistryError::BatchTooLarge(max) => json!({ "batch-too-large": max }),
            RegistryError::InvalidState(_) => json!("invalid-state"),
        })
    }
}
