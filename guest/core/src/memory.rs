//! Refusing to grow while there is still room to answer.
//!
//! Inside the component memory is capped by the host, and an allocation that fails where nothing
//! can be returned, inside the standard collections or the canonical ABI, is a trap that loses the
//! whole instance. So state grows only after a check that far more than the growth is free. Calls
//! that add no state, arguments and answers included, then live on what every growth left free.

use alloc::vec::Vec;
use core::hint::black_box;

/// What must be free before state grows, in bytes, for each level of the deepest tree of threads. The
/// largest needs of calls that add no state are a consumption that crosses all 100 thresholds of a
/// thread with the longest id, about 130 KB a level, and the arguments of the largest batch that a
/// host may send, which is 4,096 entries with 128 KiB of ids: about 480 KB.
const HEADROOM: usize = 512 * 1_024;

/// Whether there is [`HEADROOM`] for that many levels. Each level's is asked for by itself: no single
/// allocation is larger, and a larger one could not use what is free already.
pub(crate) fn has_headroom(levels: u32) -> bool {
    let mut probe = Vec::<u8>::new();
    let room = probe.try_reserve_exact(HEADROOM).is_ok() && (levels <= 1 || has_headroom(levels - 1));
    // An allocation that nobody looks at may be optimised away, together with its failure.
    black_box(&probe);
    room
}

/// Whether one allocation of `bytes` would succeed now.
pub(crate) fn has_room(bytes: usize) -> bool {
    let mut probe = Vec::<u8>::new();
    let room = probe.try_reserve_exact(bytes).is_ok();
    black_box(&probe);
    room
}
