//! Sums and multiples on slices.

use crate::kernels::{
    Isa,
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

/// `Σ s·x` over `parts`, in their order.
pub(super) fn weighted<T: Real>(isa: Isa, parts: &[(T, &[T])]) -> Vec<T> {
    let len = parts[0].1.len();
    fill(len, PIECE, len * parts.len(), |i, y| {
        let parts: Vec<(T, &[T])> = parts.iter().map(|(s, x)| (*s, piece(x, i, PIECE))).collect();
        weighted_piece(isa, &parts, y);
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
    fn weighted_piece<T, V, WIDE>(parts: &[(T, &[T])], y: &mut [T]) -> () {
        let [(first, head), rest @ ..] = parts else { return };
        for (i, y) in y.chunks_mut(CACHED).enumerate() {
            let range = i * CACHED..i * CACHED + y.len();
            for (y, &x) in y.iter_mut().zip(&head[range.clone()]) {
                *y = *first * x;
            }
            let mut rest = rest.iter();
            // Two at a time, so that `y` is written half as often.
            while let Some((s, a)) = rest.next() {
                match rest.next() {
                    Some((t, b)) => {
                        for ((y, &a), &b) in y.iter_mut().zip(&a[range.clone()]).zip(&b[range.clone()]) {
                            *y = (*y + *s * a) + *t * b;
                        }
                    }
                    None => {
                        for (y, &a) in y.iter_mut().zip(&a[range.clone()]) {
                            *y += *s * a;
                        }
                    }
                }
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
