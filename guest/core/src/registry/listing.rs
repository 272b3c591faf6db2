//! Every thread, by id.

use super::Registry;
use crate::error::RegistryError;
use crate::memory::has_room;
use crate::sorted::{ByKey, sorted};
use crate::thread::ThreadBudget;
use alloc::vec::Vec;

impl Registry {
    /// Every thread, ascending by id, for a caller who will copy each id and `row_bytes` beside it.
    ///
    /// # Errors
    /// [`RegistryError::OutOfMemory`] when the list and those copies do not fit in memory together.
    pub fn all_threads(
        &self,
        row_bytes: usize,
    ) -> Result<impl ExactSizeIterator<Item = &ThreadBudget>, RegistryError> {
        let mut all = Vec::new();
        all.try_reserve_exact(self.threads.len()).map_err(|_| RegistryError::OutOfMemory)?;
        let prefix = self.common_prefix();
        let mut copies = 0usize;
        self.threads.iter().for_each(|thread| {
            let id = thread.thread_id();
            // Most of the order is decided by a few bytes at hand.
            all.push(ByKey((eight_bytes_after(prefix, id), id), thread));
            copies = copies.saturating_add(id.len() + row_bytes);
        });
        if has_room(copies) { Ok(sorted(all)) } else { Err(RegistryError::OutOfMemory) }
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
