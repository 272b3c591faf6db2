//! All threads of the store, page by page.

use super::reading::{sort, states};
use super::{Lanes, Shared};
use crate::error::CallError;
use crate::store::Cursor;
use crate::types::{ThreadState, Usage};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// How many threads are read at a time.
const PAGE: usize = 1_024;

/// How many listings are remembered, the latest.
const LISTINGS: usize = 64;

/// Where a listing goes on.
#[derive(Clone, Default)]
struct Rest {
    /// What was read and not listed yet.
    read: VecDeque<ThreadState>,
    next: Option<Cursor>,
    is_begun: bool,
}

/// Listings, by the thread that was listed last.
#[derive(Default)]
pub(super) struct Listings(Mutex<VecDeque<(String, Rest)>>);

impl Listings {
    fn take(&self, after: &str) -> Option<Rest> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = known.iter().position(|(last, _)| last == after)?;
        known.remove(at).map(|(_, rest)| rest)
    }

    fn keep(&self, last: &str, rest: Rest) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.push_back((last.into(), rest));
        if known.len() > LISTINGS {
            known.pop_front();
        }
    }
}

impl Lanes {
    /// Up to `limit` threads, those after that one or the first. An empty page is the end.
    pub(crate) async fn page(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ThreadState>, CallError> {
        let shared = &self.shared;
        let mut rest = match after {
            None => Rest::default(),
            Some(after) => match shared.listings.take(after) {
                Some(rest) => rest,
                None => shared.listing_after(after).await?,
            },
        };
        while rest.read.len() < limit && shared.read_more(&mut rest).await? {}
        let page: Vec<_> = rest.read.drain(..limit.min(rest.read.len())).collect();
        if let Some(last) = page.last() {
            shared.listings.keep(&last.thread_id, rest);
        }
        Ok(page)
    }

    /// The usage of every thread, ascending by its id.
    pub(crate) async fn all_usage(&self) -> Result<Vec<(String, Usage)>, CallError> {
        let (mut rest, mut all) = (Rest::default(), Vec::new());
        while self.shared.read_more(&mut rest).await? {
            all.extend(rest.read.drain(..).map(|state| (state.thread_id.clone(), usage(&state))));
        }
        all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(all)
    }
}

impl Shared {
    /// Read some more trees. Says whether there may be more.
    async fn read_more(&self, rest: &mut Rest) -> Result<bool, CallError> {
        if rest.is_begun && rest.next.is_none() {
            return Ok(false);
        }
        let page = self.store.page(rest.next.as_ref(), PAGE).await?;
        (rest.next, rest.is_begun) = (page.next, true);
        for tree in &page.trees {
            let mut states = states(&self.store.name(), tree)?;
            sort(&mut states);
            rest.read.extend(states);
        }
        Ok(true)
    }

    /// A listing from the start that goes on after that thread.
    async fn listing_after(&self, thread_id: &str) -> Result<Rest, CallError> {
        let mut rest = Rest::default();
        while self.read_more(&mut rest).await? {
            if let Some(at) = rest.read.iter().position(|state| state.thread_id == thread_id) {
                rest.read.drain(..=at);
                return Ok(rest);
            }
            rest.read.clear();
        }
        Ok(rest)
    }
}

/// What a state says of its usage.
fn usage(state: &ThreadState) -> Usage {
    let &ThreadState { prompt_tokens, completion_tokens, max_tokens, request_count, .. } = state;
    let total_tokens = prompt_tokens.saturating_add(completion_tokens);
    let remaining = max_tokens.saturating_sub(total_tokens);
    Usage { prompt_tokens, completion_tokens, total_tokens, remaining, max_tokens, request_count }
}
