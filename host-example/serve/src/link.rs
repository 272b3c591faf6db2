//! The registry, as the router may use it: what its contract with the host names, and nothing more.

use super::contract::types as wit;
use super::events::{Event, Events};
use super::sandbox::State;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thread_budget_host::{
    Acknowledgement, CallError, Consumed, Held, HoldTerms, InvalidInput, Registry, ThreadBudget,
    ThreadOptions,
};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceTable, ResourceType};

/// The registry, and who hears of what is done to it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Budgets {
    pub(super) registry: Registry,
    pub(super) events: Events,
}

/// A thread's budget in an instance's table, shared with a call that works on it elsewhere.
type Budget = Arc<ThreadBudget>;

/// What an instance holds, prompt and completion tokens, by thread and request.
pub(super) type Holds = HashMap<(String, String), (u64, u64)>;

/// The registry failed, and the request with it: without budgets nothing goes on.
#[derive(Debug, thiserror::Error)]
#[error("the registry failed: {0}")]
pub(super) struct RegistryFailed(CallError);

type Contract<T> = Result<T, wit::RegistryError>;

impl Budgets {
    fn changed(&self, thread_id: &str) {
        self.events.announce(|| Event::Changed { thread_id: thread_id.into() });
    }

    async fn consumed(&self, thread_id: &str, consumed: &Consumed) {
        self.changed(thread_id);
        for crossed in &consumed.crossed {
            if let Ok(warning) = self.registry.budget_warning(crossed).await {
                let thread_id = crossed.thread_id.as_str().into();
                self.events.announce(|| Event::Crossed { thread_id, warning });
            }
        }
    }

    async fn hold(&self, thread_id: &str, request_id: &str, terms: &HoldTerms) -> Result<Held, CallError> {
        let result = self.registry.set_hold(thread_id, request_id, terms).await;
        match &result {
            Ok(_) => self.changed(thread_id),
            Err(CallError::Refused(exhausted)) => self
                .events
                .announce(|| Event::Refused { thread_id: thread_id.into(), exhausted: exhausted.clone() }),
            Err(_) => {}
        }
        result
    }

    async fn acknowledge(&self, thread_id: &str, acknowledged: &[Acknowledgement]) -> Result<(), CallError> {
        let mut warnings = self.registry.pending_warnings(thread_id).await?;
        self.registry.acknowledge_warnings(thread_id, acknowledged).await?;
        warnings.retain(|warning| acknowledged.contains(&warning.acknowledgement()));
        if !warnings.is_empty() {
            self.events.announce(|| Event::Delivered { thread_id: thread_id.into(), warnings });
        }
        Ok(())
    }

    /// After the instance has ended: what it still holds counts as used when it may have used it, so that
    /// breaking it frees nothing.
    pub(super) async fn settle(&self, holds: &mut Holds, may_be_used: bool) {
        for ((thread, request), (prompt, completion)) in holds.drain() {
            let settled = if may_be_used {
                let settled = self.registry.settle_lost(&thread, &request, prompt, completion).await;
                settled.map(|consumed| {
                    tracing::warn!(thread, prompt, completion, "charged what a broken request held");
                    Some(consumed)
                })
            } else {
                self.registry.release(&thread, &request).await.map(|_| None)
            };
            match settled {
                Ok(Some(consumed)) => self.consumed(&thread, &consumed).await,
                Ok(None) => self.changed(&thread),
                Err(error) => tracing::error!(thread, %error, "what a broken request held is NOT settled"),
            }
        }
    }
}

/// How long an instance may take, with all that may be in its way.
const TERM: Duration = Duration::from_secs(60 * 60);

fn deadline() -> u64 {
    let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + TERM;
    u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX)
}

/// What the contract says of it, or the end of the request when that has no word for it.
fn contract<T>(result: Result<T, CallError>) -> wasmtime::Result<Contract<T>> {
    let error = match result {
        Ok(value) => return Ok(Ok(value)),
        Err(error) => error,
    };
    Ok(Err(match error {
        CallError::Refused(exhausted) => wit::RegistryError::Exhausted(exhausted.into()),
        CallError::Invalid(InvalidInput::ThreadId { .. }) => {
            wit::RegistryError::InvalidThreadId(error.to_string())
        }
        CallError::Invalid(InvalidInput::RequestId { .. }) => {
            wit::RegistryError::InvalidRequestId(error.to_string())
        }
        CallError::TooManyThreads { limit } => wit::RegistryError::TooManyThreads(limit),
        CallError::TooManyHolds { max } => wit::RegistryError::TooManyHolds(max),
        CallError::UnknownHold => wit::RegistryError::UnknownHold,
        CallError::OutOfMemory => wit::RegistryError::OutOfMemory,
        CallError::UnknownParent { parent } => wit::RegistryError::UnknownParent(parent),
        CallError::ParentCycle { parent } => wit::RegistryError::ParentCycle(parent),
        CallError::TooDeep { max } => wit::RegistryError::TooDeep(max),
        CallError::OptionsDiffer { thread_id } => wit::RegistryError::OptionsDiffer(thread_id),
        other => return Err(failed(other)),
    }))
}

/// The end of a request that the registry failed in.
fn failed(error: CallError) -> wasmtime::Error {
    tracing::error!(%error, "the registry failed");
    RegistryFailed(error).into()
}

