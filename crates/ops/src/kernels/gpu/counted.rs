//! How much memory a test holds: on the CPU, or on an emulated device.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread's blocks are those of the emulation itself.
    static OWN: Cell<bool> = const { Cell::new(false) };
}

/// Smaller blocks are what surrounds tensors on the host, and vectors of a number a channel; a device lends no less.
const LEAST: usize = 512;

/// The system's allocator, and a count of the bytes that are lent out in blocks of at least 512. An emulated device's tensors
/// are blocks of the host, and counted; what the emulation needs to run them is not.
#[derive(Debug)]
pub struct Counted;

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !OWN.get() {
            lend(layout.size());
        }
        // SAFETY: by the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !OWN.get() {
            take_back(layout.size());
        }
        // SAFETY: by the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Counts bytes, also those of an emulated device that no tensor owns yet.
pub(super) fn lend(bytes: usize) {
    if bytes < LEAST {
        return;
    }
    MOST.fetch_max(NOW.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

pub(super) fn take_back(bytes: usize) {
    if bytes >= LEAST {
        NOW.fetch_sub(bytes, Relaxed);
    }
}

/// Runs `f`, which frees whatever it allocates, or frees only what was allocated here, uncounted.
pub(super) fn uncounted<R>(f: impl FnOnce() -> R) -> R {
    let before = OWN.replace(true);
    let result = f();
    OWN.set(before);
    result
}

/// What `f` returns, and by how many bytes it held more at most than is held when it begins. Of use in a program of
/// which [`Counted`] is the allocator, on one thread at a time.
pub fn most_held<R>(f: impl FnOnce() -> R) -> (R, usize) {
    let before = NOW.load(Relaxed);
    MOST.store(before, Relaxed);
    let result = f();
    (result, MOST.load(Relaxed).saturating_sub(before))
}

/// The bytes that are held now.
pub fn held() -> usize {
    NOW.load(Relaxed)
}
