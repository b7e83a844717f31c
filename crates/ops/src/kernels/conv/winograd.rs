//! Winograd's minimal filtering F(4×4, 3×3): a 3×3 convolution in a quarter of its multiplications.
//!
//! A tile of 4×4 outputs reads 6×6 inputs. Seen through polynomials evaluated at the points 0, ±1, ±2 and ∞, the sum over
//! nine taps is a product at each of 36 positions:
//!
//! ```text
//! Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A        and, as that is bilinear,        ∂L/∂g = Gᵀ [ (A ∂L/∂Y Aᵀ) ⊙ (Bᵀ d B) ] G
//! ```
//!
//! with ⊙ summed over channels, or over tiles: 36 matrix products. The input's gradient is a convolution of the output's
//! with the kernel turned about. The points cost digits: in `f32` errors are some 5e-6 of the largest value, where summing
//! the taps makes 2e-7; hence only `f32` comes here, and `f64`, which checks the mathematics, sums the taps.
//!
//! # References
//! - Winograd, *Arithmetic Complexity of Computations*, 1980
//! - Lavin & Gray, *Fast Algorithms for Convolutional Neural Networks*, 2016, §4, <https://arxiv.org/abs/1509.09308>

use std::{marker::PhantomData, ops::Range};

use candle_core::WithDType;

use super::shape::Shape;
use crate::kernels::{
    Isa, Prelude, Window,
    element::{Real, Vector},
    map::Map,
    panels::Panels,
    product::{Matrix, Start, matrix_product},
    simd::{lanes, vectorized},
    threads::{Reused, Scratch, collect, fill, piece},
    transpose::transpose_to,
};

/// Outputs along a side of a tile.
const OUT: usize = 4;
/// Inputs along a side of a tile.
const IN: usize = 6;
const POSITIONS: usize = IN * IN;
const TAPS: usize = 9;

/// Rows of a kernel that are transformed at once.
const ROWS: usize = 8;

/// Channels from which on the transformations cost less than the multiplications they save.
const CHANNELS: usize = 8;

/// Whether a convolution is of the kind that is computed here: 3×3 and centered, over maps that tiles do not waste.
pub(super) fn fits<T: Real>(shape: Shape<'_>) -> bool {
    let Shape { input, output, window, .. } = shape;
    let side = |pixels: usize| pixels > 2;
    size_of::<T>() == size_of::<f32>()
        && *window == Window::same((3, 3), (1, 1), (1, 1))
        && side(input.h)
        && side(input.w)
        && input.c >= CHANNELS
        && output.c >= CHANNELS
}

/// Which way a convolution runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From inputs to outputs.
    Forward,
    /// From the outputs' gradient to the inputs'.
    Backward,
}

/// The tiles of an image, and how its channels lie in vectors.
#[derive(Clone, Copy, Debug)]
struct Tiles {
    h: usize,
    w: usize,
    rows: usize,
    columns: usize,
    lanes: usize,
}

impl Tiles {
    fn of<T: Real>(isa: Isa, map: &Map) -> Self {
        let (rows, columns) = (map.h.div_ceil(OUT), map.w.div_ceil(OUT));
        Self { h: map.h, w: map.w, rows, columns, lanes: lanes::<T>(isa) }
    }

    /// Tiles of an image.
    fn len(&self) -> usize {
        self.rows * self.columns
    }

    /// `c` channels in whole vectors.
    fn wide(&self, c: usize) -> usize {
        c.next_multiple_of(self.lanes)
    }

    /// Pixels of a row of an image with its margins.
    fn framed(&self) -> usize {
        self.columns * OUT + IN - OUT
    }

    /// Elements from one position's values, so many rows of them, to the next one's. Planes of a power of two would begin in
    /// the same set of a cache, all 36 of them.
    fn plane(&self, rows: usize, wide: usize) -> usize {
        rows * wide + self.lanes
    }

    /// Elements of an image with its margins, its channels in whole vectors.
    fn frame(&self, c: usize) -> usize {
        (self.rows * OUT + IN - OUT) * self.framed() * self.wide(c)
    }
}