/// Put what the router may call into the linker.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut registry = linker.instance("thread-budget:registry/registry@0.2.0")?;

    registry.resource("thread-budget", ResourceType::host::<Budget>(), |mut store, handle| {
        store.data_mut().table.delete(Resource::<Budget>::new_own(handle))?;
        Ok(())
    })?;
    registry.func_wrap_async(
        "hold",
        |mut store: StoreContextMut<'_, State>,
         (thread_id, request_id, prompt, completion, least, _, _): (
            String,
            String,
            u64,
            u64,
            u64,
            u64,
            u64,
        )| {
            Box::new(async move {
                let State { budgets, holds, .. } = store.data_mut();
                let terms = HoldTerms {
                    prompt_tokens: prompt,
                    completion_tokens: completion,
                    least_completion_tokens: least,
                    holder: budgets.registry.holder(),
                    deadline: deadline(),
                };
                let held = contract(budgets.hold(&thread_id, &request_id, &terms).await)?;
                if let Ok(held) = &held
                    && !held.repeated
                {
                    holds.insert((thread_id, request_id), (prompt, held.completion_tokens));
                }
                Ok((held.map(wit::Held::from),))
            })
        },
    )?;
    registry.func_wrap_async(
        "settle",
        |mut store: StoreContextMut<'_, State>,
         (thread_id, request_id, prompt, completion, remember): (String, String, u64, u64, bool)| {
            Box::new(async move {
                let State { budgets, holds, .. } = store.data_mut();
                let settled =
                    budgets.registry.settle(&thread_id, &request_id, prompt, completion, remember).await;
                let settled = contract(settled)?;
                if let Ok(consumed) = &settled {
                    budgets.consumed(&thread_id, consumed).await;
                    holds.remove(&(thread_id, request_id));
                }
                Ok((settled.map(wit::Consumed::from),))
            })
        },
    )?;
    registry.func_wrap_async(
        "release",
        |mut store: StoreContextMut<'_, State>, (thread_id, request_id): (String, String)| {
            Box::new(async move {
                let State { budgets, holds, .. } = store.data_mut();
                let released = budgets.registry.release(&thread_id, &request_id).await.map_err(failed)?;
                budgets.changed(&thread_id);
                holds.remove(&(thread_id, request_id));
                Ok((released,))
            })
        },
    )?;
    registry.func_wrap_async(
        "pending-warnings",
        |mut store: StoreContextMut<'_, State>, (thread_id,): (String,)| {
            Box::new(async move {
                let pending = store.data_mut().budgets.registry.pending_warnings(&thread_id).await;
                let pending = pending.map_err(failed)?.into_iter();
                Ok((pending.map(wit::BudgetWarning::from).collect::<Vec<_>>(),))
            })
        },
    )?;
    registry.func_wrap_async(
        "acknowledge-warnings",
        |mut store: StoreContextMut<'_, State>, (thread_id, named): (String, Vec<wit::Acknowledgement>)| {
            Box::new(async move {
                let named: Vec<_> = named.into_iter().map(Acknowledgement::from).collect();
                store.data_mut().budgets.acknowledge(&thread_id, &named).await.map_err(failed)
            })
        },
    )?;
    registry.func_wrap_async(
        "open-thread",
        |mut store: StoreContextMut<'_, State>, (thread_id, options): (String, wit::ThreadOptions)| {
            Box::new(async move {
                let State { budgets, table, .. } = store.data_mut();
                let opened = budgets.registry.open_thread(&thread_id, &ThreadOptions::from(options)).await;
                budgets.changed(&thread_id);
                Ok((push(table, contract(opened)?)?,))
            })
        },
    )?;
    registry.func_wrap_async(
        "get-budget",
        |mut store: StoreContextMut<'_, State>, (thread_id,): (String,)| {
            Box::new(async move {
                let State { budgets, table, .. } = store.data_mut();
                Ok((push(table, contract(budgets.registry.get_budget(&thread_id).await)?)?,))
            })
        },
    )?;
    registry.func_wrap_async(
        "has-budget",
        |mut store: StoreContextMut<'_, State>, (thread_id,): (String,)| {
            Box::new(async move {
                Ok((store.data_mut().budgets.registry.has_budget(&thread_id).await.map_err(failed)?,))
            })
        },
    )?;
    registry.func_wrap_async(
        "get-usage",
        |mut store: StoreContextMut<'_, State>, (thread_id,): (String,)| {
            Box::new(async move {
                let usage = store.data_mut().budgets.registry.get_usage(&thread_id).await.map_err(failed)?;
                Ok((usage.map(wit::Usage::from),))
            })
        },
    )?;
    registry.func_wrap_async(
        "[method]thread-budget.triggered-thresholds",
        |mut store: StoreContextMut<'_, State>, (budget,): (Resource<Budget>,)| {
            Box::new(async move {
                let budget = store.data_mut().table.get(&budget)?.clone();
                Ok((budget.triggered_thresholds().await.map_err(failed)?,))
            })
        },
    )
}

/// A handle on the budget for the instance.
fn push(
    table: &mut ResourceTable,
    budget: Contract<ThreadBudget>,
) -> wasmtime::Result<Contract<Resource<Budget>>> {
    Ok(match budget {
        Ok(budget) => Ok(table.push(Arc::new(budget))?),
        Err(error) => Err(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_broken_instance_held_is_charged_if_it_may_be_spent() {
        let registry = Registry::builder().tokens_per_thread(1_000).build().unwrap();
        let budgets = Budgets { registry, events: Events::default() };
        for (may_be_used, expected) in [(false, 0), (true, 300)] {
            let terms = HoldTerms {
                prompt_tokens: 300,
                completion_tokens: 0,
                least_completion_tokens: 0,
                holder: 0,
                deadline: 0,
            };
            budgets.hold("t", "r", &terms).await.unwrap();
            let mut holds = Holds::from([(("t".into(), "r".into()), (300, 0))]);
            budgets.settle(&mut holds, may_be_used).await;
            assert_eq!(budgets.registry.held_tokens("t").await, Ok(0));
            let usage = budgets.registry.get_usage("t").await.unwrap().unwrap();
            assert_eq!(usage.prompt_tokens, expected);
        }
    }
}
