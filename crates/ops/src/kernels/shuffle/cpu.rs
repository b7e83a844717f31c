//! Channels taken in turn, on slices.

use candle_core::WithDType;

use crate::kernels::threads::{fill, piece, rows_per_piece};

pub(super) fn join<E: WithDType>(part: &[E], rest: &[E], c: usize, parts: usize) -> Vec<E> {
    let (all, others) = (c * parts, c * (parts - 1));
    let len = part.len() + rest.len();
    let rows = rows_per_piece(len, all);
    fill(len, rows * all, len, |i, y| {
        let inputs =
            piece(part, i, rows * c).chunks_exact(c).zip(piece(rest, i, rows * others).chunks_exact(others));
        for (y, (part, rest)) in y.chunks_exact_mut(all).zip(inputs) {
            for (i, y) in y.chunks_exact_mut(parts).enumerate() {
                y[0] = part[i];
                for (j, y) in y[1..].iter_mut().enumerate() {
                    *y = rest[j * c + i];
                }
            }
        }
    })
}

pub(super) fn part<E: WithDType>(y: &[E], c: usize, parts: usize) -> Vec<E> {
    let (all, len) = (c * parts, y.len() / parts);
    let rows = rows_per_piece(y.len(), all);
    fill(len, rows * c, y.len(), |i, part| {
        for (part, y) in part.iter_mut().zip(piece(y, i, rows * all).iter().step_by(parts)) {
            *part = *y;
        }
    })
}

pub(super) fn rest<E: WithDType>(y: &[E], c: usize, parts: usize) -> Vec<E> {
    let (all, others) = (c * parts, c * (parts - 1));
    let rows = rows_per_piece(y.len(), all);
    fill(y.len() / parts * (parts - 1), rows * others, y.len(), |i, rest| {
        for (rest, y) in rest.chunks_exact_mut(others).zip(piece(y, i, rows * all).chunks_exact(all)) {
            for (j, rest) in rest.chunks_exact_mut(c).enumerate() {
                for (rest, y) in rest.iter_mut().zip(y[j + 1..].iter().step_by(parts)) {
                    *rest = *y;
                }
            }
        }
    })
}