/// A convolution in one direction, ready to run on pieces.
pub(super) struct Filter<T: Real> {
    isa: Isa,
    tiles: Tiles,
    from: usize,
    to: usize,
    /// `G g Gᵀ`, `(36, from, wide(to))`, in planes.
    kernel: Reused<T>,
    scratch: Scratch<T>,
}

impl<T: Real> Filter<T> {
    pub(super) fn new(isa: Isa, shape: Shape<'_>, w: &[T], direction: Direction) -> Self {
        let Shape { input, output, .. } = shape;
        let tiles = Tiles::of::<T>(isa, input);
        let (from, to) = match direction {
            Direction::Forward => (input.c, output.c),
            Direction::Backward => (output.c, input.c),
        };
        let turned;
        let taps = match direction {
            Direction::Forward => w,
            Direction::Backward => {
                turned = turn(w, input.c, output.c);
                &turned
            }
        };
        let wide = tiles.wide(to);
        let mut kernel = Reused::new(POSITIONS * tiles.plane(from, wide));
        // SAFETY: every row is transformed once.
        let planes = unsafe { Planes::over(&mut kernel, from, wide) };
        collect(from.div_ceil(ROWS), POSITIONS * from * to, |i| {
            kernel_transform(isa, taps, to, i * ROWS..from.min((i + 1) * ROWS), planes);
        });
        Self { isa, tiles, from, to, kernel, scratch: Scratch::new() }
    }

    /// Computes some consecutive images of `target` from those of `source`; `bias` fills whole vectors. Where `x` is given,
    /// only where that is positive, else 0.
    pub(super) fn write(
        &self,
        source: &[T],
        prelude: Prelude,
        target: &mut [T],
        bias: Option<&[T]>,
        x: Option<&[T]>,
    ) {
        let Self { isa, tiles, from, to, .. } = *self;
        let pixels = tiles.h * tiles.w;
        let images = target.len() / (pixels * to);
        let n = images * tiles.len();
        let (wide_from, wide_to) = (tiles.wide(from), tiles.wide(to));
        let (plane_from, plane_to) = (tiles.plane(n, wide_from), tiles.plane(n, wide_to));
        let lengths = [images * tiles.frame(from), POSITIONS * plane_from, POSITIONS * plane_to];
        self.scratch.lend_with_margins(lengths[0], lengths.iter().sum(), |memory| {
            let (frames, memory) = memory.split_at_mut(lengths[0]);
            let (seen, products) = memory.split_at_mut(lengths[1]);
            see(isa, tiles, source, from, prelude, frames, seen);
            for (position, products) in products.chunks_exact_mut(plane_to).enumerate() {
                let a = Matrix {
                    values: &seen[position * plane_from..][..n * wide_from],
                    rows: n,
                    cols: from,
                    row: wide_from,
                    col: 1,
                };
                let kernel = &self.kernel[position * tiles.plane(from, wide_to)..][..from * wide_to];
                let b = Panels { values: kernel, row: wide_to, vector: tiles.lanes };
                matrix_product(isa, a, b, products, wide_to, wide_to, Start::Zero);
            }
            for (image, target) in target.chunks_exact_mut(pixels * to).enumerate() {
                let first = image * tiles.len();
                let mask = x.map(|x| &x[image * pixels * to..][..pixels * to]);
                output_transform(isa, tiles, products, plane_to, first, to, bias, mask, target);
            }
        });
    }
}

/// The weights' gradient, ready to run on pieces.
pub(super) struct Correlation<T: Real> {
    isa: Isa,
    tiles: Tiles,
    scratch: Scratch<T>,
}

impl<T: Real> Correlation<T> {
    pub(super) fn new(isa: Isa, shape: Shape<'_>) -> Self {
        Self { isa, tiles: Tiles::of::<T>(isa, shape.input), scratch: Scratch::new() }
    }

