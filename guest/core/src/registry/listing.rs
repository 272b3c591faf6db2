//! Every thread, by id.

use super::Registry;
use crate::memory::has_room;
use crate::thread::ThreadBudget;
use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Ordering;

impl Registry {
    /// Every thread, ascending by id, for a caller who will copy each id and `row_bytes` beside it; none when
    /// the list and those copies do not fit in memory together.
    pub fn all_threads(&self, row_bytes: usize) -> Option<impl ExactSizeIterator<Item = &ThreadBudget>> {
        let mut all = Vec::new();
        all.try_reserve_exact(self.threads.len()).ok()?;
        let prefix = self.common_prefix();
        let mut copies = 0usize;
        self.threads.iter().for_each(|thread| {
            let id = thread.thread_id();
            all.push(ById { key: eight_bytes_after(prefix, id), thread });
            copies = copies.saturating_add(id.len() + row_bytes);
        });
        if !has_room(copies) {
            return None;
        }
        // A heap sorts in place, without the worst cases or the code size of the slice sorts.
        Some(BinaryHeap::from(all).into_sorted_vec().into_iter().map(|by_id| by_id.thread))
    }

    /// How many bytes all ids start with in common.
    fn common_prefix(&self) -> usize {
        let mut common: Option<&[u8]> = None;
        self.threads.iter().for_each(|thread| {
            let id = thread.thread_id().as_bytes();
            let so_far = common.unwrap_or(id);
            let alike = so_far.iter().zip(id).take_while(|(a, b)| a == b).count();
            common = so_far.get(..alike);
        });
        common.map_or(0, <[u8]>::len)
    }
}

/// The eight bytes of an id after a prefix of that length, in the order of the ids.
fn eight_bytes_after(prefix: usize, id: &str) -> u64 {
    let rest = id.as_bytes().get(prefix..).unwrap_or_default();
    (0..8).fold(0, |key, at| key << 8 | u64::from(rest.get(at).copied().unwrap_or_default()))
}

/// Threads in the order of their ids, most of it decided by a few bytes at hand.
struct ById<'a> {
    key: u64,
    thread: &'a ThreadBudget,
}

impl Ord for ById<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key).then_with(|| self.thread.thread_id().cmp(other.thread.thread_id()))
    }
}

impl PartialOrd for ById<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ById<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ById<'_> {}
