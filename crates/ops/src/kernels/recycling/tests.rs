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
fn a_block_is_at_most_an_eighth_larger_than_asked_for() {
    let largest = ARENA / 2;
    for size in (UNIT..UNIT * 40).step_by(977).chain([UNIT, 4 << 20, (4 << 20) + 1, largest]) {
        let bytes = UNIT * units_of(bytes(size)).expect("a large block");
        assert!(bytes >= size && bytes <= (size + size / 8 + 8).next_multiple_of(UNIT), "{size}: {bytes}");
    }
    assert_eq!(units_of(bytes(4 << 20)), Some((4 << 20) / UNIT));
    assert_eq!([UNIT - 1, largest + 1].map(|size| units_of(bytes(size))), [None, None]);
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
fn what_is_free_serves_every_size() {
    let heap = Recycling::new(Counting::default());
    for size in (1..300).map(|i| i * 100_000) {
        use_once(&heap, size);
    }
    assert_eq!(heap.inner.blocks.load(Ordering::Relaxed), 1); // the largest is 30 MB, an arena 64 MiB
}

#[test]
fn blocks_in_use_never_overlap_and_all_grow_together_again() {
    let heap = Recycling::new(Counting::default());
    let sizes: Vec<usize> = (0..400).map(|i| UNIT + (i * 7_919_977) % (3 << 20)).collect();
    let mut blocks: Vec<(usize, usize)> = Vec::new();
    for (i, &size) in sizes.iter().enumerate() {
        // SAFETY: blocks are freed with their layouts.
        unsafe {
            blocks.push((heap.alloc(bytes(size)) as usize, size));
            if i % 3 == 2 {
                let (block, size) = blocks.swap_remove(i / 2 % blocks.len());
                heap.dealloc(block as *mut u8, bytes(size));
            }
        }
    }
    blocks.sort_unstable();
    assert!(blocks.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
    // SAFETY: as above.
    blocks.into_iter().for_each(|(block, size)| unsafe { heap.dealloc(block as *mut u8, bytes(size)) });
    let free = heap.lock();
    let (mut whole, mut next) = (0, free.first[ORDERS - 1]);
    while let Some(block) = next {
        // SAFETY: a free block begins with its links.
        (whole, next) = (whole + 1, unsafe { block.read() }.after);
    }
    assert_eq!((whole, free.in_use), (heap.inner.blocks.load(Ordering::Relaxed), 0)); // a free half of every arena
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
    assert_eq!(heap.inner.blocks.load(Ordering::Relaxed), 1);
    assert_eq!(heap.lock().in_use, 0);
}

/// An allocator that has no room for an arena.
struct Narrow;

// SAFETY: all of it is the system's.
unsafe impl GlobalAlloc for Narrow {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        if layout.size() >= ARENA { null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

#[test]
fn where_no_arena_is_to_be_had_blocks_are_the_inner_allocators() {
    let heap = Recycling::new(Narrow);
    // SAFETY: as large as asked for, and freed with its layout.
    unsafe {
        let block = heap.alloc_zeroed(bytes(1_000_000));
        assert!((0..1_000_000).all(|i| *block.add(i) == 0));
        let block = heap.realloc(block, bytes(1_000_000), 3_000_000);
        assert_eq!(*block.add(999_999), 0);
        heap.dealloc(block, bytes(3_000_000));
    }
    assert_eq!(heap.lock().in_use, 0);
}
