//! Convolutions of maps so small that nearly every output reads nearly every input: one matrix product with an image as
//! a row. Tap by tap, most of the work on a 2×2 map would be multiplications by padding.

use super::{
    pointwise::{PointWeights, Points},
    shape::Shape,
};
use crate::kernels::{
    Isa,
    element::Real,
    map::Map,
    panels::Panels,
    product::{Matrix, Start, matrix_product},
    simd::lanes,
    threads::{Reused, overwrite},
    transpose::transpose_to,
};

/// Pixels of the largest map that comes here.
const PIXELS: usize = 4;

/// An output pixel that reads an input pixel through a tap; no pair of pixels is linked twice.
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

/// The taps of links by their input and output pixels.
fn taps(shape: Shape<'_>) -> Vec<Vec<Option<usize>>> {
    let pixels = |map: &Map| map.h * map.w;
    let mut taps = vec![vec![None; pixels(shape.output)]; pixels(shape.input)];
    links(shape).into_iter().for_each(|Link { input, output, tap }| taps[input][output] = Some(tap));
    taps
}

/// The forward: the kernel's weights, each wherever a link has it.
pub(super) fn forward<T: Real>(isa: Isa, shape: Shape<'_>, w: &[T]) -> Points<T> {
    let Shape { input, output, .. } = shape;
    let (from, to) = (input.h * input.w * input.c, output.h * output.w * output.c);
    let taps = taps(shape);
    let matrix = overwrite(from * to, input.c * to, from * to, |p, rows: &mut [T]| {
        for (q, tap) in taps[p].iter().enumerate() {
            let places = rows.chunks_exact_mut(to).map(|row| &mut row[q * output.c..][..output.c]);
            match tap {
                None => places.for_each(|place| place.fill(T::ZERO)),
                Some(tap) => {
                    let weights = shape.tap(w, *tap).chunks_exact(output.c);
                    places.zip(weights).for_each(|(place, weights)| place.copy_from_slice(weights));
                }
            }
        }
    });
    Points::new(isa, from, to, matrix)
}

/// The input's gradient: the forward's matrix transposed.
pub(super) fn backward<T: Real>(isa: Isa, shape: Shape<'_>, w: &[T]) -> Points<T> {
    let Shape { input, output, .. } = shape;
    let (to, from) = (input.h * input.w * input.c, output.h * output.w * output.c);
    let taps = taps(shape);
    let matrix = overwrite(from * to, output.c * to, from * to, |q, rows: &mut [T]| {
        for (p, taps) in taps.iter().enumerate() {
            match taps[q] {
                None => rows.chunks_exact_mut(to).for_each(|row| row[p * input.c..][..input.c].fill(T::ZERO)),
                Some(tap) => transpose_to(shape.tap(w, tap), output.c, &mut rows[p * input.c..], to),
            }
        }
    });
    Points::new(isa, from, to, matrix)
}

/// What some consecutive images add to the weights' gradient: each link's share to its tap.
pub(super) fn part<T: Real>(weights: &PointWeights<T>, shape: Shape<'_>, x: &[T], gy: &[T]) -> Reused<T> {
    let Shape { input, output, window, prelude } = shape;
    let (from, to) = (input.h * input.w * input.c, output.h * output.w * output.c);
    let (links, lanes) = (links(shape), lanes::<T>(weights.isa));
    let mut part = Reused::new(window.taps() * input.c * output.c);
    let mut written = vec![false; window.taps()];
    weights.for_blocks(from, prelude, x, |first, x, images| {
        for &Link { input: p, output: q, tap } in &links {
            let a = Matrix { values: &x[p * input.c..], rows: input.c, cols: images, row: 1, col: from };
            let b = Panels { values: &gy[first * to + q * output.c..], row: to, vector: lanes };
            let taps = &mut part[tap * input.c * output.c..][..input.c * output.c];
            let start = if std::mem::replace(&mut written[tap], true) { Start::Old } else { Start::Zero };
            matrix_product(weights.isa, a, b, taps, output.c, output.c, start);
        }
    });
    let unseen = part.chunks_exact_mut(input.c * output.c).zip(written).filter(|(_, written)| !written);
    unseen.for_each(|(taps, _)| taps.fill(T::ZERO));
    part
}
