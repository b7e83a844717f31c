//! A square hole.

use std::ops::Range;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use search_space::{Extent, Shape};

/// Rows and columns of a hole around a pixel drawn at random; images draw its row first.
pub(super) fn draw(shape: Shape, side: usize, rng: &mut ChaCha8Rng) -> (Range<usize>, Range<usize>) {
    let (height, width) = shape.extent.plane();
    let mut draw = |n: usize| rng.random_range(0..n as u32) as usize;
    let y = if let Extent::Image { .. } = shape.extent { draw(height) } else { 0 };
    spans(shape, side, (y, draw(width)))
}

/// Rows `y − side/2 ..` and columns `x − side/2 ..`, `side` of each, where they lie inside.
pub(super) fn spans(shape: Shape, side: usize, (y, x): (usize, usize)) -> (Range<usize>, Range<usize>) {
    let (height, width) = shape.extent.plane();
    let span = |at: usize, n: usize| at.saturating_sub(side / 2)..(at + side - side / 2).min(n);
    (span(y, height), span(x, width))
}

/// Zeros these rows and columns.
pub(super) fn hole(example: &mut [f32], shape: Shape, (rows, columns): (Range<usize>, Range<usize>)) {
    let (_, width) = shape.extent.plane();
    for row in rows {
        let start = (row * width + columns.start) * shape.channels;
        example[start..start + columns.len() * shape.channels].fill(0.0);
    }
}
