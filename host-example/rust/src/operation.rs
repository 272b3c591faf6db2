//! The calls that change what a file keeps, as data: what the log of a durable registry is made of.
//!
//! The component is deterministic, without a clock and without entropy, so the same calls in the same
//! order lead to the same state.

use crate::bindings::exports::thread_budget::registry::types::{ThreadOptions, UsageEntry as WitEntry};
use crate::error::{CallError, check_batch, from_contract};
use crate::instance::Instance;
use crate::types::{Threshold, UsageEntry};
use serde::{Deserialize, Serialize};

/// A call that changed something. New ones go to the end, since files keep their numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Operation {
    Configure {
        max_tokens_per_thread: u64,
    },
    SetThresholds {
        thresholds: Vec<Threshold>,
    },
    SetMaxThreads {
        max_threads: u32,
    },
    /// `get-budget`, or a check or a reservation, that created its thread.
    Create {
        thread_id: String,
    },
    OpenThread {
        thread_id: String,
        max_tokens: Option<u64>,
        parent: Option<String>,
    },
    Consume {
        thread_id: String,
        prompt_tokens: u64,
        completion_tokens: u64,
    },
    ConsumeOnce {
        thread_id: String,
        request_id: String,
        prompt_tokens: u64,
        completion_tokens: u64,
    },
    ConsumeBatch {
        entries: Vec<UsageEntry>,
    },
    CheckThresholds {
        thread_id: String,
        thresholds: Vec<Threshold>,
    },
    TakeWarnings {
        thread_id: String,
    },
    ResetThread {
        thread_id: String,
    },
    CleanupThread {
        thread_id: String,
    },
    Clear,
    SetLimit {
        thread_id: String,
        max_tokens: u64,
    },
}

impl Operation {
    /// How many records it makes: each entry of a batch is one.
    pub(crate) fn records(&self) -> u64 {
        match self {
            Self::ConsumeBatch { entries } => entries.len() as u64,
            _ => 1,
        }
    }

    /// Make the call again.
    pub(crate) fn replay(&self, instance: &mut Instance) -> Result<(), CallError> {
        match self {
            Self::Configure { max_tokens_per_thread } => {
                instance.call(|registry, store| registry.call_configure(store, *max_tokens_per_thread))
            }
            Self::SetThresholds { thresholds } => {
                let thresholds: Vec<_> = thresholds.iter().map(Into::into).collect();
                let result =
                    instance.call(|registry, store| registry.call_set_thresholds(store, &thresholds))?;
                from_contract(result, "")
            }
            Self::SetMaxThreads { max_threads } => {
                instance.call(|registry, store| registry.call_set_max_threads(store, *max_threads))
            }
            Self::Create { thread_id } => {
                let result =
                    instance.call(|registry, store| registry.call_check_budget(store, thread_id, 0))?;
                match from_contract(result, thread_id) {
                    // A limit of 0 refuses every check, and has created the thread all the same.
                    Err(CallError::Refused(_)) => Ok(()),
                    other => other,
                }
            }
            Self::OpenThread { thread_id, max_tokens, parent } => {
                let options = ThreadOptions { max_tokens: *max_tokens, parent: parent.clone() };
                let result = instance.call(|registry, store| {
                    match registry.call_open_thread(&mut *store, thread_id, &options)? {
                        Ok(handle) => handle.resource_drop(store).map(Ok),
                        Err(error) => Ok(Err(error)),
                    }
                })?;
                from_contract(result, thread_id)
            }
            Self::Consume { thread_id, prompt_tokens, completion_tokens } => {
                let result = instance.call(|registry, store| {
                    registry.call_consume(store, thread_id, *prompt_tokens, *completion_tokens)
                })?;
                from_contract(result, thread_id).map(drop)
            }
            Self::ConsumeOnce { thread_id, request_id, prompt_tokens, completion_tokens } => {
                let result = instance.call(|registry, store| {
                    registry.call_consume_once(
                        store,
                        thread_id,
                        request_id,
                        *prompt_tokens,
                        *completion_tokens,
                    )
                })?;
                from_contract(result, thread_id).map(drop)
            }
            Self::ConsumeBatch { entries } => {
                check_batch(entries)?;
                let entries: Vec<WitEntry> = entries.iter().map(Into::into).collect();
                let result = instance.call(|registry, store| registry.call_consume_batch(store, &entries))?;
                from_contract(result, "").map(drop)
            }
            Self::CheckThresholds { thread_id, thresholds } => {
                let thresholds: Vec<_> = thresholds.iter().map(Into::into).collect();
                let result = instance.call(|registry, store| {
                    match registry.call_get_budget(&mut *store, thread_id)? {
                        Ok(handle) => {
                            registry.thread_budget().call_check_thresholds(
                                &mut *store,
                                handle,
                                &thresholds,
                            )?;
                            handle.resource_drop(store).map(Ok)
                        }
                        Err(error) => Ok(Err(error)),
                    }
                })?;
                from_contract(result, thread_id)
            }
            Self::TakeWarnings { thread_id } => {
                instance.call(|registry, store| registry.call_take_warnings(store, thread_id)).map(drop)
            }
            Self::ResetThread { thread_id } => {
                instance.call(|registry, store| registry.call_reset_thread(store, thread_id))
            }
            Self::CleanupThread { thread_id } => {
                instance.call(|registry, store| registry.call_cleanup_thread(store, thread_id)).map(drop)
            }
            Self::Clear => instance.call(|registry, store| registry.call_clear(store)),
            Self::SetLimit { thread_id, max_tokens } => {
                let result = instance
                    .call(|registry, store| registry.call_set_limit(store, thread_id, *max_tokens))?;
                from_contract(result, thread_id).map(drop)
            }
        }
    }
}
