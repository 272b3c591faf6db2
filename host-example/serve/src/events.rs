//! What happens to threads, for whoever watches.

use std::sync::Arc;
use thread_budget_host::{BudgetExhausted, BudgetWarning};
use tokio::sync::broadcast;

/// How many events a watcher may be behind before it misses some.
const BACKLOG: usize = 1_024;

/// What happened to a thread.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Its usage, its holds or its limit changed, or it is new or gone.
    Changed {
        /// The thread.
        thread_id: Arc<str>,
    },
    /// A threshold was crossed: what the thread's agent will read.
    Crossed(BudgetWarning),
    /// Warnings went to the agent with its request.
    Delivered {
        /// The thread.
        thread_id: Arc<str>,
        /// The warnings.
        warnings: Vec<BudgetWarning>,
    },
    /// A request was refused.
    Refused {
        /// The thread.
        thread_id: Arc<str>,
        /// Why. Its thread may be an ancestor.
        exhausted: BudgetExhausted,
    },
}

/// Where events are announced. Cheap to clone; without watchers an announcement costs next to nothing.
#[derive(Clone, Debug)]
pub struct Events(broadcast::Sender<Event>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }
}

impl Events {
    /// Announce what `event` makes, if anybody watches.
    pub fn announce(&self, event: impl FnOnce() -> Event) {
        if self.0.receiver_count() > 0 {
            // It fails when the last watcher has just left.
            let _ = self.0.send(event());
        }
    }

    /// Everything that is announced from now on.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }
}
