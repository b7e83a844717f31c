//! Convolutions to or from maps so small that much of most windows lies outside: a pixel of all images at a time, each a product
//! of the pixels that it reads, an image as a row, and the taps it reads them through. Tap by tap, most of the work on a
//! 2×2 map would be multiplications by padding.

use std::borrow::Cow;

use super::{pointwise::for_blocks, shape::Shape};
use crate::kernels::{
    Isa, Prelude,
    element::Real,
    map::Map,
    panels::Panels,
    product::{Matrix, Start, matrix_product},
    simd::lanes,
    threads::{Reused, Scratch, overwrite},
    transpose::transpose_to,
};

/// Pixels of the largest map that comes here.
const PIXELS: usize = 4;

/// An output pixel that reads an input pixel through a tap.
#[derive(Clone, Copy, Debug)]
struct Link {
    input: usize,
    output: usize,
    tap: usize,
}

/// Consecutive pixels that one pixel reads, the first through `tap` and each other through the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Read {
    pixel: usize,
    tap: usize,
    len: usize,
}

/// Pixels of an image, and channels of a pixel.
#[derive(Clone, Copy, Debug)]
struct Size {
    pixels: usize,
    c: usize,
}

impl Size {
    fn of(map: &Map) -> Self {
        Self { pixels: map.h * map.w, c: map.c }
    }

    fn image(self) -> usize {
        self.pixels * self.c
    }
}

/// Whether a convolution is of this kind, and `c` channels of what it computes fill whole vectors. As with Winograd's
/// points, `f64` stays with the definition.
pub(super) fn fits<T: Real>(isa: Isa, shape: Shape<'_>, c: usize) -> bool {
    let pixels = Size::of(shape.input).pixels.min(Size::of(shape.output).pixels);
    size_of::<T>() == size_of::<f32>()
        && (1..=PIXELS).contains(&pixels)
        && shape.window.taps() > 1
        && c.is_multiple_of(lanes::<T>(isa))
}

/// Every output's taps that lie inside of the map, in order.
fn links(shape: Shape<'_>) -> Vec<Link> {
    let Shape { input, output, window, .. } = shape;
    let inside = |o: usize, s: usize, k: usize, d: usize, pad: isize, len: usize| {
        usize::try_from((o * s + k * d) as isize - pad).ok().filter(|&i| i < len)
    };
    let mut links = Vec::new();
    for (oy, ox) in (0..output.h).flat_map(|oy| (0..output.w).map(move |ox| (oy, ox))) {
        for tap in 0..window.taps() {
            let (ky, kx) = (tap / window.kernel.1, tap % window.kernel.1);
            let y = inside(oy, window.stride.0, ky, window.dilation.0, window.pad.0, input.h);
            let x = inside(ox, window.stride.1, kx, window.dilation.1, window.pad.1, input.w);
            if let Some((y, x)) = y.zip(x) {
                links.push(Link { input: y * input.w + x, output: oy * output.w + ox, tap });
            }
        }
    }
    links
}

/// What each of so many pixels reads, by its number, the pixel and the tap.
fn reads(pixels: usize, links: impl Iterator<Item = (usize, usize, usize)>) -> Vec<Vec<Read>> {
    let mut reads: Vec<Vec<Read>> = vec![Vec::new(); pixels];
    for (reader, pixel, tap) in links {
        match reads[reader].last_mut() {
            Some(read) if (pixel, tap) == (read.pixel + read.len, read.tap + read.len) => read.len += 1,
            _ => reads[reader].push(Read { pixel, tap, len: 1 }),
        }
    }
    reads
}

/// Sums over what each pixel reads.
pub(super) struct Whole<'w, T: Real> {
    isa: Isa,
    from: Size,
    to: Size,
    /// For every pixel of `to`.
    reads: Vec<Vec<Read>>,
    /// Tap by tap, `(from.c, to.c)`.
    w: Cow<'w, [T]>,
    scratch: Scratch<T>,
}

impl<'w, T: Real> Whole<'w, T> {
    pub(super) fn forward(isa: Isa, shape: Shape<'_>, w: &'w [T]) -> Self {
        let (from, to) = (Size::of(shape.input), Size::of(shape.output));
        let links = links(shape).into_iter().map(|link| (link.output, link.input, link.tap));
        Self { isa, from, to, reads: reads(to.pixels, links), w: Cow::Borrowed(w), scratch: Scratch::new() }
    }

