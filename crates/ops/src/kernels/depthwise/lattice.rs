//! The two loops of a depthwise convolution, over pixels at equal distances: a vector of channels at a time, a few pixels
//! or taps side by side, so that no sum waits for its last addition.

use std::ops::Range;

use crate::kernels::{
    element::{Real, Stored, Vector},
    gather::{Lattice, Phase},
    simd::vectorized,
};

/// Taps that are summed side by side in a weights' gradient: with the gradient's vector they fit 16 registers.
const TAPS: usize = 9;

/// Pixels of an image and what they read of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pixels<'a> {
    /// Rows and columns of pixels, at least one of each.
    pub(super) size: (usize, usize),
    /// Where in the frame each pixel's window starts.
    pub(super) reads: Lattice,
    /// Where each pixel lies in its image.
    pub(super) writes: Lattice,
    /// Where in the window each tap lies.
    pub(super) taps: &'a [usize],
}

impl<'a> Pixels<'a> {
    /// Some rows of a phase's pixels, which are written to where its first row would be.
    pub(super) fn of(phase: &'a Phase, rows: Range<usize>) -> Self {
        let Phase { size, reads, writes, offsets, .. } = phase;
        let reads = Lattice { first: reads.at(rows.start, 0), ..*reads };
        Self { size: (rows.len(), size.1), reads, writes: *writes, taps: offsets }
    }

    /// How many taps lie in a row of them, and how many pixels apart, where that is alike throughout.
    fn rows_of_taps(&self) -> Option<(usize, usize)> {
        [(3, 1), (5, 1), (3, 2), (5, 2)].into_iter().find(|&(len, apart)| {
            let rows = self.taps.chunks_exact(len);
            rows.remainder().is_empty()
                && rows.clone().all(|row| {
                    row.iter().zip(0..).all(|(&tap, t)| tap == row[0] + t * apart * self.reads.column)
                })
        })
    }

    /// The element behind the last that `width` elements at every tap, and `c` at every pixel, reach.
    fn ends(&self, width: usize, c: usize) -> (usize, usize) {
        let last = |lattice: Lattice| lattice.at(self.size.0 - 1, self.size.1 - 1);
        let tap = self.taps.iter().max();
        (tap.map_or(0, |tap| last(self.reads) + tap + width), last(self.writes) + c)
    }
}

vectorized! {
    /// `out[p, ch] = Σ_t frame[p + t, ch] · weights[t, ch]` at every pixel `p` and channel `ch < c`; only where `x` is
    /// positive at that place, if there is one, else 0. Rows of `weights`, and what the frame can be read of behind its last
    /// pixel, are whole vectors.
    pub(super) fn sums<M: Stored, N: Stored, V, WIDE>(
        frame: &[M::Real],
        pixels: Pixels<'_>,
        weights: &[M::Real],
        c: usize,
        x: Option<&[M]>,
        out: &mut [N],
    ) -> () {
        let Pixels { size: (rows, columns), reads, writes, taps } = pixels;
        let width = c.next_multiple_of(V::LANES);
        let (read, written) = pixels.ends(width, c);
        assert!(rows > 0 && columns > 0 && c > 0);
        assert!(read <= frame.len() && written <= out.len() && taps.len() * width <= weights.len());
        assert!(x.is_none_or(|x| written <= x.len()));
        let rows_of_taps = pixels.rows_of_taps();
        for row in 0..rows {
            for ch in (0..c).step_by(V::LANES) {
                let left = c - ch;
                let mut column = 0;
                while column < columns {
                    let (from, to) = (reads.at(row, column) + ch, writes.at(row, column) + ch);
                    // SAFETY: just checked: a vector at every tap of every pixel lies in the frame, one of each row in
                    // the weights, and `left` elements at every pixel in `out` and `x`.
                    column += unsafe {
                        let (from, weights) = (frame.as_ptr().add(from), weights.as_ptr().add(ch));
                        let to = Line { x: x.map(|x| x.as_ptr().add(to)), out: out.as_mut_ptr().add(to), step: writes.column, left };
                        match (columns - column, rows_of_taps) {
                            (8.., Some((3, 1))) => line_of_rows::<M, N, V, 8, 3, 1>(from, reads.column, taps, weights, width, to),
                            (8.., Some((5, 1))) => line_of_rows::<M, N, V, 8, 5, 1>(from, reads.column, taps, weights, width, to),
                            (8.., Some((3, 2))) => line_of_rows::<M, N, V, 8, 3, 2>(from, reads.column, taps, weights, width, to),
                            (8.., Some((5, 2))) => line_of_rows::<M, N, V, 8, 5, 2>(from, reads.column, taps, weights, width, to),
                            (8.., _) => line::<M, N, V, 8>(from, reads.column, taps, weights, width, to),
                            (4.., _) => line::<M, N, V, 4>(from, reads.column, taps, weights, width, to),
                            (2.., _) => line::<M, N, V, 2>(from, reads.column, taps, weights, width, to),
                            _ => line::<M, N, V, 1>(from, reads.column, taps, weights, width, to),
                        }
                    };
                }
            }
        }
    }
}

