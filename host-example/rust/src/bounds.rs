//! What a call may be given. An argument beyond these bounds never reaches an instance, which has to fit it
//! into its memory.

use crate::error::InvalidInput;
use crate::types::UsageEntry;

/// The longest thread id, in bytes of UTF-8. The shortest is one byte.
pub const MAX_THREAD_ID_BYTES: usize = 1_024;

/// The longest request id, in bytes of UTF-8. The shortest is one byte.
pub const MAX_REQUEST_ID_BYTES: usize = 256;

/// The smallest memory cap: with less than this an argument may not fit, and that is a trap.
pub const MIN_MEMORY_BYTES: usize = 1 << 20;

/// The most entries of a batch.
pub const MAX_BATCH: usize = 4_096;

/// The most bytes that the thread ids of a batch may have together: what an instance can take even at
/// its memory cap.
pub const MAX_BATCH_ID_BYTES: usize = 128 << 10;

/// The most thresholds there can be: one for each percent. Also the most warnings of a thread.
pub const MAX_THRESHOLDS: usize = 100;

/// Whether it can be the id of a thread, without asking a registry.
///
/// # Errors
/// [`InvalidInput::ThreadId`].
pub fn check_id(thread_id: &str) -> Result<(), InvalidInput> {
    match thread_id.len() {
        1..=MAX_THREAD_ID_BYTES => Ok(()),
        bytes => Err(InvalidInput::ThreadId { bytes }),
    }
}

pub(crate) fn check_ids(thread_id: &str, request_id: &str) -> Result<(), InvalidInput> {
    check_id(thread_id)?;
    match request_id.len() {
        1..=MAX_REQUEST_ID_BYTES => Ok(()),
        bytes => Err(InvalidInput::RequestId { bytes }),
    }
}

/// Whether an instance can take the batch even at its memory cap.
pub(crate) fn check_batch(entries: &[UsageEntry]) -> Result<(), InvalidInput> {
    entries.iter().try_for_each(|entry| check_id(&entry.thread_id))?;
    let id_bytes = entries.iter().map(|entry| entry.thread_id.len()).sum();
    if entries.len() > MAX_BATCH || id_bytes > MAX_BATCH_ID_BYTES {
        return Err(InvalidInput::BatchTooLarge { entries: entries.len(), id_bytes });
    }
    Ok(())
}

/// Whether there are no more of something than percents.
pub(crate) fn check_percents<T>(list: &[T]) -> Result<(), InvalidInput> {
    match list.len() {
        0..=MAX_THRESHOLDS => Ok(()),
        count => Err(InvalidInput::TooManyThresholds { count }),
    }
}
