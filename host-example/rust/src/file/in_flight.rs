//! The calls that were in flight when a file was written last.

use crate::calls::{Operation, Release, SetHold, SettleLost};
use crate::lost::{LostCalls, Slices};
use crate::types::ThreadState;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// By thread and request, so that they are settled in the same order every time.
#[derive(Default)]
pub(super) struct InFlight(BTreeMap<(String, String), Call>);

struct Call {
    slices: Slices,
    holder: u64,
}

impl InFlight {
    /// Those of a checkpoint.
    pub(super) fn add(&mut self, thread: &ThreadState) {
        for hold in &thread.holds {
            let thread_id = hold.made_for.as_ref().unwrap_or(&thread.thread_id);
            let slices = Slices {
                prompt_tokens: hold.prompt_tokens,
                completion_tokens: hold.completion_tokens,
                completion_before: hold.completion_before,
            };
            self.0.insert((thread_id.clone(), hold.request_id.clone()), Call { slices, holder: hold.holder });
        }
    }

    /// One was begun or has changed, and was granted so much completion.
    pub(super) fn set(&mut self, call: &SetHold<'_>, completion_tokens: u64) {
        match self.0.entry((call.thread_id.clone().into_owned(), call.request_id.clone().into_owned())) {
            Entry::Vacant(entry) => {
                let slices = Slices::new(call.prompt_tokens, completion_tokens);
                entry.insert(Call { slices, holder: call.holder });
            }
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                known.slices.set(call.prompt_tokens, completion_tokens);
                known.holder = call.holder;
            }
        }
    }

    /// One has ended.
    pub(super) fn end(&mut self, thread_id: &str, request_id: &str) {
        self.0.remove(&(thread_id.to_owned(), request_id.to_owned()));
    }

    /// What settles those of all holders but one. Some may have ended with their threads.
    pub(super) fn settle(
        self,
        holder: u64,
        lost_calls: LostCalls,
    ) -> impl Iterator<Item = Operation<'static>> {
        let lost = self.0.into_iter().filter(move |(_, call)| call.holder != holder);
        lost.map(move |((thread_id, request_id), call)| {
            let (thread_id, request_id) = (thread_id.into(), request_id.into());
            match call.slices.charge(lost_calls) {
                Some((prompt_tokens, completion_tokens)) => Operation::SettleLost(SettleLost {
                    thread_id,
                    request_id,
                    prompt_tokens,
                    completion_tokens,
                }),
                None => Operation::Release(Release { thread_id, request_id }),
            }
        })
    }
}
