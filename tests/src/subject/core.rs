//! The core, natively.

// A call without a result returns null, as any other returns its value.
#![allow(clippy::unit_arg)]

use super::Subject;
use crate::call::{Acknowledgement, Call, Outcome, ThreadOptions, UsageEntry, returned};
use serde_json::{Value, json};
use std::collections::HashMap;
use thread_budget_core::{
    BatchError, BudgetExhausted, BudgetWarning, CheckError, CreateError, HoldError, InvalidRequestId,
    InvalidThreshold, OpenError, Registry, RestoreError, SettleError, ThreadBudget, Threshold,
    ThresholdCrossed, Thresholds, Wanted,
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

    fn make(&mut self, call: &Call) -> Result<Value, Refusal> {
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
                let threads = registry.all_threads(0).expect("memory for them");
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
            "take-changes" => returned(registry.take_changes(call.get("limit"), 0)?),
            "drop-tree" => returned(registry.drop_tree(thread_id())),
            "thread-budget.thread-id" => returned(self.on(call).thread_id()),
            "thread-budget.usage" => returned(self.on(call).usage()),
            "thread-budget.percent-used" => returned(self.on(call).budget().percent_used()),
            "thread-budget.is-exhausted" => returned(self.on(call).budget().is_exhausted()),
            "thread-budget.held-tokens" => returned(self.on(call).held_tokens()),
            "thread-budget.is-detached" => returned(self.on(call).is_detached()),
            "thread-budget.can-consume" => returned(self.on(call).can_consume(estimated_tokens())),
            "thread-budget.consume" => {
                let budget = self.on(call).clone();
                returned(self.registry.consume_of(&budget, used().0, used().1))
            }
            "thread-budget.triggered-thresholds" => {
                let triggered = self.on(call).triggered();
                returned(triggered.map(|threshold| threshold.percent).collect::<Vec<_>>())
            }
            "thread-budget.check-thresholds" => {
                let thresholds: Vec<Threshold> = call.get("thresholds");
                let (budget, thresholds) =
                    (self.on(call).clone(), Thresholds::reachable(thresholds.into_iter()));
                returned(self.registry.check_thresholds_of(&budget, &thresholds))
            }
            "budget-warning" => returned(BudgetWarning::from(call.get::<ThresholdCrossed>("crossed"))),
            unknown => panic!("the core has no {unknown}"),
        })
    }
}

impl Subject for Core {
    fn call(&mut self, call: &Call) -> Outcome {
        self.make(call).map_err(|Refusal(error)| error)
    }
}

/// An error, as the contract names it.
struct Refusal(Value);

/// Each error of the core is one of the contract's, or another one in other words.
macro_rules! refusals {
    ($($error:ident { $($pattern:pat => $json:expr),* $(,)? })*) => {$(
        impl From<$error> for Refusal {
            fn from(error: $error) -> Self {
                match error {
                    $($pattern => $json.into()),*
                }
            }
        }
    )*};
}

impl From<Value> for Refusal {
    fn from(error: Value) -> Self {
        Self(error)
    }
}

refusals! {
    BudgetExhausted { exhausted => json!({ "exhausted": returned(exhausted) }) }
    InvalidRequestId { _ => json!("invalid-request-id") }
    InvalidThreshold { InvalidThreshold(percent) => json!({ "invalid-threshold": percent }) }
    CreateError {
        CreateError::InvalidThreadId(_) => json!("invalid-thread-id"),
        CreateError::TooManyThreads(limit) => json!({ "too-many-threads": limit }),
        CreateError::OutOfMemory => json!("out-of-memory"),
    }
    CheckError {
        CheckError::Exhausted(exhausted) => exhausted,
        CheckError::Create(error) => error,
    }
    BatchError {
        BatchError::TooLarge(max) => json!({ "batch-too-large": max }),
        BatchError::Create(error) => error,
    }
    OpenError {
        OpenError::UnknownParent(parent) => json!({ "unknown-parent": parent }),
        OpenError::ParentCycle(parent) => json!({ "parent-cycle": parent }),
        OpenError::TooDeep(max) => json!({ "too-deep": max }),
        OpenError::OptionsDiffer(thread_id) => json!({ "options-differ": thread_id }),
        OpenError::Create(error) => error,
    }
    HoldError {
        HoldError::Exhausted(exhausted) => exhausted,
        HoldError::InvalidRequestId(error) => error,
        HoldError::TooManyHolds(max) => json!({ "too-many-holds": max }),
        HoldError::Create(error) => error,
    }
    SettleError {
        SettleError::InvalidRequestId(error) => error,
        SettleError::UnknownHold => json!("unknown-hold"),
        SettleError::Create(error) => error,
    }
    RestoreError {
        RestoreError::InvalidState(_) => json!("invalid-state"),
        RestoreError::Open(error) => error,
    }
}
