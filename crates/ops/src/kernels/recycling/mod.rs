//! An allocator that keeps large blocks for the next step.
//!
//! Every step of a training allocates the same maps again. General allocators give pages of that size back to the
//! system, which clears them before it lends them out anew: a quarter of a step's time went into that (Linux 6, with
//! mimalloc's purging as well as with glibc's thresholds). candle's tensors own their vectors, so the place to reuse
//! memory is below them.

#[cfg(test)]
mod tests;

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::{NonNull, null_mut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Blocks from this size on are kept; smaller ones are the inner allocator's.
const SMALLEST: usize = 1 << SMALLEST_BITS;
const SMALLEST_BITS: usize = 15;

/// Blocks above this size are not kept, either.
const LARGEST: usize = 1 << LARGEST_BITS;
const LARGEST_BITS: usize = 40;

/// Sizes between two powers of two: a block is at most an eighth larger than asked for.
const STEPS: usize = 8;
const CLASSES: usize = (LARGEST_BITS - SMALLEST_BITS + 1) * STEPS;

/// What kept blocks are aligned to: a line of the cache, which no vector crosses more often than it must.
const ALIGN: usize = 64;

/// Passes small blocks through to `A` and keeps freed large ones, by size, for the next that asks.
///
/// What is in use and what is kept never exceed, together, what was once in use by more than a quarter: beyond that,
/// kept blocks of other sizes go back to `A` first, the largest sizes before the others.
#[derive(Debug)]
pub struct Recycling<A> {
    inner: A,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// Per class, the first kept block; each holds the address of the next.
    first: [Option<NonNull<Next>>; CLASSES],
    in_use: usize,
    kept: usize,
    most_in_use: usize,
}

/// What a kept block begins with.
#[derive(Clone, Copy, Debug)]
struct Next(Option<NonNull<Next>>);

// SAFETY: the blocks in the lists belong to nobody else.
unsafe impl Send for Kept {}

impl<A> Recycling<A> {
    /// Over an allocator that takes its blocks from the system.
    pub const fn new(inner: A) -> Self {
        let kept = Kept { first: [None; CLASSES], in_use: 0, kept: 0, most_in_use: 0 };
        Self { inner, kept: Mutex::new(kept) }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A: GlobalAlloc> Recycling<A> {
    /// A kept block of the class, or nothing and room for a new one.
    fn reuse(&self, class: usize) -> Option<NonNull<Next>> {
        let (mut kept, size) = (self.lock(), size_of(class));
        kept.in_use += size;
        kept.most_in_use = kept.most_in_use.max(kept.in_use);
        if let Some(block) = kept.pop(class) {
            return Some(block);
        }
        let bound = kept.most_in_use + kept.most_in_use / 4;
        self.release(&mut kept, bound);
        None
    }

    /// Gives blocks back until what is in use and what is kept do not exceed `bound` together.
    fn release(&self, kept: &mut Kept, bound: usize) {
        for class in (0..CLASSES).rev() {
            while kept.in_use + kept.kept > bound
                && let Some(block) = kept.pop(class)
            {
                // SAFETY: a kept block came from the inner allocator, with the layout of its class.
                unsafe { self.inner.dealloc(block.as_ptr().cast(), layout_of(class)) };
            }
        }
    }

    /// A new block; where memory is short, in exchange for all that is kept.
    fn fresh(&self, class: usize, ask: impl Fn(Layout) -> *mut u8) -> *mut u8 {
        let block = ask(layout_of(class));
        if !block.is_null() {
            return block;
        }
        self.release(&mut self.lock(), 0);
        let block = ask(layout_of(class));
        if block.is_null() {
            self.lock().in_use -= size_of(class);
        }
        block
    }
}

impl Kept {
    fn pop(&mut self, class: usize) -> Option<NonNull<Next>> {
        let block = self.first[class]?;
        // SAFETY: a block in the list begins with the next one's address, written by `push`.
        self.first[class] = unsafe { block.read() }.0;
        self.kept -= size_of(class);
        Some(block)
    }

    /// # Safety
    /// `block` is of the class and belongs to nobody.
    unsafe fn push(&mut self, class: usize, block: NonNull<Next>) {
        // SAFETY: by the caller's promise; every block is large and aligned enough.
        unsafe { block.write(Next(self.first[class])) };
        self.first[class] = Some(block);
        self.kept += size_of(class);
        self.in_use -= size_of(class);
    }
}

/// Which class a layout is of, if its blocks are kept.
fn class_of(layout: Layout) -> Option<usize> {
    let size = layout.size();
    if !(SMALLEST..=LARGEST).contains(&size) || layout.align() > ALIGN {
        return None;
    }
    let bits = (size - 1).ilog2() as usize;
    Some((bits + 1 - SMALLEST_BITS) * STEPS + ((size - 1) >> (bits - STEPS.ilog2() as usize)) % STEPS)
}

/// The size of a class's blocks.
fn size_of(class: usize) -> usize {
    (STEPS + class % STEPS + 1) << (class / STEPS + SMALLEST_BITS - 1 - STEPS.ilog2() as usize)
}

fn layout_of(class: usize) -> Layout {
    // SAFETY: the alignment is a power of two, and no class is near the largest size there is.
    unsafe { Layout::from_size_align_unchecked(size_of(class), ALIGN) }
}

// SAFETY: a block is the inner allocator's, or one that was freed here with a layout of the same class, which is at
// least as large and as aligned as what is asked for; it leaves its list before it is given out.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Recycling<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise; a class's layout is not empty.
        unsafe {
            let Some(class) = class_of(layout) else { return self.inner.alloc(layout) };
            match self.reuse(class) {
                Some(block) => block.as_ptr().cast(),
                None => self.fresh(class, |layout| self.inner.alloc(layout)),
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`; a kept block is as large as its class.
        unsafe {
            let Some(class) = class_of(layout) else { return self.inner.alloc_zeroed(layout) };
            match self.reuse(class) {
                Some(block) => {
                    block.cast::<u8>().write_bytes(0, layout.size());
                    block.as_ptr().cast()
                }
                None => self.fresh(class, |layout| self.inner.alloc_zeroed(layout)),
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise: the block was given out for this layout, so it is of its class.
        unsafe {
            match (class_of(layout), NonNull::new(block.cast())) {
                (Some(class), Some(block)) => self.lock().push(class, block),
                _ => self.inner.dealloc(block, layout),
            }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise; blocks move between the two allocators by a copy of what both hold.
        unsafe {
            let new = Layout::from_size_align_unchecked(size, layout.align());
            match (class_of(layout), class_of(new)) {
                (None, None) => return self.inner.realloc(block, layout, size),
                (Some(old), Some(new)) if old == new => return block,
                _ => {}
            }
            let moved = self.alloc(new);
            if moved.is_null() {
                return null_mut();
            }
            moved.copy_from_nonoverlapping(block, layout.size().min(size));
            self.dealloc(block, layout);
            moved
        }
    }
}
