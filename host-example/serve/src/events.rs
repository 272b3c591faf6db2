//! What happens to threads, for whoever watches and for whoever comes later.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use thread_budget_host::{BudgetExhausted, BudgetWarning};
use tokio::sync::broadcast;

/// How many events a watcher may be behind before it misses some.
const BACKLOG: usize = 1_024;

/// How much of what has happened is kept, the latest.
const KEPT: usize = 200;

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

/// Something that has happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Its number, from 1, among those that are kept; 0 of a mere change.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What.
    pub event: Event,
}

/// What has happened before.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// The latest of it, in its order.
    pub told: VecDeque<Told>,
    /// How much there was in all.
    pub count: u64,
    /// How many requests were refused.
    pub refused: u64,
}

/// Where events are announced. Cheap to clone; without watchers a change costs next to nothing.
#[derive(Clone, Debug)]
pub struct Events(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sender: broadcast::Sender<Told>,
    past: Mutex<Past>,
}

impl Default for Events {
    fn default() -> Self {
        Self(Arc::new(Inner { sender: broadcast::Sender::new(BACKLOG), past: Mutex::default() }))
    }
}

impl Events {
    fn past_now(&self) -> MutexGuard<'_, Past> {
        self.0.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread has changed: its usage, its holds or its limit, or it is new or gone.
    pub fn changed(&self, thread_id: &str) {
        if self.0.sender.receiver_count() > 0 {
            let event = Event::Changed { thread_id: thread_id.into() };
            // It fails when the last watcher has just left.
            let _ = self.0.sender.send(Told { number: 0, at_ms: 0, event });
        }
    }

    /// Announce something that is kept for those who come later.
    pub fn announce(&self, event: Event) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let mut past = self.past_now();
        past.count += 1;
        past.refused += u64::from(matches!(event, Event::Refused { .. }));
        let told = Told { number: past.count, at_ms, event };
        past.told.push_back(told.clone());
        if past.told.len() > KEPT {
            past.told.pop_front();
        }
        // In the order of their numbers. It fails when nobody watches.
        let _ = self.0.sender.send(told);
    }

    /// Everything that is announced from now on.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Told> {
        self.0.sender.subscribe()
    }

    /// What was announced so far.
    #[must_use]
    pub fn past(&self) -> Past {
        self.past_now().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_is_kept_and_all_is_counted() {
        let events = Events::default();
        let exhausted =
            BudgetExhausted { thread_id: "a".into(), used: 1, held: 0, max_tokens: 1, requested: 1 };
        for number in 0..300_u64 {
            events.changed("a");
            let thread_id = number.to_string().into();
            events.announce(Event::Refused { thread_id, exhausted: exhausted.clone() });
        }
        let past = events.past();
        assert_eq!((past.told.len(), past.count, past.refused), (KEPT, 300, 300));
        assert_eq!((past.told[0].number, past.told[KEPT - 1].number), (101, 300));
    }
}