    /// What some consecutive images add to the gradient, `(3, 3, c_in, c_out)`.
    pub(super) fn part(&self, shape: Shape<'_>, x: &[T], gy: &[T]) -> Reused<T> {
        let Self { isa, tiles, .. } = *self;
        let (c_in, c_out) = (shape.input.c, shape.output.c);
        let images = x.len() / shape.input.image();
        let n = images * tiles.len();
        let (wide_in, wide_out) = (tiles.wide(c_in), tiles.wide(c_out));
        let (plane_in, plane_out) = (tiles.plane(n, wide_in), tiles.plane(n, wide_out));
        let lengths = [
            images * tiles.frame(c_in),
            POSITIONS * plane_in,
            POSITIONS * plane_out,
            POSITIONS * tiles.plane(c_in, wide_out),
        ];
        self.scratch.lend_with_margins(lengths[0], lengths.iter().sum(), |memory| {
            let (frames, memory) = memory.split_at_mut(lengths[0]);
            let (seen, memory) = memory.split_at_mut(lengths[1]);
            let (arrived, sums) = memory.split_at_mut(lengths[2]);
            see(isa, tiles, x, c_in, shape.prelude, frames, seen);
            for (image, gy) in gy.chunks_exact(shape.output.image()).enumerate() {
                gradient_transform(isa, tiles, gy, c_out, plane_out, image * tiles.len(), arrived);
            }
            for (position, sums) in sums.chunks_exact_mut(tiles.plane(c_in, wide_out)).enumerate() {
                let a = Matrix {
                    values: &seen[position * plane_in..][..n * wide_in],
                    rows: c_in,
                    cols: n,
                    row: 1,
                    col: wide_in,
                };
                let gy = &arrived[position * plane_out..][..n * wide_out];
                let b = Panels { values: gy, row: wide_out, vector: tiles.lanes };
                matrix_product(isa, a, b, sums, wide_out, wide_out, Start::Zero);
            }
            let mut part = Reused::new(TAPS * c_in * c_out);
            kernel_gradient(isa, sums, (c_in, c_out, wide_out), &mut part);
            part
        })
    }
}

/// `Bᵀ d B` of the tiles of some consecutive images, `(36, tiles, wide(c))`, by way of images with margins.
fn see<T: Real>(
    isa: Isa,
    tiles: Tiles,
    images: &[T],
    c: usize,
    prelude: Prelude,
    frames: &mut [T],
    seen: &mut [T],
) {
    let (wide, frame) = (tiles.wide(c), tiles.frame(c));
    let plane = seen.len() / POSITIONS;
    let images = images.chunks_exact(tiles.h * tiles.w * c);
    for (i, (image, frame)) in images.zip(frames.chunks_exact_mut(frame)).enumerate() {
        for (y, row) in image.chunks_exact(tiles.w * c).enumerate() {
            let to = &mut frame[((y + 1) * tiles.framed() + 1) * wide..][..tiles.w * wide];
            copy_row(isa, row, c, wide, prelude == Prelude::Relu, to);
        }
        input_transform(isa, tiles, frame, wide, plane, i * tiles.len(), seen);
    }
}

/// A kernel `(3, 3, c_in, c_out)` turned about, its channels exchanged: `(3, 3, c_out, c_in)`.
fn turn<T: Real>(w: &[T], c_in: usize, c_out: usize) -> Vec<T> {
    let tap = c_in * c_out;
    fill(w.len(), tap, w.len(), |i, to| transpose_to(piece(w, TAPS - 1 - i, tap), c_out, to, c_in))
}

/// A kernel at all positions, whose rows threads write beside each other.
#[derive(Clone, Copy)]
struct Planes<'k, T> {
    first: *mut T,
    kernel: PhantomData<&'k mut [T]>,
    /// Elements from one position to the next.
    plane: usize,
    rows: usize,
    /// Elements of a row.
    wide: usize,
}

