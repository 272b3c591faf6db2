//! Sorting by a key, in place.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// An item and what it is sorted by.
pub(crate) struct ByKey<K, T>(pub(crate) K, pub(crate) T);

/// Ascending. A heap does it without the worst cases or the code size of the slice sorts.
pub(crate) fn sorted<K: Ord, T>(items: Vec<ByKey<K, T>>) -> impl ExactSizeIterator<Item = T> {
    BinaryHeap::from(items).into_sorted_vec().into_iter().map(|ByKey(_, item)| item)
}

impl<K: Ord, T> Ord for ByKey<K, T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl<K: Ord, T> PartialOrd for ByKey<K, T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord, T> PartialEq for ByKey<K, T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<K: Ord, T> Eq for ByKey<K, T> {}
