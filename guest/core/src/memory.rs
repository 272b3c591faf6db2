//! Refusing to grow while there is still room to answer.
//!
//! Inside the component memory is capped by the host, and an allocation that fails where nothing
//! can be returned, inside the standard collections or the canonical ABI, is a trap that loses the
//! whole instance. So state grows only after a check that far more than the growth is free. Calls
//! that add no state, arguments and answers included, then live on what every growth left free.

use alloc::vec::Vec;
use core::hint::black_box;

/// How many blocks must be free before state grows, for each level of the deepest tree of threads: 516
/// KiB. The largest needs of calls that add no state are a consumption that crosses all 100 thresholds of
/// a thread with the longest id, about 130 KB a level, and the arguments of the largest batch that a host
/// may send, which is 4,096 entries with 128 KiB of ids: about 480 KB.
const BLOCKS_PER_LEVEL: u32 = 3;

/// No list of such a call is larger, in bytes. Asking for all in one piece would leave free what lies in
/// several, between threads that stayed.
const BLOCK: usize = 172 * 1_024;

/// What a thread more than ever leaves free beyond that, in bytes: for handles, holds and request ids, and
/// for threads that come in the place of others and fit a little worse.
const SPARE: usize = 64 * 1_024;

/// How far state may grow, in bytes, before memory is looked at again: looking costs as much as a call.
const STEP: usize = 64 * 1_024;

/// Keeps growth away from the memory that calls live on.
#[derive(Debug)]
pub(crate) struct Headroom {
    /// What was free beyond it when that was looked at, less what has grown since. Nothing that was freed
    /// since is in it.
    left: usize,
    /// For a tree of that many levels.
    levels: u32,
}

impl Headroom {
    pub(crate) const fn new() -> Self {
        Self { left: 0, levels: 0 }
    }

    /// Whether state may grow by up to that many bytes beside a tree of that many levels.
    pub(crate) fn allows(&mut self, bytes: usize, levels: u32) -> bool {
        self.has_left(bytes, levels) || has_blocks(levels * BLOCKS_PER_LEVEL, 0)
    }

    /// The same, with room to spare.
    pub(crate) fn allows_sparing(&mut self, bytes: usize, levels: u32) -> bool {
        self.has_left(bytes, levels) || has_blocks(levels * BLOCKS_PER_LEVEL, SPARE)
    }

    fn has_left(&mut self, bytes: usize, levels: u32) -> bool {
        if bytes > self.left || levels > self.levels {
            let far = has_blocks(levels * BLOCKS_PER_LEVEL, SPARE + STEP);
            *self = Self { left: if far { STEP } else { 0 }, levels };
        }
        let enough = bytes <= self.left;
        if enough {
            self.left -= bytes;
        }
        enough
    }
}

fn has_blocks(blocks: u32, rest: usize) -> bool {
    if blocks == 0 { has_room(rest) } else { allocates(BLOCK, || has_blocks(blocks - 1, rest)) }
}

/// Whether one allocation of `bytes` would succeed now.
pub(crate) fn has_room(bytes: usize) -> bool {
    allocates(bytes, || true)
}

/// Whether an allocation of `bytes` succeeds, and something else while it is there.
fn allocates(bytes: usize, and: impl FnOnce() -> bool) -> bool {
    let mut probe = Vec::<u8>::new();
    let room = probe.try_reserve_exact(bytes).is_ok() && and();
    // An allocation that nobody looks at may be optimised away, together with its failure.
    black_box(&probe);
    room
}