/// Where a few pixels of a row are written.
struct Line<M, N> {
    x: Option<*const M>,
    out: *mut N,
    step: usize,
    /// Channels from here on.
    left: usize,
}

impl<M: Stored, N: Stored<Real = M::Real>> Line<M, N> {
    /// Writes a vector of channels of each pixel.
    ///
    /// # Safety
    /// The channels that are left at each pixel are writable, and readable of `x`.
    #[inline(always)]
    unsafe fn write<V: Vector<Elem = M::Real>, const P: usize>(self, mut sums: [V; P]) {
        if let Some(x) = self.x {
            for (p, sum) in sums.iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                *sum = sum.where_positive(unsafe { M::load_first(x.add(p * self.step), self.left) });
            }
        }
        // One test for all pixels, or LLVM keeps the sums in memory to loop over them.
        if self.left >= V::LANES {
            for (p, sum) in sums.iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { N::store(*sum, self.out.add(p * self.step)) };
            }
        } else {
            for (p, sum) in sums.iter().enumerate() {
                // SAFETY: as above.
                unsafe { N::store_first(*sum, self.out.add(p * self.step), self.left) };
            }
        }
    }
}

/// A vector of channels of `P` pixels, which it returns.
///
/// # Safety
/// A vector at every tap from each of `P` pixels, `step` apart, and one in every row of `weights` are readable, and the
/// channels that are left at each pixel of `to`.
#[inline(always)]
unsafe fn line<M: Stored, N: Stored<Real = M::Real>, V: Vector<Elem = M::Real>, const P: usize>(
    from: *const V::Elem,
    step: usize,
    taps: &[usize],
    weights: *const V::Elem,
    width: usize,
    to: Line<M, N>,
) -> usize {
    let mut sums = [V::splat(V::Elem::ZERO); P];
    let mut at = weights;
    for &tap in taps {
        // SAFETY: the caller's promise.
        unsafe {
            let weight = V::load(at);
            let from = from.add(tap);
            for (p, sum) in sums.iter_mut().enumerate() {
                *sum = V::load(from.add(p * step)).mul_add(weight, *sum);
            }
        }
        at = at.wrapping_add(width);
    }
    // SAFETY: the caller's promise.
    unsafe { to.write(sums) };
    P
}

/// As [`line`], of taps in rows of `T` that are `D` pixels apart: what pixels see together is loaded once for all of them.
/// Where every tap loads for itself, there are as many loads as additions.
///
/// # Safety
/// As of [`line`], and [`Pixels::rows_of_taps`] are `T` and `D`.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "`t` names a tap of several arrays")]
unsafe fn line_of_rows<
    M: Stored,
    N: Stored<Real = M::Real>,
    V: Vector<Elem = M::Real>,
    const P: usize,
    const T: usize,
    const D: usize,
