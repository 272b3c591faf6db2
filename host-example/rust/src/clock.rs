//! The time, as holds and births have it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Since the beginning of 1970. A clock that stands before it counts as that.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Milliseconds since the beginning of 1970: what deadlines of holds are.
pub(crate) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A birth above those of every thread before, unless more than a million were made each second.
pub(crate) fn birth() -> u64 {
    u64::try_from(now().as_micros()).unwrap_or(u64::MAX)
}
