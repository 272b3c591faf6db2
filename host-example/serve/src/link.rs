//! The registry, as the router may use it: what its contract with the host names, and nothing more.

use super::contract::types as wit;
use super::events::{Event, Events};
use super::sandbox::State;
use super::undelivered::{Taken, Undelivered};
use std::sync::Arc;
use thread_budget_host::{
    CallError, Consumed, InvalidInput, Registry, Reservation, ThreadBudget, ThreadOptions,
};
use wasmtime::StoreContextMut;
use wasmtime::component::{
    ComponentType, Linker, LinkerInstance, Lower, Resource, ResourceTable, ResourceType,
};

/// The registry, and who hears of what is done to it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Budgets {
    pub(super) registry: Registry,
    pub(super) events: Events,
    pub(super) undelivered: Undelivered,
}

/// A thread's budget in an instance's table, shared with a call that works on it elsewhere.
type Budget = Arc<ThreadBudget>;

/// The registry failed, and the request with it: without budgets nothing goes on.
#[derive(Debug, thiserror::Error)]
#[error("the registry failed: {0}")]
pub(super) struct RegistryFailed(CallError);

type Contract<T> = Result<T, wit::RegistryError>;

impl Budgets {
    /// Do something that may wait for the disk, where it may.
    async fn call<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> R + Send + 'static,
    ) -> wasmtime::Result<R> {
        if self.registry.has_database() {
            let budgets = self.clone();
            Ok(tokio::task::spawn_blocking(move || work(&budgets)).await?)
        } else {
            Ok(work(self))
        }
    }

    fn changed(&self, thread_id: &str) {
        self.events.announce(|| Event::Changed { thread_id: thread_id.into() });
    }

    fn consumed(&self, thread_id: &str, consumed: &Consumed) {
        self.changed(thread_id);
        for crossed in &consumed.crossed {
            if let Ok(warning) = self.registry.budget_warning(crossed) {
                let thread_id = crossed.thread_id.as_str().into();
                self.events.announce(|| Event::Crossed { thread_id, warning });
            }
        }
    }

    fn reserve(&self, thread_id: &str, tokens: u64) -> Result<Reservation, CallError> {
        let result = self.registry.reserve(thread_id, tokens);
        match &result {
            Ok(_) => self.changed(thread_id),
            Err(CallError::Refused(exhausted)) => self
                .events
                .announce(|| Event::Refused { thread_id: thread_id.into(), exhausted: exhausted.clone() }),
            Err(_) => {}
        }
        result
    }

    fn commit(&self, reservation: Reservation, prompt: u64, completion: u64) -> Result<Consumed, CallError> {
        let thread_id: Box<str> = reservation.thread_id().into();
        let consumed = reservation.commit(prompt, completion)?;
        self.consumed(&thread_id, &consumed);
        Ok(consumed)
    }

    fn release(&self, reservation: Reservation) {
        let thread_id: Box<str> = reservation.thread_id().into();
        drop(reservation);
        self.changed(&thread_id);
    }

    /// After the instance has ended: reservations that it left count as used when it may have used them,
    /// so that breaking it frees nothing.
    pub(super) async fn settle(&self, table: &mut ResourceTable, may_be_used: bool) {
        let mut left = Vec::new();
        for entry in table.iter_mut() {
            if let Some(reservation) = entry.downcast_mut::<Option<Reservation>>() {
                left.extend(reservation.take());
            }
        }
        if left.is_empty() {
            return;
        }
        let settled = self.call(move |budgets| {
            for reservation in left {
                let (thread, tokens) = (reservation.thread_id().to_owned(), reservation.tokens());
                if !may_be_used {
                    budgets.release(reservation);
                    continue;
                }
                match budgets.commit(reservation, tokens, 0) {
                    Ok(_) => tracing::warn!(thread, tokens, "charged what a broken request held"),
                    Err(error) => {
                        tracing::error!(thread, tokens, %error, "NOT charged what a broken request held")
                    }
                }
            }
        });
        if let Err(error) = settled.await {
            tracing::error!(%error, "what a broken request held is released");
        }
    }
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
    let mut registry = linker.instance("thread-budget:registry/registry@0.1.0")?;

    registry.resource_async(
        "reservation",
        ResourceType::host::<Option<Reservation>>(),
        |mut store, handle| {
            Box::new(async move {
                let state = store.data_mut();
                match state.table.delete(Resource::<Option<Reservation>>::new_own(handle))? {
                    Some(reservation) => state.budgets.call(|budgets| budgets.release(reservation)).await,
                    None => Ok(()),
                }
            })
        },
    )?;
    registry.resource_async("thread-budget", ResourceType::host::<Budget>(), |mut store, handle| {
        Box::new(async move {
            let state = store.data_mut();
            let budget = state.table.delete(Resource::<Budget>::new_own(handle))?;
            state.budgets.call(|_| drop(budget)).await
        })
    })?;

    registry.func_wrap_async(
        "reserve",
        |mut store: StoreContextMut<'_, State>, (thread_id, tokens): (String, u64)| {
            Box::new(async move {
                let state = store.data_mut();
                let reserved = state.budgets.call(move |budgets| budgets.reserve(&thread_id, tokens)).await?;
                Ok((match contract(reserved)? {
                    Ok(reservation) => Ok(state.table.push(Some(reservation))?),
                    Err(error) => Err(error),
                },))
            })
        },
    )?;
    registry.func_wrap_async(
        "[static]reservation.commit",
        |mut store: StoreContextMut<'_, State>,
         (reservation, prompt, completion): (Resource<Option<Reservation>>, u64, u64)| {
            Box::new(async move {
                let state = store.data_mut();
                // It is there until its handle is given up, and only this gives it up.
                let Some(reservation) = state.table.delete(reservation)? else {
                    return Err(failed(CallError::StaleHandle));
                };
                let committed = state
                    .budgets
                    .call(move |budgets| budgets.commit(reservation, prompt, completion))
                    .await?;
                Ok((wit::Consumed::from(committed.map_err(failed)?),))
            })
        },
    )?;
    registry.func_wrap_async(
        "consume-once",
        |mut store: StoreContextMut<'_, State>,
         (thread_id, request_id, prompt, completion): (String, String, u64, u64)| {
            Box::new(async move {
                let consume = move |budgets: &Budgets| {
                    let consumed =
                        budgets.registry.consume_once(&thread_id, &request_id, prompt, completion)?;
                    budgets.consumed(&thread_id, &consumed);
                    Ok(consumed)
                };
                let consumed = contract(store.data_mut().budgets.call(consume).await?)?;
                Ok((consumed.map(wit::Consumed::from),))
            })
        },
    )?;
    registry.func_wrap_async(
        "open-thread",
        |mut store: StoreContextMut<'_, State>, (thread_id, options): (String, wit::ThreadOptions)| {
            Box::new(async move {
                let open = move |budgets: &Budgets| {
                    let budget = budgets.registry.open_thread(&thread_id, &ThreadOptions::from(options))?;
                    budgets.changed(&thread_id);
                    Ok(budget)
                };
                let state = store.data_mut();
                let opened = contract(state.budgets.call(open).await?)?;
                Ok((push(&mut state.table, opened)?,))
            })
        },
    )?;
    registry.func_wrap_async(
        "get-budget",
        |mut store: StoreContextMut<'_, State>, (thread_id,): (String,)| {
            Box::new(async move {
                let state = store.data_mut();
                let get = move |budgets: &Budgets| budgets.registry.get_budget(&thread_id);
                let got = contract(state.budgets.call(get).await?)?;
                Ok((push(&mut state.table, got)?,))
            })
        },
    )?;
    registry.func_wrap_async(
        "get-usage",
        |mut store: StoreContextMut<'_, State>, (thread_id,): (String,)| {
            Box::new(async move {
                let get = move |budgets: &Budgets| budgets.registry.get_usage(&thread_id);
                let usage = store.data_mut().budgets.call(get).await?.map_err(failed)?;
                Ok((usage.map(wit::Usage::from),))
            })
        },
    )?;
    registry.func_wrap_async(
        "take-warnings",
        |mut store: StoreContextMut<'_, State>, (thread_id,): (String,)| {
            Box::new(async move {
                let state = store.data_mut();
                let taken = state.budgets.call(move |budgets| Taken::take(budgets, thread_id)).await?;
                let taken = taken.map_err(failed)?;
                let warnings =
                    taken.warnings().iter().cloned().map(wit::BudgetWarning::from).collect::<Vec<_>>();
                state.taken.push(taken);
                Ok((warnings,))
            })
        },
    )?;

    method(&mut registry, "usage", |budget| budget.usage().map(wit::Usage::from))?;
    method(&mut registry, "triggered-thresholds", ThreadBudget::triggered_thresholds)?;
    registry.func_wrap_async(
        "[method]thread-budget.can-consume",
        |mut store: StoreContextMut<'_, State>, (budget, tokens): (Resource<Budget>, u64)| {
            Box::new(async move {
                let state = store.data_mut();
                let budget = state.table.get(&budget)?.clone();
                let answer = state.budgets.call(move |_| budget.can_consume(tokens)).await?;
                Ok((answer.map_err(failed)?,))
            })
        },
    )
}

