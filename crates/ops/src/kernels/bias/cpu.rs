//! Per-channel addition on slices. A channel's constants are repeated until the loop over them is long, whatever C.

use candle_core::WithDType as _;

use crate::kernels::{
    Isa,
    element::{Real, Stored},
    rows::add_up,
    stored::wide,
    threads::{add_in_order, collect, piece, rows_per_piece},
};

/// Elements of a period of repeated channels, at least.
const PERIOD: usize = 128;

/// Repeats the channels' values to about [`PERIOD`] elements.
pub(in crate::kernels) fn repeat<T: Copy>(channels: &[T]) -> Vec<T> {
    channels.repeat(PERIOD.div_ceil(channels.len()))
}

/// Adds up the repetitions of `c` channels, where they are: every piece of every map asks for it.
pub(in crate::kernels) fn fold(mut repeated: Vec<f64>, c: usize) -> Vec<f64> {
    let (sums, others) = repeated.split_at_mut(c);
    for other in others.chunks_exact(c) {
        sums.iter_mut().zip(other).for_each(|(sum, x)| *sum += x);
    }
    repeated.truncate(c);
    repeated
}

pub(super) fn gradient<M: Stored>(isa: Isa, gy: &[M], c: usize) -> Vec<M::Real> {
    let len = rows_per_piece(gy.len(), c) * c;
    let parts =
        collect(gy.len().div_ceil(len), gy.len(), |i| wide(piece(gy, i, len), |gy| channel_sums(isa, gy, c)));
    add_in_order(parts, c).into_iter().map(M::Real::from_f64).collect()
}

/// `Σ x` of each of `c` channels, in `f64`.
pub(in crate::kernels) fn channel_sums<T: Real>(isa: Isa, x: &[T], c: usize) -> Vec<f64> {
    let mut sums = repeat(&vec![0.0; c]);
    add_up(isa, x, &mut sums);
    fold(sums, c)
}