impl<'k, T> Planes<'k, T> {
    /// # Safety
    /// [`kernel_transform`] runs for each row on one thread at a time.
    unsafe fn over(kernel: &'k mut [T], rows: usize, wide: usize) -> Self {
        let plane = kernel.len() / POSITIONS;
        Self { first: kernel.as_mut_ptr(), kernel: PhantomData, plane, rows, wide }
    }
}

// SAFETY: by the promise made where it came from, no row is written from two threads.
unsafe impl<T: Send> Send for Planes<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Planes<'_, T> {}

vectorized! {
    fn copy_row<T, V, WIDE>(row: &[T], c: usize, wide: usize, relu: bool, to: &mut [T]) -> () {
        if c == wide {
            match relu {
                true => to.iter_mut().zip(row).for_each(|(to, x)| *to = x.relu()),
                false => to.copy_from_slice(row),
            }
        } else {
            for (to, x) in to.chunks_exact_mut(wide).zip(row.chunks_exact(c)) {
                to.iter_mut().zip(x).for_each(|(to, &x)| *to = if relu { x.relu() } else { x });
            }
        }
    }
}

/// Row `y` of a block that is stored by columns.
#[inline(always)]
fn across<V: Vector, const N: usize, const M: usize>(columns: &[[V; M]; N], y: usize) -> [V; N] {
    let mut row = [columns[0][y]; N];
    for (value, column) in row.iter_mut().zip(columns) {
        *value = column[y];
    }
    row
}

/// `Bᵀ d` of six values.
#[inline(always)]
fn b_transposed<V: Vector>([d0, d1, d2, d3, d4, d5]: [V; IN], [two, four]: [V; 2]) -> [V; IN] {
    let (near, far) = (d4.sub(d2), d3.sub(d1));
    let even = V::splat(V::Elem::ZERO).sub(four).mul_add(d2, d4);
    let odd = V::splat(V::Elem::ZERO).sub(four).mul_add(d1, d3);
    [
        four.mul_add(d0.sub(d2), near),
        even.add(odd),
        even.sub(odd),
        two.mul_add(far, near),
        V::splat(V::Elem::ZERO).sub(two).mul_add(far, near),
        V::splat(V::Elem::ZERO).sub(four).mul_add(far, d5.sub(d3)),
    ]
}

/// `Aᵀ m` of six values.
#[inline(always)]
fn a_transposed<V: Vector>([m0, m1, m2, m3, m4, m5]: [V; IN], [two, four, eight]: [V; 3]) -> [V; OUT] {
    let (sum, apart) = (m1.add(m2), m1.sub(m2));
    let (sum2, apart2) = (m3.add(m4), m3.sub(m4));
    [
        m0.add(sum).add(sum2),
        two.mul_add(apart2, apart),
        four.mul_add(sum2, sum),
        eight.mul_add(apart2, apart).add(m5),
    ]
}

/// `A g` of four values.
#[inline(always)]
fn a<V: Vector>([g0, g1, g2, g3]: [V; OUT], [two, four]: [V; 2]) -> [V; IN] {
    let (even, odd) = (g0.add(g2), g1.add(g3));
    let (even2, odd2) = (four.mul_add(g2, g0), four.mul_add(g3, g1));
    let far = two.mul_add(odd2, V::splat(V::Elem::ZERO));
    [g0, even.add(odd), even.sub(odd), even2.add(far), even2.sub(far), g3]
}

