//! The threads as the admin side tells of them.
//!
//! Numbers are asked of the registry when they are told. What a thread is related to and which of its
//! warnings nobody has read the contract tells in snapshots only, so those come from a census: one pass
//! over all threads, taken when it is asked for and good for twenty times as long as it took. So at most
//! a twentieth of the registry's time goes to it, and with few threads it is never behind.

use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Instant;
use thread_budget_host::blocking::Registry;
use thread_budget_host::{CallError, ThreadState, Threshold};

/// The most threads that are told of at once as the largest.
pub(super) const MAX_LARGEST: usize = 500;

/// Threads are counted in portions, between which others get at the registry.
const PAGE: u32 = 1_024;

/// How many times as long as it took a census is good for.
const GOOD_FOR: u32 = 20;

/// A thread, as `GET /threads` and `GET /events` tell of it. Counts are tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thread {
    /// Its id.
    pub thread_id: Arc<str>,
    /// Its parent's id; none when it has none, or when it is so new that this is not known yet.
    pub parent: Option<Arc<str>>,
    /// Its limit.
    pub max_tokens: u64,
    /// Prompt tokens, summed over all requests.
    pub prompt_tokens: u64,
    /// Completion tokens, summed over all requests.
    pub completion_tokens: u64,
    /// Both together; may pass `max_tokens`.
    pub total_tokens: u64,
    /// Tokens left, 0 once the limit is reached or passed.
    pub remaining: u64,
    /// `total_tokens / max_tokens * 100`, not rounded; 0 when the limit is 0.
    pub percent_used: f64,
    /// Tokens that requests in flight hold, of this thread and of those below it.
    pub held_tokens: u64,
    /// How many times consumption was recorded.
    pub request_count: u64,
    /// How many requests like the latest ones still fit into what is left of it, as of the latest census; none
    /// before the first.
    pub runway: Option<u64>,
    /// The thresholds crossed, percent, ascending.
    pub triggered_thresholds: Vec<u32>,
    /// Those of them whose warnings are pending, as of the latest census.
    pub pending_thresholds: Vec<Threshold>,
}

/// All threads together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// How many there are.
    pub threads: u64,
    /// Prompt tokens, each counted once: those of the threads without a parent.
    pub prompt_tokens: u64,
    /// Completion tokens, counted likewise.
    pub completion_tokens: u64,
    /// Threads that have used their limit up.
    pub exhausted_threads: u64,
    /// Warnings that no agent has.
    pub pending_warnings: u64,
}

/// Everything that only a pass over all threads can tell.
pub(super) struct Census {
    /// What happened before this it has seen.
    pub(super) begun: Instant,
    good_until: Instant,
    pub(super) totals: Totals,
    /// The largest by total, the largest first.
    largest: Vec<Arc<str>>,
    /// Of the threads that have one.
    parents: HashMap<Arc<str>, Arc<str>>,
    children: HashMap<Arc<str>, Vec<Arc<str>>>,
    /// Of the threads that have some.
    pending: HashMap<Arc<str>, Vec<Threshold>>,
    /// Of the requests of threads that had some, in tokens.
    averages: HashMap<Arc<str>, u64>,
}

impl Census {
    fn of(registry: &Registry) -> Result<Self, CallError> {
        let begun = Instant::now();
        let mut census = Self {
            begun,
            good_until: begun,
            totals: Totals::default(),
            largest: Vec::new(),
            parents: HashMap::new(),
            children: HashMap::new(),
            pending: HashMap::new(),
            averages: HashMap::new(),
        };
        // The smallest of them on top.
        let mut largest: BinaryHeap<Reverse<(u64, Reverse<String>)>> = BinaryHeap::new();
        let mut after: Option<String> = None;
        loop {
            let page = registry.snapshot(after.as_deref(), PAGE)?;
            let Some(last) = page.last() else { break };
            after = Some(last.thread_id.clone());
            for state in page {
                let total = census.count(&state);
                if largest.len() < MAX_LARGEST
                    || largest.peek().is_some_and(|Reverse((least, _))| *least < total)
                {
                    largest.push(Reverse((total, Reverse(state.thread_id))));
                    if largest.len() > MAX_LARGEST {
                        largest.pop();
                    }
                }
            }
        }
        census.largest =
            largest.into_sorted_vec().into_iter().map(|Reverse((_, Reverse(id)))| id.into()).collect();
        let now = Instant::now();
        census.good_until = now + (now - begun) * GOOD_FOR;
        Ok(census)
    }

