//! Per-channel addition on slices. A channel's constants are repeated until the loop over them is long, whatever C.

use crate::kernels::{
    Isa,
    simd::vectorized,
    threads::{add_in_order, collect, fill, piece, rows_per_piece},
    values::Real,
};

/// Elements of a period of repeated channels, at least.
const PERIOD: usize = 128;

/// Repeats the channels' values to about [`PERIOD`] elements.
pub(in crate::kernels) fn repeat<T: Copy>(channels: &[T]) -> Vec<T> {
    channels.repeat(PERIOD.div_ceil(channels.len()))
}

/// Adds up the repetitions of `c` channels.
pub(in crate::kernels) fn fold(repeated: &[f64], c: usize) -> Vec<f64> {
    add_in_order(repeated.chunks_exact(c).map(<[f64]>::to_vec), c)
}

pub(super) fn add<T: Real>(isa: Isa, x: &[T], b: &[T]) -> Vec<T> {
    let (len, b) = (rows_per_piece(b.len()) * b.len(), repeat(b));
    fill(x.len(), len, x.len(), |i, y| add_piece(isa, piece(x, i, len), &b, y))
}

pub(super) fn gradient<T: Real>(isa: Isa, gy: &[T], c: usize) -> Vec<T> {
    let len = rows_per_piece(c) * c;
    let parts = collect(gy.len().div_ceil(len), gy.len(), |i| {
        let mut sums = repeat(&vec![0.0; c]);
        sum_piece(isa, piece(gy, i, len), &mut sums);
        fold(&sums, c)
    });
    add_in_order(parts, c).into_iter().map(T::from_f64).collect()
}

vectorized! {
    fn add_piece<T, V, WIDE>(x: &[T], b: &[T], y: &mut [T]) -> () {
        for (x, y) in x.chunks(b.len()).zip(y.chunks_mut(b.len())) {
            for ((y, &x), &b) in y.iter_mut().zip(x).zip(b) {
                *y = x + b;
            }
        }
    }
}

vectorized! {
    fn sum_piece<T, V, WIDE>(x: &[T], sums: &mut [f64]) -> () {
        for x in x.chunks(sums.len()) {
            for (sum, &x) in sums.iter_mut().zip(x) {
                *sum += x.to_f64();
            }
        }
    }
}
