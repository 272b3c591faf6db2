//! The registry, as an exchange uses it.

use crate::bindings::thread_budget::registry::registry;
use crate::bindings::thread_budget::registry::types::RegistryError;
use crate::bindings::thread_budget::router::policy::{
    Acknowledged, Event, Hold, HoldName, Kept, Opening, Settle,
};

/// Open threads and hold, or change what is held.
pub(crate) fn hold(asked: &Hold) -> Event {
    match asked.open.iter().try_for_each(open).and_then(|()| {
        // Whoever keeps the registry says who holds, and until when.
        registry::hold(
            &asked.thread_id,
            &asked.request_id,
            asked.prompt_tokens,
            asked.completion_tokens,
            asked.least_completion_tokens,
            0,
            0,
        )
    }) {
        Ok(held) => Event::Held(held),
        Err(error) => Event::NotHeld(error),
    }
}

/// Open a thread, unless it exists.
fn open(Opening { thread_id, options }: &Opening) -> Result<(), RegistryError> {
    if registry::has_budget(thread_id) {
        return Ok(());
    }
    registry::open_thread(thread_id, options).map(drop)
}

/// Count what was used in the place of what is held.
pub(crate) fn settle(asked: &Settle) -> Event {
    let Settle { thread_id, request_id, prompt_tokens, completion_tokens, remember } = asked;
    match registry::settle(thread_id, request_id, *prompt_tokens, *completion_tokens, *remember) {
        Ok(consumed) => Event::Settled(consumed),
        Err(error) => Event::NotSettled(error),
    }
}

/// Let go of what is held.
pub(crate) fn release(HoldName { thread_id, request_id }: &HoldName) {
    registry::release(thread_id, request_id);
}

/// Nobody is left to wait for a response in the background: what is held for it counts.
pub(crate) fn charge(kept: &Kept) {
    let Kept { name, hold: HoldName { thread_id, request_id }, prompt_tokens, completion_tokens, .. } = kept;
    match registry::settle_lost(thread_id, request_id, *prompt_tokens, *completion_tokens) {
        Ok(_) => eprintln!(
            "thread {thread_id:?}: {name:?} goes on in the background; charged {prompt_tokens} prompt and \
             {completion_tokens} completion tokens, all that was held"
        ),
        Err(error) => eprintln!("thread {thread_id:?}: {name:?} is NOT counted: {error}"),
    }
}

/// The agent has these warnings.
pub(crate) fn acknowledge(Acknowledged { thread_id, warnings }: &Acknowledged) {
    registry::acknowledge_warnings(thread_id, warnings);
}
