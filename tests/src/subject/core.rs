//! The core, natively.

// A call without a result returns null, as any other returns its value.
#![allow(clippy::unit_arg)]

use super::Subject;
use crate::call::{Call, Outcome, returned};
use serde_json::{Value, json};
use std::collections::HashMap;
use thread_budget_core as core;
use thread_budget_host as host;

/// The core, natively.
#[derive(Default)]
pub struct Core {
    registry: core::Registry,
    handles: HashMap<String, core::ThreadBudget>,
    reservations: HashMap<String, core::Reservation>,
}

impl Subject for Core {
    fn call(&mut self, call: &Call) -> Outcome {
        let registry = &mut self.registry;
        let on = |name: &String| self.handles.get(name).unwrap_or_else(|| panic!("no handle {name}"));
        let held =
            |name: &String| self.reservations.get(name).unwrap_or_else(|| panic!("no reservation {name}"));
        let reachable = |thresholds: &[host::Threshold]| {
            core::Thresholds::reachable(thresholds.iter().map(to_core_threshold))
        };
        let result = match call {
            Call::Configure { max_tokens_per_thread } => {
                Ok(returned(registry.configure(*max_tokens_per_thread)))
            }
            Call::MaxTokensPerThread {} => Ok(returned(registry.max_tokens_per_thread())),
            Call::SetThresholds { thresholds } => {
                registry.set_thresholds(thresholds.iter().map(to_core_threshold)).map(returned)
            }
            Call::Thresholds {} => Ok(returned(registry.thresholds().iter().collect::<Vec<_>>())),
            Call::SetMaxThreads { max_threads } => Ok(returned(registry.set_max_threads(*max_threads))),
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
                let entries = entries
                    .iter()
                    .map(|entry| (&*entry.thread_id, entry.prompt_tokens, entry.completion_tokens));
                registry.consume_batch(entries, 0).map(returned)
            }
            Call::Reserve { thread_id, estimated_tokens, r#as } => {
                registry.reserve(thread_id, *estimated_tokens).map(|reservation| {
                    self.reservations.insert(r#as.clone(), reservation);
                    Value::Null
                })
            }
            Call::OpenThread { thread_id, options, r#as } => {
                registry.open_thread(thread_id, options.max_tokens, options.parent.as_deref()).map(|budget| {
                    self.handles.insert(r#as.clone(), budget);
                    Value::Null
                })
            }
            Call::SetLimit { thread_id, max_tokens } => {
                registry.set_limit(thread_id, *max_tokens).map(returned)
            }
            Call::TakeWarnings { thread_id } => Ok(returned(registry.take_warnings(thread_id))),
            Call::HeldTokens { thread_id } => Ok(returned(registry.held_tokens(thread_id))),
            Call::HasBudget { thread_id } => Ok(returned(registry.has_budget(thread_id))),
            Call::GetUsage { thread_id } => Ok(returned(registry.get_usage(thread_id))),
            Call::GetAllUsage {} => registry.all_threads(0).map(|threads| {
                returned(threads.map(|thread| (thread.thread_id(), thread.usage())).collect::<Vec<_>>())
            }),
            Call::ResetThread { thread_id } => Ok(returned(registry.reset_thread(thread_id))),
            Call::CleanupThread { thread_id } => Ok(returned(registry.cleanup_thread(thread_id))),
            Call::Clear {} => Ok(returned(registry.clear())),
            Call::Snapshot { after, limit } => Ok(returned(registry.snapshot(after.as_deref(), *limit, 0))),
            Call::Restore { states } => {
                let states: Vec<_> = states.iter().cloned().map(to_core_state).collect();
                registry.restore(&states).map(returned)
            }
            Call::ReservationTokens { on: name } => Ok(returned(held(name).tokens())),
            Call::ReservationChargedThread { on: name } => {
                Ok(returned(held(name).charged().map(core::ThreadBudget::thread_id)))
            }
            Call::ReservationCommit { on: name, prompt_tokens, completion_tokens } => {
                let reservation = self.reservations.remove(name);
                let reservation = reservation.unwrap_or_else(|| panic!("no reservation {name}"));
                Ok(returned(reservation.commit(*prompt_tokens, *completion_tokens, registry.thresholds())))
            }
            Call::ReservationDrop { on: name } => Ok(returned(drop(self.reservations.remove(name)))),
            Call::BudgetThreadId { on: name } => Ok(returned(on(name).thread_id())),
            Call::BudgetUsage { on: name } => Ok(returned(on(name).usage())),
            Call::BudgetPercentUsed { on: name } => Ok(returned(on(name).budget().percent_used())),
            Call::BudgetIsExhausted { on: name } => Ok(returned(on(name).budget().is_exhausted())),
            Call::BudgetHeldTokens { on: name } => Ok(returned(on(name).held_tokens())),
            Call::BudgetIsDetached { on: name } => Ok(returned(on(name).is_detached())),
            Call::BudgetCanConsume { on: name, estimated_tokens } => {
                Ok(returned(on(name).can_consume(*estimated_tokens)))
            }
            Call::BudgetConsume { on: name, prompt_tokens, completion_tokens } => {
                Ok(returned(on(name).consume(*prompt_tokens, *completion_tokens, registry.thresholds())))
            }
            Call::BudgetTriggeredThresholds { on: name } => {
                Ok(returned(on(name).budget().triggered().iter().collect::<Vec<_>>()))
            }
            Call::BudgetCheckThresholds { on: name, thresholds } => {
                Ok(returned(on(name).check_thresholds(&reachable(thresholds))))
            }
            Call::BudgetWarning { crossed } => {
                Ok(returned(core::BudgetWarning::from(&core::ThresholdCrossed {
                    thread_id: crossed.thread_id.clone(),
                    threshold_percent: crossed.threshold_percent,
                    severity: to_core_severity(crossed.severity),
                    percent_used: crossed.percent_used,
                    tokens_used: crossed.tokens_used,
                    tokens_remaining: crossed.tokens_remaining,
                    max_tokens: crossed.max_tokens,
                })))
            }
        };
        result.map_err(|error| match error {
            core::RegistryError::Exhausted(exhausted) => json!({ "exhausted": returned(exhausted) }),
            core::RegistryError::InvalidThreadId(_) => json!("invalid-thread-id"),
            core::RegistryError::TooManyThreads(limit) => json!({ "too-many-threads": limit }),
            core::RegistryError::InvalidThreshold(core::InvalidThreshold(percent)) => {
                json!({ "invalid-threshold": percent })
            }
            core::RegistryError::OutOfMemory => json!("out-of-memory"),
            core::RegistryError::UnknownParent(parent) => json!({ "unknown-parent": parent }),
            core::RegistryError::ParentCycle(parent) => json!({ "parent-cycle": parent }),
            core::RegistryError::TooDeep(max) => json!({ "too-deep": max }),
            core::RegistryError::OptionsDiffer(thread_id) => json!({ "options-differ": thread_id }),
            core::RegistryError::InvalidRequestId(_) => json!("invalid-request-id"),
            core::RegistryError::BatchTooLarge(max) => json!({ "batch-too-large": max }),
            core::RegistryError::InvalidState(_) => json!("invalid-state"),
        })
    }
}

fn to_core_severity(severity: host::Severity) -> core::Severity {
    match severity {
        host::Severity::Warning => core::Severity::Warning,
        host::Severity::Critical => core::Severity::Critical,
        host::Severity::Final => core::Severity::Final,
    }
}

fn to_core_threshold(&host::Threshold { percent, severity }: &host::Threshold) -> core::Threshold {
    core::Threshold { percent, severity: to_core_severity(severity) }
}

fn to_core_state(state: host::ThreadState) -> core::ThreadState {
    core::ThreadState {
        thread_id: state.thread_id,
        parent: state.parent,
        opened: state.opened,
        max_tokens: state.max_tokens,
        prompt_tokens: state.prompt_tokens,
        completion_tokens: state.completion_tokens,
        request_count: state.request_count,
        triggered_thresholds: state.triggered_thresholds,
        undelivered_thresholds: state.undelivered_thresholds.iter().map(to_core_threshold).collect(),
        request_ids: state.request_ids,
    }
}
