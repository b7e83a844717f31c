//! Cutting work into pieces whose sizes depend on shapes only.

use candle_core::WithDType;
use rayon::prelude::*;

use super::values::Real;

/// Below this many element operations, handing out the pieces costs more than the work.
const WORTH_SHARING: usize = 50_000;

/// Elements of one piece of an elementwise operation: a quarter of a second-level cache.
pub(crate) const PIECE: usize = 16_384;

/// How many images make a piece: about [`PIECE`] elements, and enough pieces for several threads.
pub(crate) fn images_per_piece(n: usize, image: usize) -> usize {
    (PIECE / image.max(1)).clamp(1, n.div_ceil(8).max(1))
}

/// How many rows of `c` elements make a piece.
pub(crate) fn rows_per_piece(c: usize) -> usize {
    (PIECE / c.max(1)).max(1)
}

/// A fresh vector, written piece by piece; `work` counts element operations in all.
pub(crate) fn fill<T: WithDType>(
    len: usize,
    piece: usize,
    work: usize,
    write: impl Fn(usize, &mut [T]) + Sync,
) -> Vec<T> {
    let mut out = vec![T::zero(); len];
    let piece = piece.max(1);
    if work < WORTH_SHARING {
        out.chunks_mut(piece).enumerate().for_each(|(i, out)| write(i, out));
    } else {
        out.par_chunks_mut(piece).enumerate().for_each(|(i, out)| write(i, out));
    }
    out
}

/// As [`fill`], two vectors of one length at once.
pub(crate) fn fill_pair<A: WithDType, B: WithDType>(
    len: usize,
    piece: usize,
    work: usize,
    write: impl Fn(usize, &mut [A], &mut [B]) + Sync,
) -> (Vec<A>, Vec<B>) {
    let (mut first, mut second) = (vec![A::zero(); len], vec![B::zero(); len]);
    let piece = piece.max(1);
    if work < WORTH_SHARING {
        first
            .chunks_mut(piece)
            .zip(second.chunks_mut(piece))
            .enumerate()
            .for_each(|(i, (a, b))| write(i, a, b));
    } else {
        let pieces = first.par_chunks_mut(piece).zip(second.par_chunks_mut(piece));
        pieces.enumerate().for_each(|(i, (a, b))| write(i, a, b));
    }
    (first, second)
}

/// The results of `n` pieces of work, in order.
pub(crate) fn collect<R: Send>(n: usize, work: usize, piece: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
    if work < WORTH_SHARING {
        (0..n).map(piece).collect()
    } else {
        (0..n).into_par_iter().map(piece).collect()
    }
}

/// Adds vectors in order.
pub(crate) fn add_in_order<T: Real>(parts: impl IntoIterator<Item = Vec<T>>, len: usize) -> Vec<T> {
    parts.into_iter().fold(vec![T::ZERO; len], |mut sum, part| {
        sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
        sum
    })
}

/// Elements of piece `i` of `len`.
pub(crate) fn piece<T>(values: &[T], i: usize, len: usize) -> &[T] {
    &values[i * len..values.len().min((i + 1) * len)]
}
