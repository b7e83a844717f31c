//! Sums and multiples on slices.

use crate::kernels::{
    Isa,
    batch_norm::normalize,
    bias::repeat,
    simd::vectorized,
    threads::{PIECE, collect, fill, piece, rows_per_piece},
    values::Real,
};

/// Independent partial sums of a dot product, so that vectors can hold them.
const PARTIAL: usize = 16;

/// Elements summed at once: few enough for the first-level cache.
const CACHED: usize = 2_048;

pub(super) fn add<T: Real>(isa: Isa, a: &[T], b: &[T]) -> Vec<T> {
    fill(a.len(), PIECE, a.len(), |i, y| add_piece(isa, piece(a, i, PIECE), piece(b, i, PIECE), y))
}

/// A term on a slice.
pub(super) enum Addend<'a, T> {
    /// `factor·x`
    Plain { factor: T, x: &'a [T] },
    /// `(x − mean)·factor + shift`, channels repeated.
    Normalized { x: &'a [T], mean: Vec<T>, factor: Vec<T>, shift: Vec<T> },
}

impl<'a, T: Real> Addend<'a, T> {
    /// `factor·x`, or `factor·((x − mean)·f + shift)` where there are channels' means, factors and shifts.
    pub(super) fn new(factor: f64, x: &'a [T], channels: Option<[Vec<T>; 3]>) -> Self {
        let factor = T::from_f64(factor);
        let Some([mean, f, shift]) = channels else { return Self::Plain { factor, x } };
        let times = |values: Vec<T>| repeat(&values.into_iter().map(|x| factor * x).collect::<Vec<_>>());
        Self::Normalized { x, mean: repeat(&mean), factor: times(f), shift: times(shift) }
    }

    fn len(&self) -> usize {
        let (Self::Plain { x, .. } | Self::Normalized { x, .. }) = self;
        x.len()
    }
}

/// The sum of the terms, in their order; of `c` channels.
pub(super) fn weighted<T: Real>(isa: Isa, terms: &[Addend<'_, T>], c: usize) -> Vec<T> {
    let (len, piece) = (terms[0].len(), rows_per_piece(c) * c);
    // Whole periods of repeated channels, few enough for the first-level cache.
    let period = repeat(&vec![(); c]).len();
    let cached = (CACHED / period).max(1) * period;
    fill(len, piece, len * terms.len(), |i, y| {
        for (j, y) in y.chunks_mut(cached).enumerate() {
            for (t, term) in terms.iter().enumerate() {
                let at = |x: &'_ [T]| i * piece + j * cached..(i * piece + j * cached + y.len()).min(x.len());
                match (term, t) {
                    (Addend::Plain { factor, x }, 0) => scale_piece(isa, &x[at(x)], *factor, y),
                    (Addend::Plain { factor, x }, _) => add_to(isa, *factor, &x[at(x)], y),
                    (Addend::Normalized { x, mean, factor, shift }, 0) => {
                        normalize(isa, &x[at(x)], mean, factor, shift, y);
                    }
                    (Addend::Normalized { x, mean, factor, shift }, _) => {
                        add_normalized(isa, &x[at(x)], mean, factor, shift, y);
                    }
                }
            }
        }
    })
}

pub(super) fn add_scaled<T: Real>(isa: Isa, a: &[T], s: f64, x: &[T]) -> Vec<T> {
    let s = T::from_f64(s);
    fill(a.len(), PIECE, a.len(), |i, y| add_scaled_piece(isa, piece(a, i, PIECE), s, piece(x, i, PIECE), y))
}

pub(super) fn scale<T: Real>(isa: Isa, x: &[T], s: f64) -> Vec<T> {
    fill(x.len(), PIECE, x.len(), |i, y| scale_piece(isa, piece(x, i, PIECE), T::from_f64(s), y))
}

pub(super) fn scale_samples<T: Real>(isa: Isa, x: &[T], factors: &[f64]) -> Vec<T> {
    let sample = x.len() / factors.len().max(1);
    fill(x.len(), sample, x.len(), |i, y| scale_piece(isa, piece(x, i, sample), T::from_f64(factors[i]), y))
}

pub(in crate::kernels) fn dot<T: Real>(isa: Isa, a: &[T], b: &[T]) -> f64 {
    let parts = |i| dot_piece(isa, piece(a, i, PIECE), piece(b, i, PIECE));
    collect(a.len().div_ceil(PIECE), a.len(), parts).into_iter().sum()
}

pub(super) fn is_finite<T: Real>(isa: Isa, x: &[T]) -> bool {
    collect(x.len().div_ceil(PIECE), x.len(), |i| is_finite_piece(isa, piece(x, i, PIECE)))
        .into_iter()
        .all(|yes| yes)
}

pub(super) fn concat<T: Real>(parts: &[&[T]], widths: &[usize]) -> Vec<T> {
    let (c, len) = (widths.iter().sum::<usize>(), parts.iter().map(|part| part.len()).sum());
    let rows = rows_per_piece(c);
    fill(len, rows * c, len, |i, y| {
        let mut first = 0;
        for (part, &width) in parts.iter().zip(widths) {
            for (y, x) in y.chunks_exact_mut(c).zip(piece(part, i, rows * width).chunks_exact(width)) {
                y[first..first + width].copy_from_slice(x);
            }
            first += width;
        }
    })
}

/// `width` of `c` columns, from `first` on.
pub(super) fn columns<T: Real>(x: &[T], c: usize, first: usize, width: usize) -> Vec<T> {
    let rows = rows_per_piece(c);
    let len = x.len() / c * width;
    fill(len, rows * width, len, |i, y| {
        for (y, x) in y.chunks_exact_mut(width).zip(piece(x, i, rows * c).chunks_exact(c)) {
            y.copy_from_slice(&x[first..first + width]);
        }
    })
}

vectorized! {
    fn add_to<T, V, WIDE>(s: T, x: &[T], y: &mut [T]) -> () {
        for (y, &x) in y.iter_mut().zip(x) {
            *y += s * x;
        }
    }
}

vectorized! {
    fn add_normalized<T, V, WIDE>(x: &[T], mean: &[T], factor: &[T], shift: &[T], y: &mut [T]) -> () {
        for (x, y) in x.chunks(mean.len()).zip(y.chunks_mut(mean.len())) {
            for ((((y, &x), &mean), &factor), &shift) in y.iter_mut().zip(x).zip(mean).zip(factor).zip(shift) {
                *y += (x - mean) * factor + shift;
            }
        }
    }
}

vectorized! {
    fn add_piece<T, V, WIDE>(a: &[T], b: &[T], y: &mut [T]) -> () {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = a + b;
        }
    }
}

vectorized! {
    fn add_scaled_piece<T, V, WIDE>(a: &[T], s: T, x: &[T], y: &mut [T]) -> () {
        for ((y, &a), &x) in y.iter_mut().zip(a).zip(x) {
            *y = a + s * x;
        }
    }
}

vectorized! {
    fn scale_piece<T, V, WIDE>(x: &[T], s: T, y: &mut [T]) -> () {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = s * x;
        }
    }
}

vectorized! {
    fn dot_piece<T, V, WIDE>(a: &[T], b: &[T]) -> f64 {
        let mut sums = [0.0; PARTIAL];
        for (a, b) in a.chunks(PARTIAL).zip(b.chunks(PARTIAL)) {
            for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
                *sum += a.to_f64() * b.to_f64();
            }
        }
        sums.iter().sum()
    }
}
vectorized! {
    fn is_finite_piece<T, V, WIDE>(x: &[T]) -> bool {
        // 0·x is 0 for a finite x, else NaN.
        x.iter().fold(true, |finite, &x| finite & (x * T::ZERO == T::ZERO))
    }
}
