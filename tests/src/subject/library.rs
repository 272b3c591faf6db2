//! The host library, as a program without async code calls it.

// A call without a result returns null, as any other returns its value.
#![allow(clippy::unit_arg)]

use super::Subject;
use crate::call::{Call, Outcome, returned};
use serde_json::{Value, json};
use std::collections::HashMap;
use thread_budget_host::blocking::{Registry, ThreadBudget};
use thread_budget_host::{
    Acknowledgement, CallError, HoldTerms, InvalidInput, RegistryBuilder, ThreadOptions, ThreadState,
    Threshold, ThresholdCrossed, UsageEntry,
};

/// The host library.
pub struct Library {
    registry: Registry,
    handles: HashMap<String, ThreadBudget>,
}

impl Library {
    /// A registry of the built-in component, with the settings it has of itself.
    ///
    /// # Panics
    /// When it does not load.
    #[must_use]
    pub fn new() -> Self {
        Self::of(RegistryBuilder::default())
    }

    /// A registry with other settings.
    ///
    /// # Panics
    /// When it does not load.
    #[must_use]
    pub fn of(builder: RegistryBuilder) -> Self {
        let registry = builder.build().unwrap_or_else(|error| panic!("{error}"));
        Self { registry: registry.blocking(), handles: HashMap::new() }
    }

    /// Whether it has the call: births and what a store is told are its own business.
    #[must_use]
    pub fn has(call: &Call) -> bool {
        !["set-next-birth", "take-changes", "drop-tree"].contains(&&*call.name)
    }

    fn keep(&mut self, call: &Call, budget: ThreadBudget) -> Value {
        self.handles.insert(call.text("as").into(), budget);
        Value::Null
    }

    fn on(&self, call: &Call) -> &ThreadBudget {
        let name = call.text("on");
        self.handles.get(name).unwrap_or_else(|| panic!("no handle {name}"))
    }

