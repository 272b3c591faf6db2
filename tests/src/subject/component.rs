//! The component under wasmtime, through the host library.

// A call without a result returns null, as any other returns its value.
#![allow(clippy::unit_arg)]

use super::Subject;
use crate::call::{Call, Outcome, returned};
use serde_json::{Value, json};
use std::collections::HashMap;
use thread_budget_host::{self as host, CallError, InvalidInput};

/// The component under wasmtime.
pub struct Component {
    registry: host::Registry,
    handles: HashMap<String, host::ThreadBudget>,
    reservations: HashMap<String, host::Reservation>,
}

impl Component {
    /// An instance of the built-in component, with the settings it has of itself.
    #[must_use]
    pub fn new() -> Self {
        let registry = host::Registry::builder().build().unwrap_or_else(|error| panic!("{error}"));
        Self { registry, handles: HashMap::new(), reservations: HashMap::new() }
    }
}

impl Default for Component {
    fn default() -> Self {
        Self::new()
    }
}

impl Subject for Component {
    fn call(&mut self, call: &Call) -> Outcome {
        let registry = &self.registry;
        let on = |name: &String| self.handles.get(name).unwrap_or_else(|| panic!("no handle {name}"));
        let held =
            |name: &String| self.reservations.get(name).unwrap_or_else(|| panic!("no reservation {name}"));
        let result = match call {
            Call::Configure { max_tokens_per_thread } => {
                registry.configure(*max_tokens_per_thread).map(returned)
            }
            Call::MaxTokensPerThread {} => registry.max_tokens_per_thread().map(returned),
            Call::SetThresholds { thresholds } => registry.set_thresholds(thresholds).map(returned),
            Call::Thresholds {} => registry.thresholds().map(returned),
            Call::SetMaxThreads { max_threads } => registry.set_max_threads(*max_threads).map(returned),
            Call::GetBudget { thread_id, r#as } => registry.get_budget(thread_id).map(|budget| {
                self.handles.insert(r#as.clone(), budget);
                Value::Null
            }),
            Call::CheckBudget { thread_id, estimated_tokens } => {
                registry.check_budget(thread_id, *estimated_tokens).map(returned)
            }
            Call::Consume { thread_id, prompt_tokens, completion_tokens } => {
                registry.consume(thread_id, *prompt_tokens, *completion_tokens).map(returned)
            }
            Call::ConsumeOnce { thread_id, request_id, prompt_tokens, completion_tokens } => {
                registry.consume_once(thread_id, request_id, *prompt_tokens, *completion_tokens).map(returned)
            }
            Call::ConsumeBatch { entries } => {
                registry.consume_batch(entries).map(returned).map_err(|failed| failed.error)
            }
            Call::Reserve { thread_id, estimated_tokens, r#as } => {
                registry.reserve(thread_id, *estimated_tokens).map(|reservation| {
                    self.reservations.insert(r#as.clone(), reservation);
                    Value::Null
                })
            }
            Call::OpenThread { thread_id, options, r#as } => {
                registry.open_thread(thread_id, options).map(|budget| {
                    self.handles.insert(r#as.clone(), budget);
                    Value::Null
                })
            }
            Call::SetLimit { thread_id, max_tokens } => {
                registry.set_limit(thread_id, *max_tokens).map(returned)
            }
            Call::TakeWarnings { thread_id } => registry.take_warnings(thread_id).map(returned),
            Call::HeldTokens { thread_id } => registry.held_tokens(thread_id).map(returned),
            Call::HasBudget { thread_id } => registry.has_budget(thread_id).map(returned),
            Call::GetUsage { thread_id } => registry.get_usage(thread_id).map(returned),
            Call::GetAllUsage {} => registry.get_all_usage().map(returned),
            Call::ResetThread { thread_id } => registry.reset_thread(thread_id).map(returned),
            Call::CleanupThread { thread_id } => registry.cleanup_thread(thread_id).map(returned),
            Call::Clear {} => registry.clear().map(returned),
            Call::Snapshot { after, limit } => page_of(registry, after.as_ref(), *limit).map(returned),
            Call::Restore { states } => registry.restore(states).map(returned),
            Call::ReservationTokens { on: name } => Ok(returned(held(name).tokens())),
            Call::ReservationChargedThread { on: name } => held(name).charged_thread().map(returned),
            Call::ReservationCommit { on: name, prompt_tokens, completion_tokens } => {
                let reservation = self.reservations.remove(name);
                let reservation = reservation.unwrap_or_else(|| panic!("no reservation {name}"));
                reservation.commit(*prompt_tokens, *completion_tokens).map(returned)
            }
            Call::ReservationDrop { on: name } => Ok(returned(drop(self.reservations.remove(name)))),
            Call::BudgetThreadId { on: name } => Ok(returned(on(name).thread_id())),
            Call::BudgetUsage { on: name } => on(name).usage().map(returned),
            Call::BudgetPercentUsed { on: name } => on(name).percent_used().map(returned),
            Call::BudgetIsExhausted { on: name } => on(name).is_exhausted().map(returned),
            Call::BudgetHeldTokens { on: name } => on(name).held_tokens().map(returned),
            Call::BudgetIsDetached { on: name } => on(name).is_detached().map(returned),
            Call::BudgetCanConsume { on: name, estimated_tokens } => {
                on(name).can_consume(*estimated_tokens).map(returned)
            }
            Call::BudgetConsume { on: name, prompt_tokens, completion_tokens } => {
                on(name).consume(*prompt_tokens, *completion_tokens).map(returned)
            }
            Call::BudgetTriggeredThresholds { on: name } => on(name).triggered_thresholds().map(returned),
            Call::BudgetCheckThresholds { on: name, thresholds } => {
                on(name).check_thresholds(thresholds).map(returned)
            }
            Call::BudgetWarning { crossed } => registry.budget_warning(crossed).map(returned),
        };
        result.map_err(|error| match error {
            CallError::Refused(exhausted) => json!({ "exhausted": returned(exhausted) }),
            CallError::Invalid(InvalidInput::ThreadId { .. }) => json!("invalid-thread-id"),
            CallError::Invalid(InvalidInput::Threshold { percent }) => {
                json!({ "invalid-threshold": percent })
            }
            CallError::TooManyThreads { limit } => json!({ "too-many-threads": limit }),
            CallError::OutOfMemory => json!("out-of-memory"),
            CallError::UnknownParent { parent } => json!({ "unknown-parent": parent }),
            CallError::ParentCycle { parent } => json!({ "parent-cycle": parent }),
            CallError::TooDeep { max } => json!({ "too-deep": max }),
            CallError::OptionsDiffer { thread_id } => json!({ "options-differ": thread_id }),
            CallError::Invalid(InvalidInput::RequestId { .. }) => json!("invalid-request-id"),
            CallError::Invalid(InvalidInput::BatchTooLarge { .. }) => {
                json!({ "batch-too-large": host::MAX_BATCH })
            }
            CallError::Invalid(InvalidInput::State { .. }) => json!("invalid-state"),
            lost => panic!("{call:?} failed: {lost}"),
        })
    }
}

/// The page that comes after `after`, which ended another page of the same limit.
fn page_of(
    registry: &host::Registry,
    after: Option<&String>,
    limit: u32,
) -> Result<Vec<host::ThreadState>, CallError> {
    let mut pages = registry.snapshot(limit);
    if after.is_some() {
        let ends_there = |page: &Result<Vec<host::ThreadState>, CallError>| {
            page.as_ref().is_ok_and(|page| page.last().map(|state| &state.thread_id) == after)
        };
        pages.find(ends_there).unwrap_or_else(|| panic!("no page of {limit} ends with {after:?}"))?;
    }
    pages.next().unwrap_or(Ok(Vec::new()))
}