    /// Count a thread, and return its total.
    fn count(&mut self, state: &ThreadState) -> u64 {
        let total = state.prompt_tokens.saturating_add(state.completion_tokens);
        let totals = &mut self.totals;
        totals.threads += 1;
        totals.exhausted_threads += u64::from(total >= state.max_tokens);
        totals.pending_warnings += state.pending_thresholds.len() as u64;
        if let Some(parent) = &state.parent {
            let (child, parent): (Arc<str>, Arc<str>) =
                (state.thread_id.as_str().into(), parent.as_str().into());
            self.children.entry(Arc::clone(&parent)).or_default().push(Arc::clone(&child));
            self.parents.insert(child, parent);
        } else {
            totals.prompt_tokens = totals.prompt_tokens.saturating_add(state.prompt_tokens);
            totals.completion_tokens = totals.completion_tokens.saturating_add(state.completion_tokens);
        }
        if state.average_tokens > 0 {
            self.averages.insert(state.thread_id.as_str().into(), state.average_tokens);
        }
        if !state.pending_thresholds.is_empty() {
            self.pending.insert(state.thread_id.as_str().into(), state.pending().collect());
        }
        total
    }

    pub(super) fn parent(&self, thread_id: &str) -> Option<&Arc<str>> {
        self.parents.get(thread_id)
    }

    pub(super) fn children(&self, thread_id: &str) -> &[Arc<str>] {
        self.children.get(thread_id).map_or(&[], Vec::as_slice)
    }
}

/// The threads of a registry. Every method may take as long as its calls do.
pub(super) struct Threads {
    pub(super) registry: Registry,
    census: Mutex<Option<Arc<Census>>>,
    /// Held by whoever counts.
    counting: Mutex<()>,
}

impl Threads {
    pub(super) fn new(registry: Registry) -> Self {
        Self { registry, census: Mutex::default(), counting: Mutex::default() }
    }

    /// The latest census that is still good, or a new one. While one is taken others get the one before.
    pub(super) fn census(&self) -> Result<Arc<Census>, CallError> {
        let latest = || self.census.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_good = |census: &Arc<Census>| Instant::now() < census.good_until;
        let old = latest();
        if let Some(good) = old.as_ref().filter(|census| is_good(census)) {
            return Ok(Arc::clone(good));
        }
        let _counting = match (self.counting.try_lock(), old) {
            (Ok(counting), _) => counting,
            (Err(TryLockError::WouldBlock), Some(old)) => return Ok(old),
            (Err(_), _) => self.counting.lock().unwrap_or_else(PoisonError::into_inner),
        };
        // Another may have counted meanwhile.
        if let Some(good) = latest().filter(is_good) {
            return Ok(good);
        }
        let census = Arc::new(Census::of(&self.registry)?);
        *self.census.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&census));
        Ok(census)
    }

    /// One thread as it is now, if it exists; what only a census can tell is from that one.
    pub(super) fn find(&self, thread_id: &str, census: &Census) -> Result<Option<Thread>, CallError> {
        let Some(budget) = self.registry.find_budget(thread_id)? else { return Ok(None) };
        let usage = budget.usage()?;
        Ok(Some(Thread {
            thread_id: thread_id.into(),
            parent: census.parent(thread_id).cloned(),
            max_tokens: usage.max_tokens,
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.total_tokens,
            remaining: usage.remaining,
            percent_used: percent(usage.total_tokens, usage.max_tokens),
            held_tokens: budget.held_tokens()?,
            request_count: usage.request_count,
            runway: census.averages.get(thread_id).and_then(|average| usage.remaining.checked_div(*average)),
            triggered_thresholds: budget.triggered_thresholds()?,
            pending_thresholds: census.pending.get(thread_id).cloned().unwrap_or_default(),
        }))
    }

    /// Up to `limit` threads after the thread `after`, in the order of snapshots.
    pub(super) fn page(&self, after: Option<&str>, limit: u32) -> Result<Vec<Thread>, CallError> {
        let page = self.registry.snapshot(after, limit)?;
        page.into_iter()
            .map(|state| {
                let total_tokens = state.prompt_tokens.saturating_add(state.completion_tokens);
                let remaining = state.max_tokens.saturating_sub(total_tokens);
                Ok(Thread {
                    held_tokens: self.registry.held_tokens(&state.thread_id)?,
                    pending_thresholds: state.pending().collect(),
                    triggered_thresholds: state.triggered_thresholds.iter().map(|t| t.percent).collect(),
                    thread_id: state.thread_id.into(),
                    parent: state.parent.map(Into::into),
                    max_tokens: state.max_tokens,
                    prompt_tokens: state.prompt_tokens,
                    completion_tokens: state.completion_tokens,
                    total_tokens,
                    remaining,
                    runway: remaining.checked_div(state.average_tokens),
                    percent_used: percent(total_tokens, state.max_tokens),
                    request_count: state.request_count,
                })
            })
            .collect()
    }

    /// The `count` threads that had used most when the census was taken, and those above them, as they
    /// are now, the largest first.
    pub(super) fn largest(&self, census: &Census, count: usize) -> Result<Vec<Thread>, CallError> {
        let mut chosen: HashSet<&Arc<str>> = HashSet::new();
        for thread_id in census.largest.iter().take(count) {
            let mut next = Some(thread_id);
            while let Some(thread_id) = next.filter(|thread_id| chosen.insert(thread_id)) {
                next = census.parent(thread_id);
            }
        }
        let mut threads = Vec::with_capacity(chosen.len());
        for thread_id in chosen {
            threads.extend(self.find(thread_id, census)?);
        }
        threads.sort_unstable_by(|a, b| {
            b.total_tokens.cmp(&a.total_tokens).then_with(|| a.thread_id.cmp(&b.thread_id))
        });
        Ok(threads)
    }
}

