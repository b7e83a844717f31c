//! A square hole.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use search_space::{Extent, Shape};

/// A hole around a pixel drawn at random; images draw its row first.
pub(super) fn apply(example: &mut [f32], shape: Shape, side: usize, rng: &mut ChaCha8Rng) {
    let (height, width) = shape.extent.plane();
    let mut draw = |n: usize| rng.random_range(0..n as u32) as usize;
    let y = if let Extent::Image { .. } = shape.extent { draw(height) } else { 0 };
    hole(example, shape, side, (y, draw(width)));
}

/// Zeros rows `y − side/2 ..` and columns `x − side/2 ..`, `side` of each, where they lie inside.
pub(super) fn hole(example: &mut [f32], shape: Shape, side: usize, (y, x): (usize, usize)) {
    let (height, width) = shape.extent.plane();
    let span = |at: usize, n: usize| at.saturating_sub(side / 2)..(at + side - side / 2).min(n);
    let columns = span(x, width);
    for row in span(y, height) {
        let start = (row * width + columns.start) * shape.channels;
        example[start..start + columns.len() * shape.channels].fill(0.0);
    }
}
