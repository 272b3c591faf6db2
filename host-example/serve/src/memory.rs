//! How much memory exchanges may take: their instances, and the bodies of their requests, each and together.

use super::config::FREE_MEMORY_BYTES;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use wasmtime::ResourceLimiter;

/// The most entries of a table.
pub(super) const TABLE_ELEMENTS: usize = 20_000;

/// What is left for all exchanges beyond what each may have for itself, in bytes. Cheap to clone.
#[derive(Clone)]
pub(super) struct Shared(Arc<AtomicUsize>);

impl Shared {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// Nothing of it yet.
    pub(super) fn share(&self) -> Share {
        Share { of: self.clone(), bytes: 0 }
    }
}

/// What somebody has of the shared memory. It is given back when this is dropped.
pub(super) struct Share {
    of: Shared,
    bytes: usize,
}

impl Share {
    /// Draw so many bytes more; false where they are not there.
    pub(super) fn draw(&mut self, bytes: usize) -> bool {
        let left = &self.of.0;
        let enough =
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok();
        if enough {
            self.bytes += bytes;
        }
        enough
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.0.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// The memory of one instance.
pub(super) struct Memory {
    share: Share,
    most: usize,
    /// Whether it was refused some.
    pub(super) refused: bool,
}

impl Memory {
    pub(super) fn new(shared: &Shared, most: usize) -> Self {
        Self { share: shared.share(), most, refused: false }
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // The router has one memory; if it had more, each would have the free part.
        let beyond = |bytes: usize| bytes.saturating_sub(FREE_MEMORY_BYTES);
        let more = beyond(desired) - beyond(current);
        let granted = desired <= self.most && (more == 0 || self.share.draw(more));
        self.refused |= !granted;
        Ok(granted)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn what_one_has_others_lack_until_it_is_gone() {
        let shared = Shared::new(4 * MIB);
        let memory = || Memory::new(&shared, 64 * MIB);
        let (mut one, mut other) = (memory(), memory());
        let grow = |memory: &mut Memory, from: usize, to: usize| {
            memory.memory_growing(from * MIB, to * MIB, None).unwrap()
        };
        assert!(grow(&mut one, 0, 1) && grow(&mut one, 1, 5), "3 MiB beyond its own 2");
        assert!(grow(&mut other, 0, 3), "the last of the shared");
        assert!(!grow(&mut other, 3, 4) && other.refused);
        assert!(grow(&mut memory(), 0, 2), "its own is its own");
        drop(one);
        assert!(grow(&mut other, 3, 6));
        assert!(!grow(&mut memory(), 0, 65), "more than one may have");
        drop(other);
        assert_eq!(shared.0.load(Ordering::Relaxed), 4 * MIB);
    }
}