/// As the contract has it.
fn percent(total_tokens: u64, max_tokens: u64) -> f64 {
    if max_tokens == 0 { 0.0 } else { total_tokens as f64 / max_tokens as f64 * 100.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use thread_budget_host::ThreadOptions;

    /// Long enough that no other census is due.
    fn keep(census: &Arc<Census>, threads: &Threads) {
        let mut kept = Census::of(&threads.registry).unwrap();
        kept.good_until = Instant::now() + Duration::from_secs(60);
        assert_eq!(kept.totals, census.totals);
        *threads.census.lock().unwrap() = Some(Arc::new(kept));
    }

    #[test]
    fn a_census_is_kept_as_long_as_it_is_good() {
        let registry =
            thread_budget_host::Registry::builder().tokens_per_thread(1_000).build().unwrap().blocking();
        let threads = Threads::new(registry.clone());
        let empty = threads.census().unwrap();
        assert_eq!(empty.totals, Totals::default());
        keep(&empty, &threads);
        registry.consume("a", 800, 10).unwrap();
        assert_eq!(threads.census().unwrap().totals.threads, 0);
        *threads.census.lock().unwrap() = None;
        let fresh = threads.census().unwrap();
        assert_eq!(fresh.totals.pending_warnings, 1);
    }

    #[test]
    fn tokens_of_children_are_counted_once_and_the_largest_come_with_their_ancestors() {
        let registry = thread_budget_host::Registry::builder().build().unwrap().blocking();
        let below = |parent: &str| ThreadOptions { max_tokens: Some(500), parent: Some(parent.into()) };
        registry.get_budget("root").unwrap();
        registry.open_thread("child", &below("root")).unwrap();
        registry.open_thread("leaf", &below("child")).unwrap();
        registry.consume("leaf", 400, 100).unwrap();
        for other in 0..MAX_LARGEST + 10 {
            registry.consume(&format!("other-{other:03}"), 1_000, other as u64).unwrap();
        }
        registry.reset_thread("root").unwrap();
        let threads = Threads::new(registry);
        let census = threads.census().unwrap();
        assert_eq!(census.totals.threads, 3 + MAX_LARGEST as u64 + 10);
        assert_eq!(census.totals.prompt_tokens, 1_000 * (MAX_LARGEST as u64 + 10));
        assert_eq!(census.totals.exhausted_threads, 2);
        assert_eq!(census.children("root"), ["child".into()]);

        let largest = threads.largest(&census, 3).unwrap();
        let ids: Vec<_> = largest.iter().map(|thread| &*thread.thread_id).collect();
        assert_eq!(ids, ["other-509", "other-508", "other-507"]);
        let mut with_leaf = Census::of(&threads.registry).unwrap();
        with_leaf.largest = vec!["leaf".into()];
        let lines = threads.largest(&with_leaf, 1).unwrap();
        let ids: Vec<_> = lines.iter().map(|thread| &*thread.thread_id).collect();
        assert_eq!(ids, ["child", "leaf", "root"]);
    }
}
