//! The implementations of the contract, each behind the same door.

// A call without a result returns null, as any other returns its value.
#![allow(clippy::unit_arg)]

use crate::call::{Call, Outcome, returned};
use serde_json::{Value, json};
use std::collections::HashMap;
use thread_budget_core as core;
use thread_budget_host::{self as host, CallError, InvalidInput};

/// Something that calls of the contract can be put to.
pub trait Subject {
    /// Make the call.
    fn call(&mut self, call: &Call) -> Outcome;
}

/// The core, natively.
#[derive(Default)]
pub struct Core {
    registry: core::Registry,
    handles: HashMap<String, core::ThreadBudget>,
}

impl Subject for Core {
    fn call(&mut self, call: &Call) -> Outcome {
        let registry = &mut self.registry;
        let on = |name: &String| self.handles.get(name).unwrap_or_else(|| panic!("no handle {name}"));
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
            Call::HasBudget { thread_id } => Ok(returned(registry.has_budget(thread_id))),
            Call::GetUsage { thread_id } => Ok(returned(registry.get_usage(thread_id))),
            Call::GetAllUsage {} => registry.all_threads(0).map(|threads| {
                returned(threads.map(|thread| (thread.thread_id(), thread.usage())).collect::<Vec<_>>())
            }),
            Call::ResetThread { thread_id } => Ok(returned(registry.reset_thread(thread_id))),
            Call::CleanupThread { thread_id } => Ok(returned(registry.cleanup_thread(thread_id))),
            Call::Clear {} => Ok(returned(registry.clear())),
            Call::BudgetThreadId { on: name } => Ok(returned(on(name).thread_id())),
            Call::BudgetUsage { on: name } => Ok(returned(on(name).usage())),
            Call::BudgetPercentUsed { on: name } => Ok(returned(on(name).budget().percent_used())),
            Call::BudgetIsExhausted { on: name } => Ok(returned(on(name).budget().is_exhausted())),
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

/// The component under wasmtime.
pub struct Component {
    registry: host::Registry,
    handles: HashMap<String, host::ThreadBudget>,
}

impl Component {
    /// An instance of the built-in component, with the settings it has of itself.
    #[must_use]
    pub fn new() -> Self {
        let registry = host::Registry::builder().build().unwrap_or_else(|error| panic!("{error}"));
        Self { registry, handles: HashMap::new() }
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
            Call::HasBudget { thread_id } => registry.has_budget(thread_id).map(returned),
            Call::GetUsage { thread_id } => registry.get_usage(thread_id).map(returned),
            Call::GetAllUsage {} => registry.get_all_usage().map(returned),
            Call::ResetThread { thread_id } => registry.reset_thread(thread_id).map(returned),
            Call::CleanupThread { thread_id } => registry.cleanup_thread(thread_id).map(returned),
            Call::Clear {} => registry.clear().map(returned),
            Call::BudgetThreadId { on: name } => Ok(returned(on(name).thread_id())),
            Call::BudgetUsage { on: name } => on(name).usage().map(returned),
            Call::BudgetPercentUsed { on: name } => on(name).percent_used().map(returned),
            Call::BudgetIsExhausted { on: name } => on(name).is_exhausted().map(returned),
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
            lost => panic!("{call:?} failed: {lost}"),
        })
    }
}
