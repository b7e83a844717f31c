//! Cutting work into pieces whose sizes depend on shapes only.

mod reused;
mod team;

#[cfg(test)]
mod tests;

use std::{
    mem::MaybeUninit,
    ops::Deref,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use candle_core::WithDType;

use super::element::{MAX_LANES, Real};

pub(crate) use reused::{Own, Reused, Scratch};

/// Below this many element operations, some microseconds, handing out the pieces costs more than the work.
const WORTH_SHARING: usize = 10_000;

/// Elements of one piece of an elementwise operation: an eighth or a quarter of a second-level cache. What pieces say is merged by one
/// thread, while the others wait.
pub(crate) const PIECE: usize = 32_768;

/// How many images make a piece: about [`PIECE`] elements, and enough pieces for several threads.
pub(crate) fn images_per_piece(n: usize, image: usize) -> usize {
    (PIECE / image.max(1)).clamp(1, n.div_ceil(8).max(1))
}

/// Elements of a piece of so many: fewer than [`PIECE`] where that would leave threads without one.
pub(crate) fn piece_of(len: usize) -> usize {
    (len / 8).next_multiple_of(MAX_LANES).clamp(PIECE / 8, PIECE)
}

/// How many rows of `c` elements, of so many elements in all, make a piece.
pub(crate) fn rows_per_piece(len: usize, c: usize) -> usize {
    (piece_of(len) / c.max(1)).max(1)
}

/// A fresh vector, written piece by piece from zeros; `work` counts element operations in all.
pub(crate) fn fill<T: WithDType>(
    len: usize,
    piece: usize,
    work: usize,
    write: impl Fn(usize, &mut [T]) + Sync + Send,
) -> Vec<T> {
    write_pieces(len, piece, work, zeroed, write).0
}

/// As [`fill`] for whoever writes every element before it reads any: pieces hold what was left there.
pub(crate) fn overwrite<T: WithDType>(
    len: usize,
    piece: usize,
    work: usize,
    write: impl Fn(usize, &mut [T]) + Sync + Send,
) -> Vec<T> {
    overwrite_and_collect(len, piece, work, write).0
}

/// As [`overwrite`], and what writing each piece returned, in order.
pub(crate) fn overwrite_and_collect<T: WithDType, R: Send>(
    len: usize,
    piece: usize,
    work: usize,
    write: impl Fn(usize, &mut [T]) -> R + Sync + Send,
) -> (Vec<T>, Vec<R>) {
    write_pieces(len, piece, work, left_over, write)
}

/// A fresh vector, of which every piece is made ready and then written, and what writing returned, in order.
fn write_pieces<T: WithDType, R: Send>(
    len: usize,
    piece: usize,
    work: usize,
    ready: fn(&mut [MaybeUninit<T>]) -> &mut [T],
    write: impl Fn(usize, &mut [T]) -> R + Sync + Send,
) -> (Vec<T>, Vec<R>) {
    let mut out = Vec::with_capacity(len);
    let pieces: Vec<_> = out.spare_capacity_mut()[..len].chunks_mut(piece.max(1)).collect();
    let results = share(pieces, work, |i, out| write(i, ready(out)));
    // SAFETY: every element lies in a piece, and whatever makes pieces ready returns them initialized.
    unsafe { out.set_len(len) };
    (out, results)
}

/// As [`overwrite_and_collect`], several vectors at once: each one's length and that of its pieces, of which all have as many.
pub(crate) fn overwrite_several<T: WithDType, R: Send>(
    sizes: &[(usize, usize)],
    work: usize,
    write: impl Fn(usize, &mut [&mut [T]]) -> R + Sync + Send,
) -> (Vec<Vec<T>>, Vec<R>) {
    let count = |&(len, piece): &(usize, usize)| len.div_ceil(piece.max(1));
    let n = sizes.first().map_or(0, count);
    assert!(sizes.iter().all(|size| count(size) == n), "as many pieces of each");
    let mut all: Vec<Vec<T>> = sizes.iter().map(|&(len, _)| Vec::with_capacity(len)).collect();
    let mut chunks: Vec<_> = (all.iter_mut().zip(sizes))
        .map(|(out, &(len, piece))| out.spare_capacity_mut()[..len].chunks_mut(piece.max(1)))
        .collect();
    let pieces: Vec<Vec<_>> =
        (0..n).map(|_| chunks.iter_mut().filter_map(Iterator::next).collect()).collect();
    let results = share(pieces, work, |i, outs| {
        let mut outs: Vec<&mut [T]> = outs.into_iter().map(left_over).collect();
        write(i, &mut outs)
    });
    // SAFETY: as in `write_pieces`, of every vector.
    all.iter_mut().zip(sizes).for_each(|(out, &(len, _))| unsafe { out.set_len(len) });
    (all, results)
}

/// As [`overwrite_and_collect`], two vectors of one length at once.
pub(crate) fn overwrite_pair_and_collect<A: WithDType, B: WithDType, R: Send>(
    len: usize,
    piece: usize,
    work: usize,
    write: impl Fn(usize, &mut [A], &mut [B]) -> R + Sync + Send,
) -> (Vec<A>, Vec<B>, Vec<R>) {
    let (mut first, mut second) = (Vec::with_capacity(len), Vec::with_capacity(len));
    let a = first.spare_capacity_mut()[..len].chunks_mut(piece.max(1));
    let b = second.spare_capacity_mut()[..len].chunks_mut(piece.max(1));
    let results = share(a.zip(b).collect(), work, |i, (a, b)| write(i, left_over(a), left_over(b)));
    // SAFETY: as in `write_pieces`.
    unsafe {
        first.set_len(len);
        second.set_len(len);
    }
    (first, second, results)
}

/// Clears a piece where it will be written, when it is in no cache yet but soon will be.
fn zeroed<T: WithDType>(piece: &mut [MaybeUninit<T>]) -> &mut [T] {
    piece.fill(MaybeUninit::new(T::zero()));
    // SAFETY: every element has just been written.
    unsafe { piece.assume_init_mut() }
}

/// A piece that will be overwritten, as it is: clearing it would be one more pass over memory. Not for whoever adds to what it
/// holds.
fn left_over<T: WithDType>(piece: &mut [MaybeUninit<T>]) -> &mut [T] {
    if cfg!(any(test, debug_assertions)) {
        // SAFETY: as many bytes as the piece has. All ones are NaN, which shows who reads what it has not written.
        unsafe {
            piece.as_mut_ptr().write_bytes(0xff, piece.len());
            return piece.assume_init_mut();
        }
    }
    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    // SAFETY: does nothing, but might have written any numbers here: for the compiler, these are what the piece holds. Any
    // bytes are a number of these types.
    unsafe {
        std::arch::asm!("/* {0} */", in(reg) piece.as_mut_ptr(), options(nostack, preserves_flags));
        piece.assume_init_mut()
    }
    #[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
    zeroed(piece)
}

/// What `each` makes of every piece, in order; on several threads where that pays.
fn share<P: Send, R: Send>(pieces: Vec<P>, work: usize, each: impl Fn(usize, P) -> R + Sync) -> Vec<R> {
    let alone = work < WORTH_SHARING || pieces.len() < 2 || team::is_member();
    if alone || rayon::current_num_threads() == 1 {
        return pieces.into_iter().enumerate().map(|(i, piece)| each(i, piece)).collect();
    }
    let slots: Vec<_> = pieces.into_iter().map(|piece| Mutex::new((Some(piece), None))).collect();
    every(slots.len(), |i| {
        let mut slot = slots[i].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(piece) = slot.0.take() {
            slot.1 = Some(each(i, piece));
        }
    });
    let results = slots.into_iter().map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner).1);
    results.map(|result| result.expect("every piece was worked on")).collect()
}