/// A method of a thread's budget that only asks.
fn method<R>(
    registry: &mut LinkerInstance<'_, State>,
    name: &str,
    ask: fn(&ThreadBudget) -> Result<R, CallError>,
) -> wasmtime::Result<()>
where
    R: Send + Lower + ComponentType + 'static,
{
    registry.func_wrap_async(
        &format!("[method]thread-budget.{name}"),
        move |mut store: StoreContextMut<'_, State>, (budget,): (Resource<Budget>,)| {
            Box::new(async move {
                let state = store.data_mut();
                let budget = state.table.get(&budget)?.clone();
                let answer = state.budgets.call(move |_| ask(&budget)).await?;
                Ok((answer.map_err(failed)?,))
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
    use crate::undelivered::Undelivered;

    #[tokio::test]
    async fn what_a_broken_instance_held_is_charged_if_it_may_be_spent() {
        let registry = Registry::builder().tokens_per_thread(1_000).build().unwrap();
        let budgets = Budgets { registry, events: Events::default(), undelivered: Undelivered::default() };
        for (may_be_used, expected) in [(false, 0), (true, 300)] {
            let mut table = ResourceTable::new();
            table.push("something else").unwrap();
            table.push(Some(budgets.reserve("t", 300).unwrap())).unwrap();
            budgets.settle(&mut table, may_be_used).await;
            assert_eq!(budgets.registry.held_tokens("t"), Ok(0));
            assert_eq!(budgets.registry.get_usage("t").unwrap().unwrap().prompt_tokens, expected);
        }
    }
}
