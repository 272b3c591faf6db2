//! What carries the crate inside an instance: allocator, panic handler, where state lives; and all its
//! `unsafe`.
#![allow(unsafe_code)]

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32::{memory_grow, memory_size, unreachable};
use core::cell::{Cell, RefCell};
use core::panic::PanicInfo;
use core::ptr;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator::new();

// memcpy, memcmp and their kind: compiler-builtins leaves them to libc on WASI targets. Nothing
// else of it is called, so no import comes with it.
#[link(name = "c")]
unsafe extern "C" {
    /// Where the linker has put the last of what it puts into memory.
    static __heap_base: u8;
}

/// An instance lives for one exchange, so most of what is allocated need not be found again: blocks come one
/// after the other, and what is freed waits for the next of its size. That keeps a long stream within what its
/// longest event takes.
struct Allocator {
    /// Where the next block begins; 0 before the first.
    next: Cell<usize>,
    /// The freed blocks of each size: each holds the address of the next, 0 ends a list.
    free: [Cell<usize>; 128],
}

// SAFETY: a component instance is never entered by two threads at once, and wasm32-wasip2 code cannot start
// threads of its own.
unsafe impl Sync for Allocator {}

const PAGE: usize = 65_536;
/// The least block, and what every block is aligned to.
const LEAST: usize = 16;

/// The size of a block: of the four between a power of two and the next.
#[derive(PartialEq, Eq)]
struct Size {
    bytes: usize,
    list: usize,
}

impl Size {
    /// That of a block for this layout; none for what no memory can hold.
    fn of(layout: Layout) -> Option<Self> {
        // A block begins at a multiple of `LEAST` only.
        let room = if layout.align() > LEAST { layout.align() } else { 0 };
        let bytes = layout.size().checked_add(room)?.max(LEAST);
        let power = (bytes - 1).ilog2() as usize;
        let step = 1_usize << power.saturating_sub(2);
        let bytes = bytes.checked_next_multiple_of(step.max(LEAST))?;
        Some(Self { bytes, list: 4 * power + (bytes - 1 - (1 << power)) / step })
    }
}

impl Allocator {
    const fn new() -> Self {
        Self { next: Cell::new(0), free: [const { Cell::new(0) }; 128] }
    }

    /// A block that was never used.
    fn fresh(&self, size: usize) -> Option<usize> {
        let start = match self.next.get() {
            0 => (&raw const __heap_base).addr().next_multiple_of(LEAST),
            next => next,
        };
        let end = start.checked_add(size)?;
        let missing = end.div_ceil(PAGE).saturating_sub(memory_size(0));
        if missing > 0 && memory_grow(0, missing) == usize::MAX {
            return None;
        }
        self.next.set(end);
        Some(start)
    }
}

// SAFETY: a block is given out once until it is freed, is as long as its layout, and begins at a multiple
// of its alignment.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(size) = Size::of(layout) else { return ptr::null_mut() };
        let list = &self.free[size.list];
        let block = match list.get() {
            0 => match self.fresh(size.bytes) {
                Some(block) => block,
                None => return ptr::null_mut(),
            },
            block => {
                // SAFETY: `dealloc` has written the address of the next block there.
                list.set(unsafe { ptr::with_exposed_provenance::<usize>(block).read() });
                block
            }
        };
        ptr::with_exposed_provenance_mut(block.next_multiple_of(layout.align().max(LEAST)))
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // A block that had to be aligned begins before what was given out, nobody knows where: it is lost.
        if layout.align() > LEAST {
            return;
        }
        if let Some(size) = Size::of(layout) {
            let list = &self.free[size.list];
            // SAFETY: the block is `LEAST` bytes or more, aligned to that, and nobody's any more.
            unsafe { block.cast::<usize>().write(list.get()) };
            list.set(block.expose_provenance());
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size is a layout's with this alignment.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if Size::of(layout) == Size::of(new) {
            return block;
        }
        // SAFETY: both blocks are as long as the shorter of the two, and apart.
        unsafe {
            let moved = self.alloc(new);
            if !moved.is_null() {
                ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

/// How the host puts arguments into this memory. WASI's libc has one too, but on an allocator of its own,
/// which the bindings could not free from. A trap is all the canonical ABI offers when there is no memory
/// left.
///
/// # Safety
/// Called by the host only, by the canonical ABI: `old` was returned by this function for `old_len`
/// bytes and `align`, or `old_len` is 0.
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(old: *mut u8, old_len: usize, align: usize, new_len: usize) -> *mut u8 {
    let (Ok(old_layout), Ok(new_layout)) =
        (Layout::from_size_align(old_len, align), Layout::from_size_align(new_len, align))
    else {
        unreachable()
    };
    if new_len == 0 {
        return ptr::without_provenance_mut(align);
    }
    // SAFETY: new_len is not 0, and `old` is as the caller promises.
    let new = unsafe {
        if old_len == 0 { ALLOCATOR.alloc(new_layout) } else { ALLOCATOR.realloc(old, old_layout, new_len) }
    };
    if new.is_null() { unreachable() } else { new }
}

/// Nothing here panics on any input; should it, the host sees a trap.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    unreachable()
}

/// A value that belongs to the one thread of a component instance.
pub(crate) struct InstanceState<T>(RefCell<T>);

// SAFETY: as for the allocator.
unsafe impl<T> Sync for InstanceState<T> {}

impl<T> InstanceState<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    /// Never nested: the component imports nothing, so nothing can call back into it.
    pub(crate) fn with<R>(&self, use_it: impl FnOnce(&mut T) -> R) -> R {
        use_it(&mut self.0.borrow_mut())
    }
}
