//! Means of windows on slices: rows are added first, then columns of their sums, so that a window of 3×3 costs six
//! additions instead of nine, and reads no margins.

use super::cpu::taps_inside;
use crate::kernels::{
    Isa, Window,
    simd::{MAX_LANES, vectorized},
    threads::{fill, images_per_piece, piece},
    values::{Map, Real},
};

pub(super) fn average<T: Real>(isa: Isa, x: &[T], input: &Map, output: &Map, window: &Window) -> Vec<T> {
    let (rows, columns) = Axis::both(input, output, window);
    let share = |row: usize, column: usize| 1.0 / (rows.count(row) * columns.count(column)) as f64;
    let shares = (0..output.h).flat_map(|row| (0..output.w).map(move |column| share(row, column)));
    let shares: Vec<T> = shares.map(T::from_f64).collect();
    let sums = Sums { rows: &rows.weighted(|_| 1.0), columns: &columns.weighted(|_| 1.0), factors: &shares };
    sums.of(isa, x, input, output, window)
}

pub(super) fn average_gradient<T: Real>(
    isa: Isa,
    gy: &[T],
    input: &Map,
    output: &Map,
    window: &Window,
) -> Vec<T> {
    let (rows, columns) = Axis::both(input, output, window);
    let turned = |axis: &Axis, len| axis.turned(len).weighted(|output| 1.0 / axis.count(output) as f64);
    let ones = vec![T::ONE; input.h * input.w];
    let sums = Sums { rows: &turned(&rows, input.h), columns: &turned(&columns, input.w), factors: &ones };
    sums.of(isa, gy, output, input, window)
}

/// What each place of one axis reads of the other map's.
struct Axis(Vec<Vec<usize>>);

impl Axis {
    /// What the rows and the columns of an output read.
    fn both(input: &Map, output: &Map, window: &Window) -> (Self, Self) {
        let ((kh, kw), (sh, sw), (dh, dw)) = (window.kernel, window.stride, window.dilation);
        let axis = |outs: usize, len: usize, kernel: usize, stride: usize, dilation: usize, pad: isize| {
            let reads = |o: usize| {
                let taps = taps_inside(o, len, kernel, stride, dilation, pad);
                taps.map(|tap| ((o * stride + tap * dilation) as isize - pad) as usize).collect()
            };
            Self((0..outs).map(reads).collect())
        };
        (axis(output.h, input.h, kh, sh, dh, window.pad.0), axis(output.w, input.w, kw, sw, dw, window.pad.1))
    }

    fn count(&self, place: usize) -> usize {
        self.0[place].len()
    }

    /// What each of the `len` places that are read is read by.
    fn turned(&self, len: usize) -> Self {
        let mut turned = vec![Vec::new(); len];
        for (place, reads) in self.0.iter().enumerate() {
            reads.iter().for_each(|&read| turned[read].push(place));
        }
        Self(turned)
    }

    /// Each read with a weight of its own.
    fn weighted<T: Real>(&self, weight: impl Fn(usize) -> f64) -> Taps<T> {
        let tap = |&read: &usize| (read, T::from_f64(weight(read)));
        Taps(self.0.iter().map(|reads| reads.iter().map(tap).collect()).collect())
    }
}

/// Where each place of one axis reads, and with which weight.
struct Taps<T>(Vec<Vec<(usize, T)>>);

impl<T> Taps<T> {
    fn are_below(&self, len: usize) -> bool {
        self.0.iter().flatten().all(|&(read, _)| read < len)
    }
}

/// `factor[r, q] · Σ_{i ∈ rows(r)} Σ_{j ∈ columns(q)} a_i · b_j · x[i, j]` at every pixel and channel.
struct Sums<'a, T> {
    rows: &'a Taps<T>,
    columns: &'a Taps<T>,
    /// Of every pixel that is written.
    factors: &'a [T],
}

impl<T: Real> Sums<'_, T> {
    fn of(&self, isa: Isa, x: &[T], from: &Map, to: &Map, window: &Window) -> Vec<T> {
        let images = images_per_piece(from.n, from.image().max(to.image()));
        fill(to.len(), images * to.image(), to.len() * window.taps(), |i, y| {
            sums_of_images(isa, self, piece(x, i, images * from.image()), from, y, to);
        })
    }
}

vectorized! {
    fn sums_of_images<T, V, WIDE>(sums: &Sums<'_, T>, x: &[T], from: &Map, y: &mut [T], to: &Map) -> () {
        let (c, wide) = (from.c, from.w * from.c);
        assert!(to.c == c && sums.factors.len() == to.h * to.w);
        assert!(sums.rows.are_below(from.h) && sums.columns.are_below(from.w));
        let mut of_rows = vec![T::ZERO; wide + MAX_LANES];
        for (x, y) in x.chunks_exact(from.image()).zip(y.chunks_exact_mut(to.image())) {
            let rows = y.chunks_exact_mut(to.w * c).zip(&sums.rows.0).zip(sums.factors.chunks_exact(to.w));
            for ((y, taps), factors) in rows {
                for lane in (0..wide).step_by(V::LANES) {
                    let mut sum = V::splat(T::ZERO);
                    for &(row, weight) in taps {
                        // SAFETY: the row lies in the image, as checked above, and has this many elements left.
                        let x = unsafe { V::load_first(x.as_ptr().add(row * wide + lane), wide - lane) };
                        sum = x.mul_add(V::splat(weight), sum);
                    }
                    // SAFETY: a vector fits behind the last element.
                    unsafe { sum.store(of_rows.as_mut_ptr().add(lane)) };
                }
                for ((column, taps), &factor) in sums.columns.0.iter().enumerate().zip(factors) {
                    for lane in (0..c).step_by(V::LANES) {
                        let mut sum = V::splat(T::ZERO);
                        for &(column, weight) in taps {
                            // SAFETY: the column lies in the row, as checked above, and a vector fits behind its end.
                            let x = unsafe { V::load(of_rows.as_ptr().add(column * c + lane)) };
                            sum = x.mul_add(V::splat(weight), sum);
                        }
                        let (sum, at) = (sum.mul_add(V::splat(factor), V::splat(T::ZERO)), column * c + lane);
                        // What a vector has beyond the pixel is written anew with the next one.
                        let n = if at + V::LANES <= y.len() { V::LANES } else { c - lane };
                        // SAFETY: the pixel has that many elements left, or the row a vector.
                        unsafe { sum.store_first(y.as_mut_ptr().add(at), n) };
                    }
                }
            }
        }
    }
}