    fn make(&mut self, call: &Call) -> Result<Value, CallError> {
        let registry = &self.registry;
        let thread_id = || call.text("thread_id");
        let names = || (call.text("thread_id"), call.text("request_id"));
        let used = || (call.get("prompt_tokens"), call.get("completion_tokens"));
        let estimated_tokens = || call.get("estimated_tokens");
        Ok(match &*call.name {
            "configure" => returned(registry.configure(call.get("max_tokens_per_thread"))?),
            "max-tokens-per-thread" => returned(registry.max_tokens_per_thread()?),
            "set-thresholds" => returned(registry.set_thresholds(&call.get::<Vec<Threshold>>("thresholds"))?),
            "thresholds" => returned(registry.thresholds()?),
            "set-max-threads" => returned(registry.set_max_threads(call.get("max_threads"))?),
            "get-budget" => {
                let budget = registry.get_budget(thread_id())?;
                self.keep(call, budget)
            }
            "check-budget" => returned(registry.check_budget(thread_id(), estimated_tokens())?),
            "consume" => returned(registry.consume(thread_id(), used().0, used().1)?),
            "consume-batch" => {
                let entries: Vec<UsageEntry> = call.get("entries");
                returned(registry.consume_batch(&entries).map_err(|failed| failed.error)?)
            }
            "hold" => {
                let terms = HoldTerms {
                    prompt_tokens: call.get("prompt_tokens"),
                    completion_tokens: call.get("completion_tokens"),
                    least_completion_tokens: call.get("least_completion_tokens"),
                    holder: call.get("holder"),
                    deadline: call.get("deadline"),
                };
                returned(registry.set_hold(names().0, names().1, &terms)?)
            }
            "settle" => {
                let remember = call.get("remember");
                returned(registry.settle(names().0, names().1, used().0, used().1, remember)?)
            }
            "settle-lost" => returned(registry.settle_lost(names().0, names().1, used().0, used().1)?),
            "release" => returned(registry.release(names().0, names().1)?),
            "open-thread" => {
                let budget = registry.open_thread(thread_id(), &call.get::<ThreadOptions>("options"))?;
                self.keep(call, budget)
            }
            "set-limit" => returned(registry.set_limit(thread_id(), call.get("max_tokens"))?),
            "pending-warnings" => returned(registry.pending_warnings(thread_id())?),
            "acknowledge-warnings" => {
                let acknowledgements: Vec<Acknowledgement> = call.get("acknowledgements");
                returned(registry.acknowledge_warnings(thread_id(), &acknowledgements)?)
            }
            "has-budget" => returned(registry.has_budget(thread_id())?),
            "get-usage" => returned(registry.get_usage(thread_id())?),
            "get-all-usage" => returned(registry.get_all_usage()?),
            "held-tokens" => returned(registry.held_tokens(thread_id())?),
            "reset-thread" => returned(registry.reset_thread(thread_id())?),
            "cleanup-thread" => returned(registry.cleanup_thread(thread_id())?),
            "clear" => returned(registry.clear()?),
            "snapshot" => {
                let after: Option<String> = call.get("after");
                returned(registry.snapshot(after.as_deref(), call.get("limit"))?)
            }
            "restore" => returned(registry.restore(&call.get::<Vec<ThreadState>>("states"))?),
            "budget-warning" => returned(registry.budget_warning(&call.get::<ThresholdCrossed>("crossed"))?),
            "thread-budget.thread-id" => returned(self.on(call).thread_id()),
            "thread-budget.usage" => returned(self.on(call).usage()?),
            "thread-budget.percent-used" => returned(self.on(call).percent_used()?),
            "thread-budget.is-exhausted" => returned(self.on(call).is_exhausted()?),
            "thread-budget.held-tokens" => returned(self.on(call).held_tokens()?),
            "thread-budget.is-detached" => returned(self.on(call).is_detached()?),
            "thread-budget.can-consume" => returned(self.on(call).can_consume(estimated_tokens())?),
            "thread-budget.consume" => returned(self.on(call).consume(used().0, used().1)?),
            "thread-budget.triggered-thresholds" => returned(self.on(call).triggered_thresholds()?),
            "thread-budget.check-thresholds" => {
                returned(self.on(call).check_thresholds(&call.get::<Vec<Threshold>>("thresholds"))?)
            }
            other => unimplemented!("the library has no {other}"),
        })
    }
}

impl Default for Library {
    fn default() -> Self {
        Self::new()
    }
}

impl Subject for Library {
    fn call(&mut self, call: &Call) -> Outcome {
        self.make(call).map_err(|error| match error {
            CallError::Refused(exhausted) => json!({ "exhausted": returned(exhausted) }),
            CallError::Invalid(InvalidInput::ThreadId { .. }) => json!("invalid-thread-id"),
            CallError::Invalid(InvalidInput::RequestId { .. }) => json!("invalid-request-id"),
            CallError::Invalid(InvalidInput::Threshold { percent }) => {
                json!({ "invalid-threshold": percent })
            }
            CallError::Invalid(InvalidInput::BatchTooLarge { .. }) => json!({ "batch-too-large": 4_096 }),
            CallError::Invalid(InvalidInput::State { .. }) => json!("invalid-state"),
            CallError::TooManyThreads { limit } => json!({ "too-many-threads": limit }),
            CallError::TooManyHolds { max } => json!({ "too-many-holds": max }),
            CallError::UnknownHold => json!("unknown-hold"),
            CallError::OutOfMemory => json!("out-of-memory"),
            CallError::UnknownParent { parent } => json!({ "unknown-parent": parent }),
            CallError::ParentCycle { parent } => json!({ "parent-cycle": parent }),
            CallError::TooDeep { max } => json!({ "too-deep": max }),
            CallError::OptionsDiffer { thread_id } => json!({ "options-differ": thread_id }),
            other => panic!("{call:?}: {other}"),
        })
    }
}