    /// The input's gradient. The taps come in reverse, as outputs that read a pixel follow each other.
    pub(super) fn backward(isa: Isa, shape: Shape<'_>, w: &[T]) -> Self {
        let (from, to) = (Size::of(shape.output), Size::of(shape.input));
        let last = shape.window.taps() - 1;
        let links = links(shape).into_iter().map(|link| (link.input, link.output, last - link.tap));
        let turned = overwrite(w.len(), from.c * to.c, w.len(), |i, tap: &mut [T]| {
            transpose_to(shape.tap(w, last - i), from.c, tap, to.c);
        });
        Self { isa, from, to, reads: reads(to.pixels, links), w: Cow::Owned(turned), scratch: Scratch::new() }
    }

    /// Computes some consecutive images.
    pub(super) fn write(&self, x: &[T], prelude: Prelude, y: &mut [T], bias: Option<&[T]>) {
        let Self { isa, from, to, .. } = *self;
        let lanes = lanes::<T>(isa);
        for_blocks(isa, &self.scratch, x, from.image(), prelude, |first, x, images| {
            let y = &mut y[first * to.image()..][..images * to.image()];
            for (pixel, reads) in self.reads.iter().enumerate() {
                let y = &mut y[pixel * to.c..];
                let mut start = bias.map_or(Start::Zero, Start::Columns);
                for read in reads {
                    let x = &x[read.pixel * from.c..];
                    let a = Matrix {
                        values: x,
                        rows: images,
                        cols: read.len * from.c,
                        row: from.image(),
                        col: 1,
                    };
                    let b = Panels { values: &self.w[read.tap * from.c * to.c..], row: to.c, vector: lanes };
                    matrix_product(isa, a, b, y, to.image(), to.c, start);
                    start = Start::Old;
                }
                if reads.is_empty() {
                    for y in y.chunks_mut(to.image()) {
                        match bias {
                            Some(bias) => y[..to.c].copy_from_slice(&bias[..to.c]),
                            None => y[..to.c].fill(T::ZERO),
                        }
                    }
                }
            }
        });
    }
}

/// Sums over the images of what each link adds to its tap.
pub(super) struct WholeWeights<T: Real> {
    isa: Isa,
    links: Vec<Link>,
    scratch: Scratch<T>,
}

impl<T: Real> WholeWeights<T> {
    pub(super) fn new(isa: Isa, shape: Shape<'_>) -> Self {
        Self { isa, links: links(shape), scratch: Scratch::new() }
    }

    /// What some consecutive images add to the weights' gradient.
    pub(super) fn part(&self, shape: Shape<'_>, x: &[T], gy: &[T]) -> Reused<T> {
        let (from, to) = (Size::of(shape.input), Size::of(shape.output));
        let (taps, lanes) = (shape.window.taps(), lanes::<T>(self.isa));
        let mut part = Reused::new(taps * from.c * to.c);
        let mut written = vec![false; taps];
        for_blocks(self.isa, &self.scratch, x, from.image(), shape.prelude, |first, x, images| {
            for &Link { input, output, tap } in &self.links {
                let x = &x[input * from.c..];
                let a = Matrix { values: x, rows: from.c, cols: images, row: 1, col: from.image() };
                let gy = &gy[first * to.image() + output * to.c..];
                let b = Panels { values: gy, row: to.image(), vector: lanes };
                let sum = &mut part[tap * from.c * to.c..][..from.c * to.c];
                let start = if std::mem::replace(&mut written[tap], true) { Start::Old } else { Start::Zero };
                matrix_product(self.isa, a, b, sum, to.c, to.c, start);
            }
        });
        let unseen = part.chunks_exact_mut(from.c * to.c).zip(written).filter(|(_, written)| !written);
        unseen.for_each(|(tap, _)| tap.fill(T::ZERO));
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Window;

    #[test]
    fn neighbors_in_a_row_are_read_at_once() {
        let input = Map { n: 1, h: 2, w: 2, c: 16, rank: 4 };
        let window = Window::same((3, 3), (1, 1), (1, 1));
        let shape = Shape { input: &input, output: &input, window: &window, prelude: Prelude::Identity };
        let w = [0.0f32; 9 * 16 * 16];
        let [top, bottom] = [0, 2].map(|pixel| move |tap| Read { pixel, tap, len: 2 });
        let expected = [[4, 7], [3, 6], [1, 4], [0, 3]].map(|[a, b]| vec![top(a), bottom(b)]);
        assert_eq!(Whole::forward(Isa::detect(), shape, &w).reads, expected);
        assert_eq!(Whole::backward(Isa::detect(), shape, &w).reads, expected);
    }
}
