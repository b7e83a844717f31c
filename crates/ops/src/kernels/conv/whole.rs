//! Convolutions of maps so small that nearly every output reads nearly every input: one matrix product with an image as
//! a row. Tap by tap, most of the work on a 2×2 map would be multiplications by padding.

use super::{
    cpu::Shape,
    pointwise::{PointWeights, Points},
};
use crate::kernels::{Isa, simd::lanes, values::Real};

/// Pixels of the largest map that comes here.
const PIXELS: usize = 4;

/// An output pixel that reads an input pixel through a tap.
#[derive(Clone, Copy, Debug)]
struct Link {
    input: usize,
    output: usize,
    tap: usize,
}

/// Whether a convolution is of this kind, and an image's inputs and outputs fill whole vectors. As with Winograd's
/// points, `f64` stays with the definition.
pub(super) fn fits<T: Real>(isa: Isa, shape: Shape<'_>) -> bool {
    let Shape { input, output, window, .. } = shape;
    let (inputs, outputs) = (input.h * input.w, output.h * output.w);
    size_of::<T>() == size_of::<f32>()
        && (2..=PIXELS).contains(&inputs)
        && window.stride == (1, 1)
        && (inputs * input.c).is_multiple_of(lanes::<T>(isa))
        && (outputs * output.c).is_multiple_of(lanes::<T>(isa))
        && 2 * links(shape).len() >= inputs * outputs
}

/// Every output's taps that lie inside of the map.
fn links(shape: Shape<'_>) -> Vec<Link> {
    let Shape { input, output, window, .. } = shape;
    let inside = |o: usize, k: usize, d: usize, pad: isize, len: usize| {
        usize::try_from((o + k * d) as isize - pad).ok().filter(|&i| i < len)
    };
    let mut links = Vec::new();
    for (oy, ox) in (0..output.h).flat_map(|oy| (0..output.w).map(move |ox| (oy, ox))) {
        for tap in 0..window.taps() {
            let (ky, kx) = (tap / window.kernel.1, tap % window.kernel.1);
            let y = inside(oy, ky, window.dilation.0, window.pad.0, input.h);
            let x = inside(ox, kx, window.dilation.1, window.pad.1, input.w);
            if let Some((y, x)) = y.zip(x) {
                links.push(Link { input: y * input.w + x, output: oy * output.w + ox, tap });
            }
        }
    }
    links
}

/// The forward: the kernel's weights, each wherever a link has it.
pub(super) fn forward<T: Real>(isa: Isa, shape: Shape<'_>, w: &[T]) -> Points<T> {
    let Shape { input, output, .. } = shape;
    let (from, to) = (input.h * input.w * input.c, output.h * output.w * output.c);
    let mut matrix = vec![T::ZERO; from * to];
    for Link { input: p, output: q, tap } in links(shape) {
        let taps = &w[tap * input.c * output.c..][..input.c * output.c];
        for (ci, row) in taps.chunks_exact(output.c).enumerate() {
            matrix[(p * input.c + ci) * to + q * output.c..][..output.c].copy_from_slice(row);
        }
    }
    Points::new(isa, from, to, matrix)
}

/// The input's gradient: the forward's matrix transposed.
pub(super) fn backward<T: Real>(isa: Isa, shape: Shape<'_>, w: &[T]) -> Points<T> {
    let Shape { input, output, .. } = shape;
    let (to, from) = (input.h * input.w * input.c, output.h * output.w * output.c);
    let mut matrix = vec![T::ZERO; from * to];
    for Link { input: p, output: q, tap } in links(shape) {
        let taps = &w[tap * input.c * output.c..][..input.c * output.c];
        for (co, row) in matrix[q * output.c * to..][..output.c * to].chunks_exact_mut(to).enumerate() {
            for (ci, value) in row[p * input.c..][..input.c].iter_mut().enumerate() {
                *value = taps[ci * output.c + co];
            }
        }
    }
    Points::new(isa, from, to, matrix)
}

/// What some consecutive images add to the weights' gradient: the matrix's, each link's share added to its tap.
pub(super) fn part<T: Real>(weights: &PointWeights<T>, shape: Shape<'_>, x: &[T], gy: &[T]) -> Vec<T> {
    let Shape { input, output, window, prelude } = shape;
    let (from, to) = (input.h * input.w * input.c, output.h * output.w * output.c);
    let matrix = weights.part((from, to), prelude, x, gy);
    let mut part = vec![T::ZERO; window.taps() * input.c * output.c];
    for Link { input: p, output: q, tap } in links(shape) {
        let taps = &mut part[tap * input.c * output.c..][..input.c * output.c];
        for (ci, row) in taps.chunks_exact_mut(output.c).enumerate() {
            let share = &matrix[(p * input.c + ci) * to + q * output.c..][..output.c];
            row.iter_mut().zip(share).for_each(|(sum, &x)| *sum += x);
        }
    }
    part
}
