use std::alloc::System;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// The system's allocator, counting blocks and bytes that it has lent.
#[derive(Default)]
struct Counting {
    blocks: AtomicUsize,
    bytes: AtomicUsize,
}

// SAFETY: all of it is the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.blocks.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.bytes.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

fn bytes(size: usize) -> Layout {
    Layout::from_size_align(size, 4).expect("a size of ours")
}

/// Allocates, writes every byte, and frees.
fn use_once(heap: &Recycling<Counting>, size: usize) -> *mut u8 {
    // SAFETY: the block is as large as asked for, and freed with its layout.
    unsafe {
        let block = heap.alloc(bytes(size));
        block.write_bytes(7, size);
        heap.dealloc(block, bytes(size));
        block
    }
}

#[test]
fn every_size_lies_in_the_smallest_class_that_holds_it() {
    let sizes = (SMALLEST..SMALLEST * 4).step_by(97).chain([SMALLEST, 4 << 20, (4 << 20) + 1, LARGEST]);
    for size in sizes {
        let class = class_of(bytes(size)).expect("a large block");
        assert!(size_of(class) >= size && size_of(class) <= size + size / 8 + 8, "{size}");
        assert!(size == SMALLEST || size_of(class - 1) < size, "{size}");
    }
    assert_eq!(size_of(class_of(bytes(4 << 20)).expect("a large block")), 4 << 20);
    assert_eq!([SMALLEST - 1, LARGEST + 1].map(|size| class_of(bytes(size))), [None, None]);
}

#[test]
fn what_is_freed_is_given_out_again() {
    let heap = Recycling::new(Counting::default());
    let first = use_once(&heap, 1_000_000);
    for _ in 0..10 {
        assert_eq!(use_once(&heap, 999_000), first); // of the same class
    }
    assert_eq!(heap.inner.blocks.load(Ordering::Relaxed), 1);
}

#[test]
fn reused_memory_is_cleared_where_zeros_are_asked_for() {
    let heap = Recycling::new(Counting::default());
    use_once(&heap, 100_000);
    // SAFETY: as large as asked for, and freed with its layout.
    unsafe {
        let block = heap.alloc_zeroed(bytes(100_000));
        assert!((0..100_000).all(|i| *block.add(i) == 0));
        heap.dealloc(block, bytes(100_000));
    }
}

#[test]
fn blocks_of_new_sizes_displace_kept_ones() {
    let heap = Recycling::new(Counting::default());
    for size in (1..100).map(|i| i * 100_000) {
        use_once(&heap, size);
    }
    let lent = heap.inner.bytes.load(Ordering::Relaxed);
    assert!(lent <= 99 * 100_000 * 9 / 8 * 5 / 4, "{lent} bytes for at most 9.9 MB in use");
}

#[test]
fn moved_blocks_keep_their_bytes() {
    let heap = Recycling::new(Counting::default());
    let sizes = [1_000, 40_000, 41_000, 900_000, 39_000, 500]; // small, large, of one class, larger, and back
    // SAFETY: every size is the block's present one, and bytes up to the smaller of two sizes are written.
    unsafe {
        let mut block = heap.alloc(bytes(sizes[0]));
        (0..500).for_each(|i| *block.add(i) = i as u8);
        for pair in sizes.windows(2) {
            block = heap.realloc(block, bytes(pair[0]), pair[1]);
            assert!((0..500).all(|i| *block.add(i) == i as u8));
        }
        heap.dealloc(block, bytes(500));
    }
}

#[test]
fn threads_share_what_is_kept() {
    let heap = Recycling::new(Counting::default());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let heap = &heap;
            scope.spawn(move || {
                (0..200).for_each(|i| _ = use_once(heap, 50_000 + 1_000 * ((i + thread) % 5)))
            });
        }
    });
    assert!(heap.inner.blocks.load(Ordering::Relaxed) <= 4 * CLASSES);
    assert_eq!(heap.lock().in_use, 0);
}