vectorized! {
    /// `Bᵀ d B` of every tile of a framed image, written from tile `first` on of planes of `plane` elements.
    fn input_transform<T, V, WIDE>(
        tiles: Tiles, frame: &[T], wide: usize, plane: usize, first: usize, seen: &mut [T]
    ) -> () {
        assert!(frame.len() >= (tiles.rows * OUT + IN - OUT) * tiles.framed() * wide && wide.is_multiple_of(V::LANES));
        assert!((first + tiles.len()) * wide <= plane && POSITIONS * plane <= seen.len());
        let constants = [V::splat(T::ONE + T::ONE), V::splat(T::from_f64(4.0))];
        let row = tiles.framed() * wide;
        for tile in 0..tiles.len() {
            let corner = (tile / tiles.columns) * OUT * row + (tile % tiles.columns) * OUT * wide;
            for c in (0..wide).step_by(V::LANES) {
                let mut columns = [[V::splat(T::ZERO); IN]; IN];
                for (x, column) in columns.iter_mut().enumerate() {
                    let from = frame.as_ptr().wrapping_add(corner + x * wide + c);
                    let mut d = [V::splat(T::ZERO); IN];
                    for (y, d) in d.iter_mut().enumerate() {
                        // SAFETY: the tile lies in the frame, as checked above.
                        *d = unsafe { V::load(from.wrapping_add(y * row)) };
                    }
                    *column = b_transposed(d, constants);
                }
                let to = seen.as_mut_ptr().wrapping_add((first + tile) * wide + c);
                for y in 0..IN {
                    let d = across(&columns, y);
                    for (x, value) in b_transposed(d, constants).into_iter().enumerate() {
                        // SAFETY: every plane holds the tile, as checked above.
                        unsafe { value.store(to.wrapping_add((y * IN + x) * plane)) };
                    }
                }
            }
        }
    }
}

vectorized! {
    /// `Aᵀ m A`, plus `bias`, of an image's tiles, which begin at tile `first` of planes of `plane` elements; where `mask` is
    /// not positive, 0.
    fn output_transform<T, V, WIDE>(
        tiles: Tiles, products: &[T], plane: usize, first: usize, c: usize, bias: Option<&[T]>, mask: Option<&[T]>,
        image: &mut [T]
    ) -> () {
        let wide = tiles.wide(c);
        assert!(wide.is_multiple_of(V::LANES) && (first + tiles.len()) * wide <= plane && POSITIONS * plane <= products.len());
        assert!(image.len() == tiles.h * tiles.w * c && bias.is_none_or(|bias| bias.len() >= wide));
        assert!(mask.is_none_or(|mask| mask.len() == image.len()));
        let constants = [2.0, 4.0, 8.0].map(|x| V::splat(T::from_f64(x)));
        for tile in 0..tiles.len() {
            let (top, left) = ((tile / tiles.columns) * OUT, (tile % tiles.columns) * OUT);
            let (h, w) = (OUT.min(tiles.h - top), OUT.min(tiles.w - left));
            for lane in (0..wide).step_by(V::LANES) {
                let from = products.as_ptr().wrapping_add((first + tile) * wide + lane);
                let mut columns = [[V::splat(T::ZERO); OUT]; IN];
                for (x, column) in columns.iter_mut().enumerate() {
                    let mut m = [V::splat(T::ZERO); IN];
                    for (y, m) in m.iter_mut().enumerate() {
                        // SAFETY: every plane holds the tile, as checked above.
                        *m = unsafe { V::load(from.wrapping_add((y * IN + x) * plane)) };
                    }
                    *column = a_transposed(m, constants);
                }
                // SAFETY: as checked above.
                let shift = bias.map(|bias| unsafe { V::load(bias.as_ptr().add(lane)) });
                for y in 0..h {
                    let m = across(&columns, y);
                    for (x, value) in a_transposed(m, constants).into_iter().take(w).enumerate() {
                        let value = shift.map_or(value, |shift| value.add(shift));
                        let at = ((top + y) * tiles.w + left + x) * c + lane;
                        // SAFETY: the pixel lies in the image and in its mask, and this many of its channels are left.
                        unsafe {
                            let value = match mask {
                                Some(mask) => value.where_positive(V::load_first(mask.as_ptr().add(at), c - lane)),
                                None => value,
                            };
                            value.store_first(image.as_mut_ptr().add(at), c - lane);
                        }
                    }
                }
            }
        }
    }
}

