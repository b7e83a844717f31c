//! Padding and a random window: a random shift that fills with zeros.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use search_space::{Extent, Shape};

/// A shift (down, right) by up to `padding` along every axis; images draw the vertical one first.
pub(super) fn draw(shape: Shape, padding: usize, rng: &mut ChaCha8Rng) -> (isize, isize) {
    let mut draw = || rng.random_range(0..=2 * padding as u32) as isize - padding as isize;
    let down = if let Extent::Image { .. } = shape.extent { draw() } else { 0 };
    (down, draw())
}

/// `out[y, x] = in[y + down, x + right]`, zero where that is outside.
pub(super) fn shift(example: &mut [f32], shape: Shape, (down, right): (isize, isize)) {
    let (height, width) = shape.extent.plane();
    let original = example.to_vec();
    example.fill(0.0);
    let kept = |by: isize, side: usize| (0.max(-by) as usize)..side.saturating_add_signed(-by).min(side);
    let columns = kept(right, width);
    for y in kept(down, height) {
        let row = (y * width + columns.start) * shape.channels;
        let length = columns.len() * shape.channels;
        let from = row.wrapping_add_signed((down * width as isize + right) * shape.channels as isize);
        example[row..row + length].copy_from_slice(&original[from..from + length]);
    }
}
