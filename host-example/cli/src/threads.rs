//! The threads of a registry: all of them, and the largest as a list for people.

use super::Failure;
use super::outcomes::Outcome;
use serde::Serialize;
use std::collections::HashMap;
use thread_budget_host::blocking::Registry;
use thread_budget_host::{CallError, ThreadState, Threshold};

/// Threads are fetched in portions.
const PAGE: u32 = 1_024;

/// A thread that is shown.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    pub(super) thread_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<String>,
    pub(super) total_tokens: u64,
    pub(super) max_tokens: u64,
    pub(super) percent_used: f64,
    /// How many of its ancestors are shown above it.
    #[serde(skip)]
    pub(super) depth: usize,
    /// The thresholds whose warnings are pending, where they are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pending_thresholds: Option<Vec<Threshold>>,
    /// What would have become of it, where that is known.
    #[serde(flatten)]
    pub(super) outcome: Option<Outcome>,
}

/// Every thread, in pages, parents before their children.
pub(super) fn pages(registry: &Registry) -> impl Iterator<Item = Result<Vec<ThreadState>, CallError>> {
    let mut after: Option<String> = None;
    std::iter::from_fn(move || {
        let page = registry.snapshot(after.as_deref(), PAGE);
        if let Ok(page) = &page {
            after = Some(page.last()?.thread_id.clone());
        }
        Some(page)
    })
}

/// Every thread, parents before their children.
pub(super) fn threads(registry: &Registry) -> Result<Vec<ThreadState>, Failure> {
    let mut threads = Vec::new();
    for page in pages(registry) {
        threads.append(&mut page?);
    }
    Ok(threads)
}

pub(super) fn total_tokens(thread: &ThreadState) -> u64 {
    thread.prompt_tokens.saturating_add(thread.completion_tokens)
}

/// The `count` largest, largest first but each child below its parent; those that used the same in the
/// order of their ids. With the thresholds whose warnings are pending, if `pending`.
pub(super) fn largest(
    registry: &Registry,
    mut threads: Vec<ThreadState>,
    count: usize,
    pending: bool,
) -> Result<Vec<Shown>, Failure> {
    threads.sort_by(|a, b| total_tokens(b).cmp(&total_tokens(a)).then_with(|| a.thread_id.cmp(&b.thread_id)));
    threads.truncate(count);
    let numbers: HashMap<&str, usize> =
        threads.iter().enumerate().map(|(number, thread)| (&*thread.thread_id, number)).collect();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); threads.len()];
    let mut roots = Vec::new();
    for (number, thread) in threads.iter().enumerate() {
        let parent = thread.parent.as_deref().and_then(|parent| numbers.get(parent));
        parent.map_or(&mut roots, |parent| &mut children[*parent]).push(number);
    }

    let mut shown = Vec::with_capacity(threads.len());
    // The next to be shown is at the end.
    let mut rest: Vec<(usize, usize)> = roots.into_iter().rev().map(|number| (number, 0)).collect();
    while let Some((number, depth)) = rest.pop() {
        let thread = &threads[number];
        shown.push(Shown {
            thread_id: thread.thread_id.clone(),
            parent: thread.parent.clone(),
            total_tokens: total_tokens(thread),
            max_tokens: thread.max_tokens,
            percent_used: registry.get_budget(&thread.thread_id)?.percent_used()?,
            depth,
            pending_thresholds: pending.then(|| thread.pending().collect()),
            outcome: None,
        });
        rest.extend(children[number].iter().rev().map(|child| (*child, depth + 1)));
    }
    Ok(shown)
}