vectorized! {
    /// `A g Aᵀ` of an image's tiles, written from tile `first` on of planes of `plane` elements.
    fn gradient_transform<T, V, WIDE>(
        tiles: Tiles, image: &[T], c: usize, plane: usize, first: usize, arrived: &mut [T]
    ) -> () {
        let wide = tiles.wide(c);
        assert!(wide.is_multiple_of(V::LANES) && (first + tiles.len()) * wide <= plane && POSITIONS * plane <= arrived.len());
        assert!(image.len() == tiles.h * tiles.w * c);
        let constants = [2.0, 4.0].map(|x| V::splat(T::from_f64(x)));
        for tile in 0..tiles.len() {
            let (top, left) = ((tile / tiles.columns) * OUT, (tile % tiles.columns) * OUT);
            let (h, w) = (OUT.min(tiles.h - top), OUT.min(tiles.w - left));
            for lane in (0..wide).step_by(V::LANES) {
                let mut columns = [[V::splat(T::ZERO); IN]; OUT];
                for (x, column) in columns.iter_mut().take(w).enumerate() {
                    let mut g = [V::splat(T::ZERO); OUT];
                    for (y, g) in g.iter_mut().take(h).enumerate() {
                        let at = ((top + y) * tiles.w + left + x) * c + lane;
                        // SAFETY: the pixel lies in the image, and this many of its channels are left.
                        *g = unsafe { V::load_first(image.as_ptr().add(at), c - lane) };
                    }
                    *column = a(g, constants);
                }
                let to = arrived.as_mut_ptr().wrapping_add((first + tile) * wide + lane);
                for y in 0..IN {
                    let g = across(&columns, y);
                    for (x, value) in a(g, constants).into_iter().enumerate() {
                        // SAFETY: every plane holds the tile, as checked above.
                        unsafe { value.store(to.wrapping_add((y * IN + x) * plane)) };
                    }
                }
            }
        }
    }
}

/// `1/4, 1/6, 1/12, 1/24` in every lane.
#[inline(always)]
fn fractions<V: Vector>() -> [V; 4] {
    [4.0, 6.0, 12.0, 24.0].map(|n| V::splat(V::Elem::from_f64(1.0 / n)))
}

/// `G g` of three values.
#[inline(always)]
fn g<V: Vector>([w0, w1, w2]: [V; 3], [quarter, sixth, twelfth, twenty_fourth]: [V; 4]) -> [V; IN] {
    let zero = V::splat(V::Elem::ZERO);
    let (ends, middle) = (sixth.mul_add(w0.add(w2), zero), sixth.mul_add(w1, zero));
    let far = twenty_fourth.mul_add(w0, sixth.mul_add(w2, zero));
    let half = twelfth.mul_add(w1, zero);
    let first = quarter.mul_add(w0, zero);
    [first, zero.sub(ends.add(middle)), middle.sub(ends), far.add(half), far.sub(half), w2]
}

/// `Gᵀ s` of six values.
#[inline(always)]
fn g_transposed<V: Vector>(
    [s0, s1, s2, s3, s4, s5]: [V; IN],
    [quarter, sixth, twelfth, twenty_fourth]: [V; 4],
) -> [V; 3] {
    let zero = V::splat(V::Elem::ZERO);
    let (sum, sum2) = (s1.add(s2), s3.add(s4));
    let near = sixth.mul_add(sum, zero);
    [
        quarter.mul_add(s0, twenty_fourth.mul_add(sum2, zero)).sub(near),
        sixth.mul_add(s2.sub(s1), twelfth.mul_add(s3.sub(s4), zero)),
        sixth.mul_add(sum2, s5).sub(near),
    ]
}

