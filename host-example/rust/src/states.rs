//! The states of an instance's threads, page by page, out of it and into it.

use crate::bounds::check_id;
use crate::error::{CallError, InvalidInput};
use crate::instance::Instance;
use crate::types::ThreadState;

/// What is handed to an instance in one call, in bytes; the room that it always keeps is twice that.
const RESTORE_BYTES: usize = 128 << 10;

/// Up to `limit` states, those after the thread `after`. An empty page is the end.
pub(crate) fn snapshot(
    instance: &mut Instance,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<ThreadState>, CallError> {
    instance.call(|registry, store| registry.call_snapshot(store, after, limit))
}

/// Bring threads back, in portions that any instance can take. When one is refused, those before it
/// stay.
pub(crate) fn restore_all(instance: &mut Instance, threads: Vec<ThreadState>) -> Result<(), CallError> {
    let mut portion = Vec::new();
    let mut bytes = 0;
    for thread in threads {
        bytes += bytes_of(&thread);
        if bytes > RESTORE_BYTES && !portion.is_empty() {
            restore_portion(instance, &portion)?;
            portion.clear();
            bytes = bytes_of(&thread);
        }
        portion.push(thread);
    }
    restore_portion(instance, &portion)
}

/// Bring threads back, all or none. They must be few enough for any instance to take.
pub(crate) fn restore(instance: &mut Instance, threads: &[ThreadState]) -> Result<(), CallError> {
    threads.iter().try_for_each(|thread| check_id(&thread.thread_id))?;
    if threads.iter().map(bytes_of).sum::<usize>() > RESTORE_BYTES {
        let reason = "the page is too large; take snapshots with a smaller limit".into();
        return Err(InvalidInput::State { reason }.into());
    }
    restore_portion(instance, threads)
}

fn restore_portion(instance: &mut Instance, portion: &[ThreadState]) -> Result<(), CallError> {
    instance.ask(|registry, store| registry.call_restore(store, portion))
}

/// About what a state takes as an argument.
fn bytes_of(thread: &ThreadState) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let ids = thread.request_ids.iter().map(|id| id.len() + 24).sum::<usize>();
    let holds =
        thread.holds.iter().map(|hold| hold.request_id.len() + text(&hold.made_for) + 80).sum::<usize>();
    let lost =
        thread.lost.iter().map(|lost| lost.request_id.len() + text(&lost.made_for) + 64).sum::<usize>();
    let thresholds = thread.triggered_thresholds.len() * 12;
    176 + thread.thread_id.len() + text(&thread.parent) + thresholds + ids + holds + lost
}
