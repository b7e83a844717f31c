//! Means of windows on slices: rows are added first, then columns of their sums, so that a window of 3×3 costs six
//! additions instead of nine, and reads no margins.

use std::ops::Range;

use super::axes::{Numbered, Tap, Taps};
use crate::kernels::{
    Isa, Window,
    element::{Real, Stored, Vector},
    map::Map,
    simd::{each_vector, vectorized},
    stored::{computed, wide},
    threads::{images_per_piece, overwrite, piece},
};

pub(super) fn average<M: Stored>(isa: Isa, x: &[M], input: &Map, output: &Map, window: &Window) -> Vec<M> {
    Means::forward(input, output, window).whole(isa, x, window)
}

pub(super) fn average_gradient<M: Stored>(
    isa: Isa,
    gy: &[M],
    input: &Map,
    output: &Map,
    window: &Window,
) -> Vec<M> {
    Means::backward(input, output, window).whole(isa, gy, window)
}

/// Means or their gradients, ready to run on images: `factor[r, q] · Σ_{i ∈ rows(r)} Σ_{j ∈ columns(q)} a_i · b_j · x[i, j]` at
/// every pixel and channel.
pub(super) struct Means<T> {
    rows: Taps<T>,
    columns: Taps<T>,
    /// Of the columns.
    spans: Vec<Range<usize>>,
    /// Of every pixel that is written; the same along a span.
    factors: Vec<T>,
    from: Map,
    to: Map,
}

impl<T: Real> Means<T> {
    pub(super) fn forward(input: &Map, output: &Map, window: &Window) -> Self {
        let (rows, columns) = Numbered::both(input, output, window);
        let share = |row: usize, column: usize| 1.0 / (rows.count(row) * columns.count(column)) as f64;
        let shares = (0..output.h).flat_map(|row| (0..output.w).map(move |column| share(row, column)));
        let factors = shares.map(T::from_f64).collect();
        Self::new(rows.weighted(|_| T::ONE), columns.weighted(|_| T::ONE), factors, (input, output))
    }

    pub(super) fn backward(input: &Map, output: &Map, window: &Window) -> Self {
        let (rows, columns) = Numbered::both(input, output, window);
        let turned = |axis: &Numbered, len| {
            axis.turned(len).weighted(|tap| T::from_f64(1.0 / axis.count(tap.read) as f64))
        };
        let ones = vec![T::ONE; input.h * input.w];
        Self::new(turned(&rows, input.h), turned(&columns, input.w), ones, (output, input))
    }

    fn new(rows: Taps<T>, columns: Taps<T>, factors: Vec<T>, (from, to): (&Map, &Map)) -> Self {
        let spans = columns.spans();
        Self { rows, columns, spans, factors, from: *from, to: *to }
    }

    /// All images.
    fn whole<M: Stored<Real = T>>(&self, isa: Isa, x: &[M], window: &Window) -> Vec<M> {
        let images = images_per_piece(self.from.n, self.from.image().max(self.to.image()));
        overwrite(self.to.len(), images * self.to.image(), self.to.len() * window.taps(), |i, y| {
            wide(piece(x, i, images * self.from.image()), |x| computed(y, |y| self.write(isa, x, y)));
        })
    }

    /// Some consecutive images.
    pub(super) fn write(&self, isa: Isa, x: &[T], y: &mut [T]) {
        sums_of_images(isa, self, x, y);
    }
}

vectorized! {
    fn sums_of_images<T, V, WIDE>(means: &Means<T>, x: &[T], y: &mut [T]) -> () {
        let Means { rows, columns, spans, factors, from, to } = means;
        let (c, wide) = (from.c, from.w * from.c);
        assert!(to.c == c && factors.len() == to.h * to.w);
        assert!(rows.are_below(from.h) && columns.are_below(from.w));
        let mut of_rows = vec![T::ZERO; wide];
        for (x, y) in x.chunks_exact(from.image()).zip(y.chunks_exact_mut(to.image())) {
            let rows = y.chunks_exact_mut(to.w * c).zip(&rows.0).zip(factors.chunks_exact(to.w));
            for ((y, taps), factors) in rows {
                add_taps::<V>(x, wide, taps, T::ONE, &mut of_rows);
                for span in spans {
                    let y = &mut y[span.start * c..span.end * c];
                    add_taps::<V>(&of_rows, c, &columns.0[span.start], factors[span.start], y);
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
