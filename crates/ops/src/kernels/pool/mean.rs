//! Means of windows on slices: rows are added first, then columns of their sums, so that a window of 3×3 costs six
//! additions instead of nine, and reads no margins.

use std::ops::Range;

use super::cpu::taps_inside;
use crate::kernels::{
    Isa, Window,
    simd::{Vector, each_vector, vectorized},
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
        let tap = |&read: &usize| Tap { read, weight: T::from_f64(weight(read)) };
        Taps(self.0.iter().map(|reads| reads.iter().map(tap).collect()).collect())
    }
}

/// What one place reads.
#[derive(Clone, Copy, PartialEq)]
struct Tap<T> {
    read: usize,
    weight: T,
}

/// Where each place of one axis reads, and with which weight.
struct Taps<T>(Vec<Vec<Tap<T>>>);

/// Consecutive places that read at the same distances, with the same weights: what the first of them reads.
struct Span<'a, T> {
    places: Range<usize>,
    taps: &'a [Tap<T>],
}

impl<T: Real> Taps<T> {
    fn are_below(&self, len: usize) -> bool {
        self.0.iter().flatten().all(|tap| tap.read < len)
    }

    fn spans(&self) -> Vec<Span<'_, T>> {
        let mut spans: Vec<Span<'_, T>> = Vec::new();
        for (place, taps) in self.0.iter().enumerate() {
            let goes_on = |span: &&mut Span<'_, T>| {
                let moved = |tap: &Tap<T>| Tap { read: tap.read + span.places.len(), ..*tap };
                span.taps.len() == taps.len()
                    && span.taps.iter().zip(taps).all(|(first, tap)| moved(first) == *tap)
            };
            match spans.last_mut().filter(goes_on) {
                Some(span) => span.places.end += 1,
                None => spans.push(Span { places: place..place + 1, taps }),
            }
        }
        spans
    }
}

/// `factor[r, q] · Σ_{i ∈ rows(r)} Σ_{j ∈ columns(q)} a_i · b_j · x[i, j]` at every pixel and channel.
struct Sums<'a, T> {
    rows: &'a Taps<T>,
    columns: &'a Taps<T>,
    /// Of every pixel that is written; the same along a [`Span`].
    factors: &'a [T],
}

impl<T: Real> Sums<'_, T> {
    fn of(&self, isa: Isa, x: &[T], from: &Map, to: &Map, window: &Window) -> Vec<T> {
        let images = images_per_piece(from.n, from.image().max(to.image()));
        let spans = self.columns.spans();
        fill(to.len(), images * to.image(), to.len() * window.taps(), |i, y| {
            sums_of_images(isa, self, &spans, piece(x, i, images * from.image()), from, y, to);
        })
    }
}

vectorized! {
    fn sums_of_images<T, V, WIDE>(
        sums: &Sums<'_, T>, spans: &[Span<'_, T>], x: &[T], from: &Map, y: &mut [T], to: &Map
    ) -> () {
        let (c, wide) = (from.c, from.w * from.c);
        assert!(to.c == c && sums.factors.len() == to.h * to.w);
        assert!(sums.rows.are_below(from.h) && sums.columns.are_below(from.w));
        let mut of_rows = vec![T::ZERO; wide];
        for (x, y) in x.chunks_exact(from.image()).zip(y.chunks_exact_mut(to.image())) {
            let rows = y.chunks_exact_mut(to.w * c).zip(&sums.rows.0).zip(sums.factors.chunks_exact(to.w));
            for ((y, taps), factors) in rows {
                add_taps::<V>(x, wide, taps, T::ONE, &mut of_rows);
                for span in spans {
                    let y = &mut y[span.places.start * c..span.places.end * c];
                    add_taps::<V>(&of_rows, c, span.taps, factors[span.places.start], y);
                }
            }
        }
    }
}

/// `y[i] = factor · Σ_taps weight · x[read·step + i]`
#[inline(always)]
fn add_taps<V: Vector>(
    x: &[V::Elem],
    step: usize,
    taps: &[Tap<V::Elem>],
    factor: V::Elem,
    y: &mut [V::Elem],
) {
    match *taps {
        [a, b, c] => add_few::<V, 3>(x, step, [a, b, c], factor, y),
        [a, b] => add_few::<V, 2>(x, step, [a, b], factor, y),
        [a] => add_few::<V, 1>(x, step, [a], factor, y),
        _ => {
            y.fill(V::Elem::ZERO);
            for tap in taps {
                let x = &x[tap.read * step..][..y.len()];
                y.iter_mut().zip(x).for_each(|(y, &x)| *y += tap.weight * x);
            }
            y.iter_mut().for_each(|y| *y *= factor);
        }
    }
}

#[inline(always)]
fn add_few<V: Vector, const N: usize>(
    x: &[V::Elem],
    step: usize,
    taps: [Tap<V::Elem>; N],
    factor: V::Elem,
    y: &mut [V::Elem],
) {
    let zero = V::splat(V::Elem::ZERO);
    let (mut from, mut weights) = ([x.as_ptr(); N], [zero; N]);
    for (tap, (from, weight)) in taps.iter().zip(from.iter_mut().zip(&mut weights)) {
        *from = x[tap.read * step..][..y.len()].as_ptr();
        *weight = V::splat(tap.weight);
    }
    let factor = V::splat(factor);
    each_vector!(V, y.len(), |at, left| {
        let mut sum = zero;
        // SAFETY: that many elements are left of `y` and of every part of `x`.
        unsafe {
            for n in 0..N {
                sum = V::load_first(from[n].add(at), left).mul_add(weights[n], sum);
            }
            sum.mul_add(factor, zero).store_first(y.as_mut_ptr().add(at), left);
        }
    });
}