>(
    from: *const V::Elem,
    step: usize,
    taps: &[usize],
    weights: *const V::Elem,
    width: usize,
    to: Line<M, N>,
) -> usize {
    let mut sums = [V::splat(V::Elem::ZERO); P];
    let mut at = weights;
    for row in taps.chunks_exact(T) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut from = from.add(row[0]);
            let mut row = [V::splat(V::Elem::ZERO); T];
            for t in 0..T {
                row[t] = V::load(at.add(t * width));
            }
            for pixel in 0..P + (T - 1) * D {
                let x = V::load(from);
                from = from.wrapping_add(step);
                for t in 0..T {
                    if pixel >= t * D && pixel - t * D < P {
                        sums[pixel - t * D] = x.mul_add(row[t], sums[pixel - t * D]);
                    }
                }
            }
        }
        at = at.wrapping_add(T * width);
    }
    // SAFETY: the caller's promise.
    unsafe { to.write(sums) };
    P
}

vectorized! {
    /// Adds `Σ_p frame[p + t, ch] · gy[p, ch]` to `sum[t', ch]` for every tap `t` and channel `ch < c`, where `t'` is what
    /// `numbers` calls the tap. What `gy` and the frame can be read of behind their last pixels are whole vectors.
    pub(super) fn products<T, V, WIDE>(
        frame: &[T], pixels: Pixels<'_>, numbers: &[usize], gy: &[T], c: usize, sum: &mut [T]
    ) -> () {
        let width = c.next_multiple_of(V::LANES);
        let (read, arrived) = pixels.ends(width, width);
        assert!(pixels.size.0 > 0 && pixels.size.1 > 0 && c > 0);
        assert!(read <= frame.len() && arrived <= gy.len() && numbers.len() == pixels.taps.len());
        assert!(numbers.iter().all(|number| (number + 1) * c <= sum.len()));
        for first in (0..pixels.taps.len()).step_by(TAPS) {
            for ch in (0..c).step_by(V::LANES) {
                // SAFETY: just checked: a vector at every tap of every pixel lies in the frame, one at every pixel in
                // `gy`, and `c` elements for every tap in `sum`; there is a tap `first`.
                unsafe { block::<V>(frame.as_ptr().add(ch), pixels, numbers, gy.as_ptr().add(ch), c, sum, (first, ch)) };
            }
        }
    }
}

/// Adds up a vector of channels of [`TAPS`] taps; the last again beyond the last.
///
/// # Safety
/// As checked in [`products`].
#[inline(always)]
unsafe fn block<V: Vector>(
    frame: *const V::Elem,
    pixels: Pixels<'_>,
    numbers: &[usize],
    gy: *const V::Elem,
    c: usize,
    sum: &mut [V::Elem],
    (first, ch): (usize, usize),
) {
    let Pixels { size: (rows, columns), reads, writes, taps } = pixels;
    let left = c - ch;
    let (mut from, mut to) = ([frame; TAPS], [sum.as_mut_ptr(); TAPS]);
    let mut sums = [V::splat(V::Elem::ZERO); TAPS];
    for t in 0..TAPS {
        let tap = (first + t).min(taps.len() - 1);
        (from[t], to[t]) = (from[t].wrapping_add(taps[tap]), to[t].wrapping_add(numbers[tap] * c + ch));
        // SAFETY: the caller's promise.
        sums[t] = unsafe { V::load_first(to[t], left) };
    }
    for row in 0..rows {
        let (mut read, mut at) = (reads.at(row, 0), gy.wrapping_add(writes.at(row, 0)));
        for _ in 0..columns {
            // SAFETY: the caller's promise.
            unsafe {
                let gy = V::load(at);
                for (sum, from) in sums.iter_mut().zip(from) {
                    *sum = V::load(from.wrapping_add(read)).mul_add(gy, *sum);
                }
            }
            (read, at) = (read + reads.column, at.wrapping_add(writes.column));
        }
    }
    for (sum, to) in sums.into_iter().zip(to) {
        // SAFETY: the caller's promise.
        unsafe { sum.store_first(to, left) };
    }
}
