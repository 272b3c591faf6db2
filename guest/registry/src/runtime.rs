//! What carries the crate inside an instance: allocator, panic handler, where state lives; and all its `unsafe`.
#![allow(unsafe_code)]

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32::unreachable;
use core::cell::RefCell;
use core::panic::PanicInfo;
use core::ptr;

#[global_allocator]
static ALLOCATOR: rlsf::SmallGlobalTlsf = rlsf::SmallGlobalTlsf::new();

// memcpy, memcmp and their kind: compiler-builtins leaves them to libc on WASI targets. Nothing
// else of it is called, so no import comes with it.
#[link(name = "c")]
unsafe extern "C" {}

// Calling it says that this is no command: for one, the linker would run what starts and ends a program around
// every export, the allocation of arguments included.
unsafe extern "C" {
    fn __wasm_call_ctors();
}

/// What the host calls first.
#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    // SAFETY: called once, before anything else.
    unsafe { __wasm_call_ctors() }
}

/// How the host puts arguments into this memory. WASI's libc has one too, but on an allocator of its
/// own, which the bindings could not free from. A trap is all the canonical ABI offers when there is
/// no memory left; `thread_budget_core` keeps enough free that only an argument far beyond any valid
/// one gets here.
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

// SAFETY: a component instance is never entered by two threads at once, and wasm32-wasip2 code
// cannot start threads of its own.
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
