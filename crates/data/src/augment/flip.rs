//! Left becomes right.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use search_space::Shape;

/// Whether to mirror: every other time.
pub(super) fn draw(rng: &mut ChaCha8Rng) -> bool {
    rng.random_bool(0.5)
}

/// `out[y, x] = in[y, width − 1 − x]`.
pub(super) fn mirror(example: &mut [f32], shape: Shape) {
    let (_, width) = shape.extent.plane();
    let channels = shape.channels;
    for row in example.chunks_exact_mut(width * channels) {
        for x in 0..width / 2 {
            let (left, right) = row.split_at_mut((width - 1 - x) * channels);
            left[x * channels..(x + 1) * channels].swap_with_slice(&mut right[..channels]);
        }
    }
}
