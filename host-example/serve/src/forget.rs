//! Threads that nobody has used for long are forgotten, where the operator wants that: never while they or one
//! below them hold anything, and only together with all below them.

use super::budgets::Budgets;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use thread_budget_host::CallError;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

/// Threads are looked at in portions, between which others get at the registry.
const PAGE: u32 = 1_024;

/// How often they are looked at, at most and at least: eight times in the time after which they are forgotten.
const SHORTEST_PACE: Duration = Duration::from_millis(50);
const LONGEST_PACE: Duration = Duration::from_secs(60);

/// When threads were used, as far as this process knows. Cheap to clone; it costs nothing where none is forgotten.
#[derive(Clone, Default)]
pub(super) struct Uses(Option<Arc<Inner>>);

struct Inner {
    /// How long a thread is not used before it is forgotten.
    after: Duration,
    /// Shared by whoever holds something; whoever forgets has it alone.
    gate: Arc<RwLock<()>>,
    latest: Mutex<HashMap<String, Instant>>,
}

impl Uses {
    /// Those of a registry whose threads are forgotten after so long; never without it.
    pub(super) fn new(after: Option<Duration>) -> Self {
        Self(after.map(|after| Arc::new(Inner { after, gate: Arc::default(), latest: Mutex::default() })))
    }

    /// A request is about to hold something: no thread is forgotten that is used from now on, and none at all before
    /// what this returns is dropped.
    pub(super) async fn begin(&self) -> Option<OwnedRwLockReadGuard<()>> {
        Some(self.0.as_ref()?.gate.clone().read_owned().await)
    }

    /// A thread is used.
    pub(super) fn used(&self, thread_id: &str) {
        if let Some(inner) = &self.0 {
            inner.used(thread_id);
        }
    }

    /// Forget each thread when its time has come.
    pub(super) async fn watch(self, budgets: Budgets) {
        let Some(inner) = self.0 else { return };
        loop {
            tokio::time::sleep((inner.after / 8).clamp(SHORTEST_PACE, LONGEST_PACE)).await;
            match inner.forget(&budgets).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "forgot threads that nobody uses, with all below them"),
                Err(error) => tracing::warn!(%error, "cannot forget threads that nobody uses"),
            }
        }
    }
}

/// Threads that have not been used for long: one, and all below it.
struct Unused {
    thread_id: String,
    below: Vec<String>,
}

impl Inner {
    fn latest(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(&self, thread_id: &str) {
        let mut latest = self.latest();
        match latest.get_mut(thread_id) {
            Some(latest) => *latest = Instant::now(),
            None => _ = latest.insert(thread_id.into(), Instant::now()),
        }
    }

    /// How many were forgotten, with those below them.
    async fn forget(&self, budgets: &Budgets) -> Result<usize, CallError> {
        let mut threads: Vec<(String, Option<String>)> = Vec::new();
        loop {
            let after = threads.last().map(|(thread_id, _)| thread_id.as_str());
            let page = budgets.registry.snapshot(after, PAGE).await?;
            if page.is_empty() {
                break;
            }
            threads.extend(page.into_iter().map(|state| (state.thread_id, state.parent)));
        }
        let mut count = 0;
        for unused in self.unused(threads, Instant::now()) {
            count += usize::from(self.forget_one(budgets, &unused).await?);
        }
        Ok(count)
    }

    /// Which of these threads, a parent before its children, have not been used for long. Of one that this
    /// process has not seen before it is counted from now on.
    fn unused(&self, threads: Vec<(String, Option<String>)>, now: Instant) -> Vec<Unused> {
        let places: HashMap<&str, usize> =
            threads.iter().enumerate().map(|(place, (thread_id, _))| (thread_id.as_str(), place)).collect();
        let parents: Vec<Option<usize>> = threads
            .iter()
            .map(|(_, parent)| parent.as_deref().and_then(|parent| places.get(parent).copied()))
            .collect();
        let mut uses: Vec<Instant> = {
            let mut latest = self.latest();
            latest.retain(|thread_id, used| places.contains_key(thread_id.as_str()) || *used > now);
            let used = |(thread_id, _): &(String, _)| *latest.entry(thread_id.clone()).or_insert(now);
            threads.iter().map(used).collect()
        };
        for (place, parent) in parents.iter().enumerate().rev() {
            if let Some(parent) = *parent {
                uses[parent] = uses[parent].max(uses[place]);
            }
        }
        let is_unused = |place: usize| now.saturating_duration_since(uses[place]) >= self.after;
        // By the place of the topmost.
        let mut tops: Vec<Option<usize>> = Vec::with_capacity(threads.len());
        let mut unused: HashMap<usize, Unused> = HashMap::new();
        for (place, (thread_id, _)) in threads.into_iter().enumerate() {
            let above = parents[place].and_then(|parent| tops[parent]);
            let top = above.or_else(|| is_unused(place).then_some(place));
            tops.push(top);
            match (above, top) {
                (Some(above), _) => _ = unused.entry(above).and_modify(|top| top.below.push(thread_id)),
                (None, Some(top)) => _ = unused.insert(top, Unused { thread_id, below: Vec::new() }),
                (None, None) => {}
            }
        }
        unused.into_values().collect()
    }

    /// Forget a thread and those below it, unless one is used by now.
    async fn forget_one(
        &self,
        budgets: &Budgets,
        Unused { thread_id, below }: &Unused,
    ) -> Result<bool, CallError> {
        let _alone = self.gate.write().await;
        let was_used = {
            let latest = self.latest();
            let mut all = below.iter().chain([thread_id]);
            all.any(|thread_id| latest.get(thread_id).is_none_or(|used| used.elapsed() < self.after))
        };
        if was_used || budgets.registry.held_tokens(thread_id).await? > 0 {
            return Ok(false);
        }
        budgets.registry.cleanup_thread(thread_id).await?;
        budgets.events.changed(thread_id);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn threads_go_with_all_below_them_and_stay_for_one_that_is_used() {
        let uses = Uses::new(Some(HOUR));
        let inner = uses.0.as_ref().unwrap();
        let threads = |ids: &[(&str, Option<&str>)]| {
            ids.iter().map(|(id, parent)| ((*id).into(), parent.map(Into::into))).collect()
        };
        let all = [
            ("idle", None),
            ("idle/a", Some("idle")),
            ("idle/a/b", Some("idle/a")),
            ("lead", None),
            ("lead/idle", Some("lead")),
            ("lead/busy", Some("lead")),
        ];
        let begun = Instant::now();
        assert_eq!(inner.unused(threads(&all), begun).len(), 0, "they are counted from now on");
        let later = begun + HOUR;
        inner.latest().insert("lead/busy".into(), later);
        let mut unused = inner.unused(threads(&all), later);
        unused.sort_by(|a, b| a.thread_id.cmp(&b.thread_id));
        let found: Vec<_> = unused.iter().map(|unused| (&*unused.thread_id, unused.below.len())).collect();
        assert_eq!(found, [("idle", 2), ("lead/idle", 0)]);
        assert_eq!(inner.unused(threads(&[]), later + HOUR).len(), 0);
        assert!(inner.latest().is_empty(), "what is gone is not kept");
    }
}
