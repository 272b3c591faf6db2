//! What has to be told to the registry and could not be, since its store was out of reach: it is tried again
//! until it is told. Meanwhile nothing is admitted; so there are no more of these than requests under way and holds
//! that stay.

use super::budgets::Budgets;
use super::health::Health;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thread_budget_host::CallError;
use tokio::sync::Notify;

/// How long to wait before the store is tried again.
const PAUSE: Duration = Duration::from_millis(250);

/// How a hold ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// At so many prompt and completion tokens; perhaps the same usage is reported twice.
    Settle { prompt_tokens: u64, completion_tokens: u64, remember: bool },
    /// At nothing.
    Release,
}

/// A hold that is to be ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Debt {
    pub(super) thread_id: String,
    pub(super) request_id: String,
    pub(super) end: End,
}

impl fmt::Display for Debt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { thread_id, request_id, end } = self;
        match end {
            End::Settle { prompt_tokens, completion_tokens, .. } => write!(
                f,
                "{prompt_tokens} prompt and {completion_tokens} completion tokens of thread {thread_id:?}, request {request_id}"
            ),
            End::Release => write!(f, "the release of request {request_id} of thread {thread_id:?}"),
        }
    }
}

/// All of them, the oldest first. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Debts(Arc<Inner>);

#[derive(Default)]
struct Inner {
    owed: Mutex<VecDeque<Debt>>,
    changed: Notify,
    health: Health,
}

impl Debts {
    fn owed(&self) -> MutexGuard<'_, VecDeque<Debt>> {
        self.0.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, debt: Debt) {
        self.owed().push_back(debt);
        self.0.changed.notify_waiters();
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> Vec<Debt> {
        self.owed().iter().cloned().collect()
    }

    /// Whether the registry can be told.
    pub(super) fn health(&self) -> &Health {
        &self.0.health
    }

    /// The registry could not be told something. Whether it can be is tried until it can.
    pub(super) fn fails(&self, error: &CallError) {
        self.0.health.fails(&error.to_string());
        self.0.changed.notify_waiters();
    }

    /// Until there is one, or something failed.
    async fn any(&self) {
        loop {
            let changed = self.0.changed.notified();
            if !self.owed().is_empty() || self.0.health.trouble().is_some() {
                return;
            }
            changed.await;
        }
    }

    /// Tell the registry as long as there is something to tell, and wait for more.
    pub(super) async fn pay(self, budgets: Budgets) {
        loop {
            self.any().await;
            self.pay_all(&budgets).await;
        }
    }

    /// Tell the registry all that there is, however long that takes.
    async fn pay_all(&self, budgets: &Budgets) {
        loop {
            let debt = { self.owed().front().cloned() };
            let told = match &debt {
                Some(debt) => budgets.end(debt).await,
                None if self.0.health.trouble().is_some() => budgets.confirm().await,
                None => return,
            };
            match (told, debt) {
                (Ok(()), Some(debt)) => {
                    tracing::warn!("counted at last: {debt}");
                    self.owed().pop_front();
                }
                (Ok(()), None) => self.0.health.recovers(),
                (Err(error), _) => {
                    self.fails(&error);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Tell the registry all that there is, and wait until its store has all of it, however long that takes.
    pub(super) async fn pay_for_good(&self, budgets: &Budgets) {
        loop {
            self.pay_all(budgets).await;
            match budgets.confirm().await {
                Ok(()) => return,
                Err(error) => self.fails(&error),
            }
        }
    }

    /// What was never told.
    pub(super) fn give_up(&self) -> Vec<String> {
        self.owed().drain(..).map(|debt| debt.to_string()).collect()
    }
}

/// Whether another attempt may do.
pub(super) fn may_pass(error: &CallError) -> bool {
    matches!(
        error,
        CallError::Storage(_) | CallError::Store(_) | CallError::Deadline { .. } | CallError::Trap { .. }
    )
}