vectorized! {
    /// Some rows of `G g Gᵀ` of a kernel `(3, 3, from, to)`: `(36, from, wide)`, in planes.
    fn kernel_transform<T, V, WIDE>(w: &[T], to: usize, rows: Range<usize>, planes: Planes<'_, T>) -> () {
        let Planes { first, plane, rows: from, wide, .. } = planes;
        let (fractions, tap) = (fractions::<V>(), from * to);
        assert!(w.len() == TAPS * from * to && plane >= from * wide && rows.end <= from);
        assert!(to <= wide && wide.is_multiple_of(V::LANES));
        for row in rows {
            for j in (0..to).step_by(V::LANES) {
                let at = w.as_ptr().wrapping_add(row * to + j);
                let mut columns = [[V::splat(T::ZERO); IN]; 3];
                for (x, column) in columns.iter_mut().enumerate() {
                    let mut taps = [V::splat(T::ZERO); 3];
                    for (y, value) in taps.iter_mut().enumerate() {
                        // SAFETY: this many of the row's weights are left, as checked above.
                        *value = unsafe { V::load_first(at.wrapping_add((y * 3 + x) * tap), to - j) };
                    }
                    *column = g(taps, fractions);
                }
                let to = first.wrapping_add(row * wide + j);
                for y in 0..IN {
                    let values = g(across(&columns, y), fractions);
                    for (x, value) in values.into_iter().enumerate() {
                        // SAFETY: every plane holds whole vectors of this row, as checked above, and by the promise of `planes` it is ours.
                        unsafe { value.store(to.wrapping_add((y * IN + x) * plane)) };
                    }
                }
            }
        }
    }
}

vectorized! {
    /// `Gᵀ s G` of planes of `s` `(36, c_in, wide)`: `(3, 3, c_in, c_out)`.
    fn kernel_gradient<T, V, WIDE>(s: &[T], channels: (usize, usize, usize), w: &mut [T]) -> () {
        let (c_in, c_out, wide) = channels;
        let (fractions, plane, tap) = (fractions::<V>(), s.len() / POSITIONS, c_in * c_out);
        assert!(plane >= c_in * wide && c_out <= wide && wide.is_multiple_of(V::LANES));
        assert!(w.len() == TAPS * tap);
        for row in 0..c_in {
            for j in (0..c_out).step_by(V::LANES) {
                let at = s.as_ptr().wrapping_add(row * wide + j);
                let mut columns = [[V::splat(T::ZERO); 3]; IN];
                for (x, column) in columns.iter_mut().enumerate() {
                    let mut values = [V::splat(T::ZERO); IN];
                    for (y, value) in values.iter_mut().enumerate() {
                        // SAFETY: every plane holds whole vectors of this row, as checked above.
                        *value = unsafe { V::load(at.wrapping_add((y * IN + x) * plane)) };
                    }
                    *column = g_transposed(values, fractions);
                }
                let to = w.as_mut_ptr().wrapping_add(row * c_out + j);
                for y in 0..3 {
                    let s = across(&columns, y);
                    for (x, value) in g_transposed(s, fractions).into_iter().enumerate() {
                        // SAFETY: this many of the row's weights are left, as checked above.
                        unsafe { value.store_first(to.wrapping_add((y * 3 + x) * tap), c_out - j) };
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::noise;

    /// Threads take pieces in any order, the last and smallest of a batch among them.
    #[test]
    fn a_smaller_piece_leaves_nothing_to_a_larger_one() {
        let map = Map::of(&[3, 5, 6, 8]).expect("four axes");
        let window = Window::same((3, 3), (1, 1), (1, 1));
        let shape = Shape { input: &map, output: &map, window: &window, prelude: Prelude::Identity };
        let single = |values: Vec<f64>| values.into_iter().map(|x| x as f32).collect::<Vec<f32>>();
        let (x, w) = (single(noise(map.len(), 1)), single(noise(9 * 64, 2)));
        let isa = Isa::detect();
        let filter = Filter::new(isa, shape, &w, Direction::Forward);
        let outputs = |x: &[f32]| {
            let mut y = vec![0.0; x.len()];
            filter.write(x, Prelude::Identity, &mut y, None, None);
            y
        };
        let first = outputs(&x);
        outputs(&x[..map.image()]);
        assert_eq!(outputs(&x), first);
        let correlation = Correlation::new(isa, shape);
        let first = correlation.part(shape, &x, &x).to_vec();
        correlation.part(shape, &x[..map.image()], &x[..map.image()]);
        assert_eq!(*correlation.part(shape, &x, &x), first);
    }
}
