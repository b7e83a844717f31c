//! Convolutions to maps so small that much of most windows lies outside: a pixel of all images at a time, each a product
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

/// Pixels of the largest output that comes here.
const PIXELS: usize = 4;

/// Rows of a product's tile.
const ROWS: usize = 8;

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

/// Whether a convolution is of this kind, and `c` channels of what it computes fill whole vectors. With strides, an output reads more
/// pixels than taps would be multiplied by padding, so that rows must fill a tile: `images` make a piece. As with Winograd's
/// points, `f64` stays with the definition.
pub(super) fn fits<T: Real>(isa: Isa, shape: Shape<'_>, c: usize, images: usize) -> bool {
    size_of::<T>() == size_of::<f32>()
        && Size::of(shape.output).pixels <= PIXELS
        && shape.window.taps() > 1
        && (shape.window.stride == (1, 1) || images >= ROWS)
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
pub(super) struct Small<'w, T: Real> {
    isa: Isa,
    from: Size,
    to: Size,
    /// For every pixel of `to`.
    reads: Vec<Vec<Read>>,
    /// Tap by tap, `(from.c, to.c)`.
    w: Cow<'w, [T]>,
    scratch: Scratch<T>,
}

impl<'w, T: Real> Small<'w, T> {
    pub(super) fn forward(isa: Isa, shape: Shape<'_>, w: &'w [T]) -> Self {
        let (from, to) = (Size::of(shape.input), Size::of(shape.output));
        let read = links(shape).into_iter().map(|link| (link.output, link.input, link.tap));
        Self { isa, from, to, reads: reads(to.pixels, read), w: Cow::Borrowed(w), scratch: Scratch::new() }
    }

    /// The input's gradient. The taps come in reverse, as outputs that read a pixel follow each other.
    pub(super) fn backward(isa: Isa, shape: Shape<'_>, w: &[T]) -> Self {
        let (from, to) = (Size::of(shape.output), Size::of(shape.input));
        let last = shape.window.taps() - 1;
        let read = links(shape).into_iter().map(|link| (link.input, link.output, last - link.tap));
        let turned = overwrite(w.len(), from.c * to.c, w.len(), |i, tap: &mut [T]| {
            transpose_to(shape.tap(w, last - i), from.c, tap, to.c);
        });
        Self { isa, from, to, reads: reads(to.pixels, read), w: Cow::Owned(turned), scratch: Scratch::new() }
    }

    /// Computes some consecutive images.
    pub(super) fn write(&self, x: &[T], prelude: Prelude, y: &mut [T], bias: Option<&[T]>) {
        let Self { isa, from, to, .. } = *self;
        let vector = lanes::<T>(isa);
        for_blocks(isa, &self.scratch, x, from.image(), prelude, |first, x, images| {
            let y = &mut y[first * to.image()..][..images * to.image()];
            for (pixel, reads) in self.reads.iter().enumerate() {
                let places = &mut y[pixel * to.c..];
                if reads.is_empty() {
                    for place in places.chunks_mut(to.image()).map(|places| &mut places[..to.c]) {
                        match bias {
                            Some(bias) => place.copy_from_slice(&bias[..to.c]),
                            None => place.fill(T::ZERO),
                        }
                    }
                }
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
                    let b = Panels { values: &self.w[read.tap * from.c * to.c..], row: to.c, vector };
                    matrix_product(isa, a, b, places, to.image(), to.c, start);
                    start = Start::Old;
                }
            }
        });
    }
}

/// Sums over the images of what each link adds to its tap.
pub(super) struct SmallWeights<T: Real> {
    isa: Isa,
    from: Size,
    to: Size,
    taps: usize,
    prelude: Prelude,
    links: Vec<Link>,
    scratch: Scratch<T>,
}

impl<T: Real> SmallWeights<T> {
    pub(super) fn new(isa: Isa, shape: Shape<'_>) -> Self {
        let (from, to) = (Size::of(shape.input), Size::of(shape.output));
        let (taps, prelude) = (shape.window.taps(), shape.prelude);
        Self { isa, from, to, taps, prelude, links: links(shape), scratch: Scratch::new() }
    }

    /// What some consecutive images add to the weights' gradient.
    pub(super) fn part(&self, x: &[T], gy: &[T]) -> Reused<T> {
        let Self { isa, from, to, taps, prelude, .. } = *self;
        let size = from.c * to.c;
        let mut part = Reused::new(taps * size);
        let mut written = vec![false; taps];
        for_blocks(isa, &self.scratch, x, from.image(), prelude, |first, x, images| {
            for &Link { input, output, tap } in &self.links {
                let x = &x[input * from.c..];
                let a = Matrix { values: x, rows: from.c, cols: images, row: 1, col: from.image() };
                let gy = &gy[first * to.image() + output * to.c..];
                let b = Panels { values: gy, row: to.image(), vector: lanes::<T>(isa) };
                let start = if std::mem::replace(&mut written[tap], true) { Start::Old } else { Start::Zero };
                matrix_product(isa, a, b, &mut part[tap * size..][..size], to.c, to.c, start);
            }
        });
        let unseen = part.chunks_exact_mut(size).zip(written).filter(|(_, written)| !written);
        unseen.for_each(|(tap, _)| tap.fill(T::ZERO));
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Window;

    #[test]
    fn neighbors_are_read_at_once() {
        let input = Map { n: 1, h: 2, w: 2, c: 16, rank: 4 };
        let window = Window::same((3, 3), (1, 1), (1, 1));
        let shape = Shape { input: &input, output: &input, window: &window, prelude: Prelude::Identity };
        let w = [0.0f32; 9 * 16 * 16];
        let [top, bottom] = [0, 2].map(|pixel| move |tap| Read { pixel, tap, len: 2 });
        let expected = [[4, 7], [3, 6], [1, 4], [0, 3]].map(|[a, b]| vec![top(a), bottom(b)]);
        assert_eq!(Small::forward(Isa::detect(), shape, &w).reads, expected);
        assert_eq!(Small::backward(Isa::detect(), shape, &w).reads, expected);
    }

    /// Where the window is as wide as the map, what follows the end of a row follows the end of a row of taps.
    #[test]
    fn neighbors_may_lie_in_two_rows() {
        let (input, output) =
            (Map { n: 1, h: 2, w: 2, c: 16, rank: 4 }, Map { n: 1, h: 1, w: 1, c: 16, rank: 4 });
        let window = Window::same((2, 2), (2, 2), (1, 1));
        let shape = Shape { input: &input, output: &output, window: &window, prelude: Prelude::Identity };
        let reads = Small::forward(Isa::detect(), shape, &[0.0f32; 4 * 16 * 16]).reads;
        assert_eq!(reads, [[Read { pixel: 0, tap: 0, len: 4 }]]);
    }
}