/// The results of `n` pieces of work, in order.
pub(crate) fn collect<R: Send>(n: usize, work: usize, piece: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
    share(vec![(); n], work, |i, ()| piece(i))
}

/// Calls `each` with every number below `n`, once. A thread begins with the same range in every loop, so that it finds in its
/// caches what it wrote in the one before, and helps in the others' when that is done.
fn every(n: usize, each: impl Fn(usize) + Sync) {
    /// The next of a range, in lines of its own: of 64 bytes, and fetched in pairs.
    #[repr(align(128))]
    struct Next(AtomicUsize);

    let threads = rayon::current_num_threads().min(n);
    let ranges: Vec<_> =
        (0..threads).map(|t| (Next(AtomicUsize::new(t * n / threads)), (t + 1) * n / threads)).collect();
    team::together(threads.saturating_sub(1), &|thread| {
        for (next, end) in ranges.iter().cycle().skip(thread % threads).take(threads) {
            while let Some(i) = Some(next.0.fetch_add(1, Ordering::Relaxed)).filter(|i| i < end) {
                each(i);
            }
        }
    });
}

/// Adds vectors of `len` elements in order.
pub(crate) fn add_in_order<T: Real>(
    parts: impl IntoIterator<Item = impl Deref<Target = [T]> + Sync>,
    len: usize,
) -> Vec<T> {
    const SHARE: usize = 4_096; // their sum and one of them stay in the first-level cache
    let share = (len / 8).next_multiple_of(MAX_LANES).clamp(MAX_LANES, SHARE);
    let parts: Vec<_> = parts.into_iter().collect();
    let Some((first, others)) = parts.split_first() else { return vec![T::ZERO; len] };
    overwrite(len, share, parts.len() * len, |i, sum: &mut [T]| {
        sum.copy_from_slice(piece(first, i, share));
        for part in others {
            sum.iter_mut().zip(piece(part, i, share)).for_each(|(sum, &x)| *sum += x);
        }
    })
}

/// Elements of piece `i` of `len`.
pub(crate) fn piece<T>(values: &[T], i: usize, len: usize) -> &[T] {
    &values[i * len..values.len().min((i + 1) * len)]
}

/// Works for rayon's pool if this thread is of it, else sleeps a moment: for one that waits for others who may need it.
pub(crate) fn lend_a_hand() {
    if rayon::yield_now() != Some(rayon::Yield::Executed) {
        thread::sleep(Duration::from_micros(50));
    }
}
