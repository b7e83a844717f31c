//! An allocator that keeps large blocks for the next step.
//!
//! Every step of a training allocates the same maps again, but not in the same numbers: which operations run is drawn.
//! General allocators give pages of that size back to the system, which clears them before it lends them out anew: a
//! quarter of a step's time went into that (Linux 6, with mimalloc's purging as well as with glibc's thresholds). Lists
//! of blocks by size, which stood here before, kept what one step needed most of and lacked what the next did. So large
//! blocks are cut from arenas by halves, and halves that are free again grow together: free memory serves whatever size
//! comes next. candle's tensors own their vectors, so the place to reuse memory is below them.
//!
//! # References
//! - Knowlton, *A Fast Storage Allocator*, 1965: buddies; ours are trimmed to sixteenths.

#[cfg(test)]
mod tests;

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::{NonNull, null_mut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The smallest block that is cut from an arena; smaller ones are the inner allocator's.
const UNIT: usize = 1 << 15;

/// Units of an arena; it is aligned to its size, so that a block's address says where its arena begins.
const UNITS: usize = 2048;
const ARENA: usize = UNIT * UNITS;

/// Blocks of order `k` have `2^k` units; the largest is half an arena, and larger ones are the inner allocator's, too.
const ORDERS: usize = 11;

/// What a block is aligned to at least; that of an arena's first free unit.
const ALIGN: usize = UNIT;

/// Passes small and huge blocks through to `A`, and cuts those between from arenas that it takes from `A` and keeps.
///
/// A block is at most an eighth larger than asked for, rounded up to 32 KiB. Where no arena is to be had, as under a
/// narrow limit of address space, all blocks are the inner allocator's.
#[derive(Debug)]
pub struct Recycling<A> {
    inner: A,
    free: Mutex<Free>,
}

/// The free blocks of all arenas, by order.
#[derive(Debug)]
struct Free {
    first: [Option<NonNull<Links>>; ORDERS],
    /// The arena that came last; each knows the one before.
    last: Option<NonNull<Arena>>,
    in_use: usize,
}

/// What a free block begins with.
#[derive(Clone, Copy, Debug)]
struct Links {
    before: Option<NonNull<Links>>,
    after: Option<NonNull<Links>>,
}

/// What an arena begins with, in its first unit, which is never free.
#[derive(Debug)]
struct Arena {
    /// For every unit, the order of the free block that begins there, plus 1, or 0.
    map: [u8; UNITS],
    before: Option<NonNull<Arena>>,
}

// SAFETY: free blocks and what arenas begin with belong to nobody else.
unsafe impl Send for Free {}

impl<A> Recycling<A> {
    /// Over an allocator that takes its blocks from the system.
    pub const fn new(inner: A) -> Self {
        Self { inner, free: Mutex::new(Free { first: [None; ORDERS], last: None, in_use: 0 }) }
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A: GlobalAlloc> Recycling<A> {
    /// A block of so many units, or nothing where no arena has them and none is to be had.
    fn cut(&self, units: usize) -> Option<NonNull<u8>> {
        let mut free = self.lock();
        loop {
            if let Some(block) = free.cut(units) {
                free.in_use += units * UNIT;
                return Some(block);
            }
            // SAFETY: an arena has a size, and its alignment is a power of two.
            let arena = unsafe { self.inner.alloc(Layout::from_size_align_unchecked(ARENA, ARENA)) };
            let arena = NonNull::new(arena)?;
            ask_for_huge_pages(arena);
            // SAFETY: it was just lent to us, as large and as aligned as an arena is.
            unsafe { free.add(arena) };
        }
    }
}

/// Asks for an arena of pages of 2 MiB, where the system has such: a pass over maps meets a new page of 4 KiB every few
/// hundred cycles, and on a virtual machine each of those is looked up in two tables.
fn ask_for_huge_pages(arena: NonNull<u8>) {
    #[cfg(target_os = "linux")]
    // SAFETY: advice about an arena of ours, which changes none of its bytes; what does not heed it is as before.
    unsafe {
        libc::madvise(arena.as_ptr().cast(), ARENA, libc::MADV_HUGEPAGE);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = arena;
}

impl Free {
    /// Takes over an arena: all of it but the first unit is free.
    ///
    /// # Safety
    /// It belongs to nobody else, and is as large and as aligned as an arena is.
    unsafe fn add(&mut self, arena: NonNull<u8>) {
        // SAFETY: by the caller's promise; the map fits into the first unit.
        unsafe {
            arena.cast().write(Arena { map: [0; UNITS], before: self.last });
            self.last = Some(arena.cast());
            self.release(arena, 1, UNITS - 1);
        }
    }

    /// Whether a block was cut from an arena. There are few: a hundred hold 6 GB.
    fn holds(&self, block: NonNull<u8>) -> bool {
        let mut next = self.last;
        while let Some(arena) = next {
            if (arena.addr().get()..arena.addr().get() + ARENA).contains(&block.addr().get()) {
                return true;
            }
            // SAFETY: an arena in the list begins with what `add` wrote.
            next = unsafe { (*arena.as_ptr()).before };
        }
        false
    }

    /// The first `units` of the smallest free block that holds them; what lies behind stays free.
    fn cut(&mut self, units: usize) -> Option<NonNull<u8>> {
        let order = units.next_power_of_two().ilog2() as usize;
        let found = (order..ORDERS).find(|&order| self.first[order].is_some())?;
        let block = self.first[found]?;
        // SAFETY: a block in the list is free and lies in an arena.
        unsafe {
            let (arena, unit) = place(block.cast());
            self.take(arena, unit, found);
            self.release(arena, unit + units, (1 << found) - units);
        }
        Some(block.cast())
    }

    /// Makes units free, in blocks as large as their places allow.
    ///
    /// # Safety
    /// They lie in the arena, and belong to nobody.
    unsafe fn release(&mut self, arena: NonNull<u8>, mut unit: usize, mut units: usize) {
        while units > 0 {
            let order = unit.trailing_zeros().min(units.ilog2()).min(ORDERS as u32 - 1) as usize;
            // SAFETY: the caller's promise.
            unsafe { self.join(arena, unit, order) };
            (unit, units) = (unit + (1 << order), units - (1 << order));
        }
    }

    /// Makes a block free and joins it with its other half, as long as that is free.
    ///
    /// # Safety
    /// It lies in the arena and belongs to nobody.
    unsafe fn join(&mut self, arena: NonNull<u8>, mut unit: usize, mut order: usize) {
        // SAFETY: a half that the map calls free is free, and in the list of its order.
        unsafe {
            while order + 1 < ORDERS && order_at(arena, unit ^ (1 << order)) == Some(order) {
                self.take(arena, unit ^ (1 << order), order);
                unit &= !(1 << order);
                order += 1;
            }
            let block = arena.add(unit * UNIT).cast::<Links>();
            block.write(Links { before: None, after: self.first[order] });
            if let Some(after) = self.first[order] {
                (*after.as_ptr()).before = Some(block);
            }
            self.first[order] = Some(block);
            (*arena.cast::<Arena>().as_ptr()).map[unit] = order as u8 + 1;
        }
    }

    /// Takes a free block out of its list.
    ///
    /// # Safety
    /// It is free, and of this order.
    unsafe fn take(&mut self, arena: NonNull<u8>, unit: usize, order: usize) {
        // SAFETY: a free block begins with its neighbors in the list, which are free, too.
        unsafe {
            let Links { before, after } = arena.add(unit * UNIT).cast::<Links>().read();
            match before {
                Some(before) => (*before.as_ptr()).after = after,
                None => self.first[order] = after,
            }
            if let Some(after) = after {
                (*after.as_ptr()).before = before;
            }
            (*arena.cast::<Arena>().as_ptr()).map[unit] = 0;
        }
    }
}

/// The arena and the unit where a block begins.
///
/// # Safety
/// The block was cut from an arena.
unsafe fn place(block: NonNull<u8>) -> (NonNull<u8>, usize) {
    let offset = block.addr().get() % ARENA;
    // SAFETY: by the caller's promise the arena begins so far before.
    (unsafe { block.sub(offset) }, offset / UNIT)
}

/// The order of the free block that begins at a unit.
///
/// # Safety
/// The arena is one, and the unit one of its.
unsafe fn order_at(arena: NonNull<u8>, unit: usize) -> Option<usize> {
    // SAFETY: an arena begins with its map.
    let entry = unsafe { (*arena.cast::<Arena>().as_ptr()).map[unit] };
    usize::from(entry).checked_sub(1)
}

/// How many units a layout takes, if its blocks are cut from arenas: as many as it needs, rounded up to a sixteenth of
/// the next power of two, so at most an eighth more.
fn units_of(layout: Layout) -> Option<usize> {
    let units = layout.size().div_ceil(UNIT);
    let step = (units.max(1).next_power_of_two() / 16).max(1);
    let units = units.next_multiple_of(step);
    (layout.size() >= UNIT && units <= 1 << (ORDERS - 1) && layout.align() <= ALIGN).then_some(units)
}

// SAFETY: a block is the inner allocator's, or units of an arena that are as many as the layout takes, aligned to one,
// in use by nobody else until they are freed with a layout that takes as many.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Recycling<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match units_of(layout).and_then(|units| self.cut(units)) {
            Some(block) => block.as_ptr(),
            // SAFETY: the caller's promise.
            None => unsafe { self.inner.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`; a block is as large as was asked for.
        unsafe {
            let Some(block) = units_of(layout).and_then(|units| self.cut(units)) else {
                return self.inner.alloc_zeroed(layout);
            };
            block.write_bytes(0, layout.size());
            block.as_ptr()
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise: the block was given out for this layout, from an arena or by the inner allocator.
        unsafe {
            if let (Some(units), Some(block)) = (units_of(layout), NonNull::new(block)) {
                let mut free = self.lock();
                if free.holds(block) {
                    let (arena, unit) = place(block);
                    free.release(arena, unit, units);
                    free.in_use -= units * UNIT;
                    return;
                }
            }
            self.inner.dealloc(block, layout);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise; blocks move by a copy of what both hold.
        unsafe {
            let new = Layout::from_size_align_unchecked(size, layout.align());
            match (units_of(layout), units_of(new)) {
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
