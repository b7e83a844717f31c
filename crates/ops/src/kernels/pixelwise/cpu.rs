//! 1×1 convolutions on slices: the pixels that one of them reads are picked, a block at a time, and multiplied as a matrix.

use std::ops::Range;

use candle_core::Result;

use super::Layout;
use crate::kernels::{
    Isa, Prelude,
    activation::relu_mask,
    batch_norm::{PieceMoments, PieceProducts, Statistics, Through},
    conv::{Wanted, pointwise::PIXELS},
    element::{Real, Stored, Vector},
    map::Map,
    panels::Panels,
    pending::{self, Then},
    product::{Matrix, Start, matrix_product},
    simd::{lanes, vectorized},
    threads::{Reused, Scratch, add_in_order, collect, images_per_piece, overwrite_several, piece},
    transpose::transpose,
    values::Values,
};

/// Maps that are picked from side by side: as many streams as processors fetch ahead of. One after the other, each block of each begins
/// with waiting.
const SIDE_BY_SIDE: usize = 4;

/// Elements that are picked at once, if that is a row of outputs or more: with their gradient they fit a first-level cache.
const BLOCK: usize = 4_096;

/// What one of the convolutions reads and writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    /// The first row and column of pixels that it reads.
    pub(super) shift: (usize, usize),
    /// The first channel that it writes.
    pub(super) first: usize,
    /// How many it writes.
    pub(super) channels: usize,
}

/// One of the output's maps, the norm's input, and the gradient behind that norm, on its way back through it.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Returning<'a, M: Stored> {
    pub(in crate::kernels) y: &'a [M],
    pub(in crate::kernels) gz: &'a [M],
    pub(in crate::kernels) through: &'a Through<M::Real>,
}

/// The convolutions, ready to run.
pub(in crate::kernels) struct Pixelwise<'a, M: Stored> {
    isa: Isa,
    layout: &'a Layout,
    prelude: Prelude,
    xs: Vec<&'a [M]>,
    ws: Vec<&'a [M::Real]>,
    /// Images of a piece.
    images: usize,
    scratch: Scratch<M::Real>,
}

impl<'a, M: Stored> Pixelwise<'a, M> {
    pub(in crate::kernels) fn new(
        isa: Isa,
        layout: &'a Layout,
        prelude: Prelude,
        xs: &'a [Values<'_, M>],
        ws: &'a [Values<'_, M::Real>],
    ) -> Self {
        let (xs, ws) = (xs.iter().map(|x| &**x).collect(), ws.iter().map(|w| &**w).collect());
        let Layout { input, output, maps, .. } = layout;
        let images = images_per_piece(input.n, (maps * input.image()).max(output.image()));
        Self { isa, layout, prelude, xs, ws, images, scratch: Scratch::new() }
    }

    fn work(&self) -> usize {
        self.layout.output.len() * self.layout.channels()
    }

    fn pieces(&self) -> usize {
        self.layout.input.n.div_ceil(self.images)
    }

    /// Pixels of a row of outputs times channels at the input.
    fn row(&self) -> usize {
        self.layout.output.w * self.layout.channels()
    }

    /// Rows of outputs that are computed at once.
    fn band(&self) -> usize {
        let pixels = (BLOCK / self.layout.channels()).clamp(1, PIXELS);
        (pixels / self.layout.output.w).clamp(1, self.images * self.layout.output.h)
    }

    /// So many rows of outputs, a band at a time.
    fn bands(&self, rows: usize) -> impl Iterator<Item = Range<usize>> + use<M> {
        let band = self.band();
        (0..rows).step_by(band).map(move |first| first..rows.min(first + band))
    }

    /// Each of the output's maps and its moments; `bias` has an element for each channel of all.
    pub(in crate::kernels) fn forward(&self, bias: Option<&[M::Real]>) -> Vec<(Vec<M>, Statistics)> {
        let outputs: Vec<_> = self.layout.outputs().map(|(_, output)| output).collect();
        let sizes: Vec<_> = outputs.iter().map(|map| (map.len(), self.images * map.image())).collect();
        let (ys, parts) = overwrite_several(&sizes, self.work(), |i, ys: &mut [&mut [M]]| {
            self.write(i, bias, ys);
            let moments = ys.iter().zip(&outputs).map(|(y, map)| PieceMoments::of(self.isa, y, map.c));
            moments.collect::<Vec<_>>()
        });
        let mut parts: Vec<_> = parts.into_iter().map(Vec::into_iter).collect();
        let mut next = || parts.iter_mut().filter_map(Iterator::next).collect();
        ys.into_iter().zip(outputs).map(|(y, map)| (y, PieceMoments::merge(next(), map.c))).collect()
    }

    /// What the pieces of an only output that nobody keeps say together with the gradient behind its norm; `bias` as forward.
    pub(in crate::kernels) fn probe(&self, gz: &[M], bias: Option<&[M::Real]>) -> Vec<PieceProducts> {
        let (output, outputs) = (&self.layout.output, Scratch::new());
        collect(self.pieces(), self.work(), |i| {
            let gz = piece(gz, i, self.images * output.image());
            outputs.lend(gz.len(), |y| {
                self.write(i, bias, &mut [&mut *y]);
                PieceProducts::of(self.isa, y, gz, output.c)
            })
        })
    }

    /// A piece of each of the output's maps.
    fn write<N: Stored<Real = M::Real>>(&self, i: usize, bias: Option<&[M::Real]>, ys: &mut [&mut [N]]) {
        let Layout { output: Map { w, .. }, paths, outs, .. } = self.layout;
        let rows = ys[0].len() / (w * outs[0]);
        self.scratch.lend(self.band() * self.row(), |picked| {
            for rows in self.bands(rows) {
                for (path, weights) in paths.iter().zip(&self.ws) {
                    let a = self.pixels(self.pick(*path, i, &rows, picked));
                    // One output of all paths, or one path for all outputs.
                    for ((first, Map { c, .. }), y) in self.layout.outputs().zip(ys.iter_mut()) {
                        let y = &mut y[rows.start * w * c..rows.end * w * c][path.first..];
                        let start =
                            bias.map_or(Start::Zero, |bias| Start::Columns(&bias[path.first + first..]));
                        let (row, vector) = (path.channels, lanes::<M::Real>(self.isa));
                        let b = Panels { values: &weights[first..], row, vector };
                        matrix_product(self.isa, a, b, y, c, path.channels.min(c), start);
                    }
                }
            }
        });
    }

    /// The gradients at the maps and of the weights, as wanted, from each of the output's.
    #[expect(clippy::type_complexity, reason = "gradients of maps, and of weights")]
    pub(in crate::kernels) fn backward(
        &self,
        returning: &[Returning<'_, M>],
        wanted: Wanted,
    ) -> (Option<Vec<Vec<M>>>, Option<Vec<Vec<M::Real>>>) {
        let Layout { input, maps, .. } = self.layout;
        let backward = Backward::new(self, returning, wanted);
        if wanted == Wanted::Weights {
            let parts = collect(self.pieces(), self.work(), |i| backward.run(i, &mut []));
            return (None, backward.sum(parts));
        }
        let sizes = vec![(input.len(), self.images * input.image()); *maps];
        let run = |i, gxs: &mut [&mut [M]]| backward.run(i, gxs);
        let (gxs, parts) = overwrite_several(&sizes, self.work(), run);
        (Some(gxs), backward.sum(parts))
    }

    /// As [`Pixelwise::backward`] of one map, where `then` writes the gradient there by pieces of so many elements, whole images:
    /// the gradient of the only convolution's weights, if wanted.
    pub(in crate::kernels) fn backward_in_pieces(
        mut self,
        len: usize,
        returning: &[Returning<'_, M>],
        wanted: Wanted,
        then: Then<'_, M>,
    ) -> Result<Option<Vec<M::Real>>> {
        self.images = len / self.layout.input.image();
        let backward = Backward::new(&self, returning, wanted);
        let run = |i, gx: &mut [M]| backward.run(i, &mut [gx]);
        let parts = pending::hand_over(self.pieces(), self.work(), run, then)?;
        Ok(backward.sum(parts).and_then(|mut gws| gws.pop()))
    }

    /// The gradient at some rows of a piece's outputs, channels of all maps side by side; by way of some memory where there are
    /// several.
    fn arrive<'m>(
        &self,
        returning: &[Returning<'_, M>],
        i: usize,
        rows: &Range<usize>,
        gy: &'m mut [M::Real],
        memory: &mut [M::Real],
    ) -> &'m [M::Real] {
        let Map { w, c: width, .. } = self.layout.output;
        let gy = &mut gy[..rows.len() * w * width];
        for ((first, map), &Returning { y, gz, through }) in self.layout.outputs().zip(returning) {
            let at = rows.start * w * map.c..rows.end * w * map.c;
            let [y, gz] = [y, gz].map(|values| &piece(values, i, self.images * map.image())[at.clone()]);
            if map.c == width {
                through.write(self.isa, y, gz, gy);
            } else {
                let one = &mut memory[..at.len()];
                through.write(self.isa, y, gz, one);
                pick(self.isa, &[one], (map.c, map.c), false, &mut gy[first..], width);
            }
        }
        gy
    }

    /// Picked pixels as a matrix.
    fn pixels<'m>(&self, picked: &'m [M::Real]) -> Matrix<'m, M::Real> {
        let cols = self.layout.channels();
        Matrix { values: picked, rows: picked.len() / cols, cols, row: cols, col: 1 }
    }

    /// The pixels that a convolution reads for some rows of a piece's outputs, the channels of all maps side by side, behind
    /// the prelude; zeros beyond the image.
    fn pick<'m>(
        &'m self,
        path: Path,
        i: usize,
        rows: &Range<usize>,
        picked: &'m mut [M::Real],
    ) -> &'m [M::Real] {
        let Layout { input, stride, .. } = self.layout;
        let c = input.c;
        if let ((1, 1), [x], Prelude::Identity) = (*stride, &self.xs[..], self.prelude)
            && let Some(x) =
                M::as_real(&piece(x, i, self.images * input.image())[rows.start * c..rows.end * c])
        {
            return x; // is that matrix
        }
        let picked = &mut picked[..rows.len() * self.row()];
        let (width, relu) = (self.layout.channels(), self.prelude == Prelude::Relu);
        for (at, place) in self.runs(path, rows) {
            let picked = &mut picked[place];
            let Some(at) = at else {
                picked.fill(M::Real::ZERO);
                continue;
            };
            let inside = at.len().div_ceil(stride.1 * c) * width;
            picked[inside..].fill(M::Real::ZERO);
            for (m, maps) in self.xs.chunks(SIDE_BY_SIDE).enumerate() {
                let mut xs: [&[M]; SIDE_BY_SIDE] = [&[]; SIDE_BY_SIDE];
                for (x, map) in xs.iter_mut().zip(maps) {
                    *x = &piece(map, i, self.images * input.image())[at.clone()];
                }
                let picked = &mut picked[m * SIDE_BY_SIDE * c..inside];
                pick(self.isa, &xs[..maps.len()], (stride.1 * c, c), relu, picked, width);
            }
        }
        picked
    }

    /// For some rows of a piece's outputs what a convolution reads, as elements of each map, and where that lies among picked
    /// pixels: row by row, or all rows at once where it reads every pixel.
    fn runs(
        &self,
        path: Path,
        rows: &Range<usize>,
    ) -> impl Iterator<Item = (Option<Range<usize>>, Range<usize>)> {
        let (c, row, first, whole) =
            (self.layout.input.c, self.row(), rows.start, self.layout.stride == (1, 1));
        let len = if whole { rows.len() } else { 1 };
        rows.clone().step_by(len).map(move |at| {
            let read = if whole { Some(at * c..(at + len) * c) } else { self.reads(path, at) };
            (read, (at - first) * row..(at - first + len) * row)
        })
    }

    /// From which element to the end of which row of a piece of a map a convolution reads for a row of outputs.
    fn reads(&self, path: Path, row: usize) -> Option<Range<usize>> {
        let Layout { input: Map { h, w, c, .. }, output, stride, .. } = *self.layout;
        let (image, row) = (row / output.h, row % output.h);
        let (down, right) = (row * stride.0 + path.shift.0, path.shift.1);
        let first = image * h + down;
        (down < h && right < w).then(|| (first * w + right) * c..(first + 1) * w * c)
    }

    /// Adds what picked pixels and their gradient say of a convolution's weights.
    fn add_weights(&self, path: Path, picked: &[M::Real], gy: &[M::Real], sum: &mut [M::Real]) {
        let Matrix { rows, cols, .. } = self.pixels(picked);
        let a = Matrix { values: picked, rows: cols, cols: rows, row: 1, col: cols };
        let b = Panels {
            values: &gy[path.first..],
            row: self.layout.output.c,
            vector: lanes::<M::Real>(self.isa),
        };
        matrix_product(self.isa, a, b, sum, path.channels, path.channels, Start::Old);
    }

    /// Whether a convolution reads every pixel, and its gradients are best written map by map: that saves a copy, and is as
    /// fast by pairs of vectors, or where few channels are summed.
    fn is_direct(&self, path: Path) -> bool {
        let lanes = lanes::<M::Real>(self.isa);
        self.layout.stride == (1, 1) && (self.layout.input.c > lanes || path.channels <= lanes)
    }

    /// Writes the gradients at all pixels of some rows of piece `i`; `w` are the turned weights.
    fn write_direct(
        &self,
        path: Path,
        gy: &[M::Real],
        w: &[M::Real],
        (i, rows): (usize, &Range<usize>),
        gxs: &mut [&mut [M]],
    ) {
        let Layout { input, output, .. } = self.layout;
        let (c, width) = (input.c, self.layout.channels());
        let pixels = rows.start * output.w..rows.end * output.w;
        let (rows, row) = (pixels.len(), self.layout.output.c);
        let a = Matrix { values: &gy[path.first..], rows, cols: path.channels, row, col: 1 };
        for (m, (gx, x)) in gxs.iter_mut().zip(&self.xs).enumerate() {
            let at = pixels.start * c..pixels.end * c;
            let b = Panels { values: &w[m * c..], row: width, vector: lanes::<M::Real>(self.isa) };
            matrix_product(self.isa, a, b, &mut gx[at.clone()], c, c, Start::Zero);
            if self.prelude == Prelude::Relu {
                relu_mask(self.isa, &piece(x, i, self.images * input.image())[at.clone()], &mut gx[at]);
            }
        }
    }

    /// Writes the gradients at the pixels that a convolution read; `w` are its turned weights.
    fn spread(
        &self,
        path: Path,
        (picked, gy): (&[M::Real], &[M::Real]),
        w: &[M::Real],
        rows: &Range<usize>,
        gpicked: &mut [M::Real],
        gxs: &mut [&mut [M]],
    ) {
        let Layout { input, stride, .. } = self.layout;
        let (Matrix { rows: pixels, cols: width, .. }, c) = (self.pixels(picked), input.c);
        let (cols, row) = (path.channels, self.layout.output.c);
        let a = Matrix { values: &gy[path.first..], rows: pixels, cols, row, col: 1 };
        let gpicked = &mut gpicked[..picked.len()];
        let b = Panels { values: w, row: width, vector: lanes::<M::Real>(self.isa) };
        matrix_product(self.isa, a, b, gpicked, width, width, Start::Zero);
        let masked = self.prelude == Prelude::Relu;
        for (at, place) in self.runs(path, rows) {
            let Some(at) = at else { continue };
            let (picked, gpicked) = (&picked[place.clone()], &gpicked[place]);
            for (m, gx) in gxs.iter_mut().enumerate() {
                let (picked, gpicked) = (&picked[m * c..], &gpicked[m * c..]);
                spread(self.isa, gpicked, picked, width, masked, (stride.1 * c, c), &mut gx[at.clone()]);
            }
        }
    }
}

/// A backward, ready to run on pieces.
struct Backward<'a, M: Stored> {
    pixelwise: &'a Pixelwise<'a, M>,
    returning: &'a [Returning<'a, M>],
    wanted: Wanted,
    /// Each convolution's weights, transposed, where the gradients at the maps are wanted.
    turned: Vec<Vec<M::Real>>,
}

impl<'a, M: Stored> Backward<'a, M> {
    fn new(pixelwise: &'a Pixelwise<'a, M>, returning: &'a [Returning<'a, M>], wanted: Wanted) -> Self {
        let Layout { paths, outs, .. } = pixelwise.layout;
        assert_eq!(returning.len(), outs.len());
        let turned = match wanted {
            Wanted::Weights => Vec::new(),
            _ => paths.iter().zip(&pixelwise.ws).map(|(path, w)| transpose(w, path.channels)).collect(),
        };
        Self { pixelwise, returning, wanted, turned }
    }

    /// How many weights there are.
    fn weights(&self) -> usize {
        self.pixelwise.ws.iter().map(|w| w.len()).sum()
    }

    /// Writes the gradients at a piece of the maps, if they are wanted; what the piece adds to the weights' ones, likewise.
    fn run(&self, i: usize, gxs: &mut [&mut [M]]) -> Option<Reused<M::Real>> {
        let Self { pixelwise: on, returning, wanted, turned } = self;
        let Layout { output, paths, .. } = on.layout;
        let mut sum = (*wanted != Wanted::Input).then(|| Reused::zeros(self.weights()));
        if on.layout.stride != (1, 1) {
            gxs.iter_mut().for_each(|gx| gx.fill(M::zero())); // not every pixel is read
        }
        let (of_y, of_x) = (on.band() * output.w * output.c, on.band() * on.row());
        on.scratch.lend(of_y + of_x + of_x.max(of_y), |memory| {
            let (gy, memory) = memory.split_at_mut(of_y);
            let (picked, gpicked) = memory.split_at_mut(of_x);
            for rows in on.bands(on.images.min(output.n - i * on.images) * output.h) {
                let gy = on.arrive(returning, i, &rows, gy, gpicked);
                let mut rest = sum.as_mut().map(|sum| &mut sum[..]);
                for (p, (path, w)) in paths.iter().zip(&on.ws).enumerate() {
                    if let (Some(w), true) = (turned.get(p), on.is_direct(*path)) {
                        on.write_direct(*path, gy, w, (i, &rows), gxs);
                        if *wanted == Wanted::Input {
                            continue;
                        }
                    }
                    let picked = on.pick(*path, i, &rows, picked);
                    if let Some(sum) = rest.take() {
                        let (sum, behind) = sum.split_at_mut(w.len());
                        on.add_weights(*path, picked, gy, sum);
                        rest = Some(behind);
                    }
                    if let (Some(w), false) = (turned.get(p), on.is_direct(*path)) {
                        on.spread(*path, (picked, gy), w, &rows, gpicked, gxs);
                    }
                }
            }
        });
        sum
    }

    /// The gradient of each convolution's weights of what all pieces say of them, if it is wanted.
    fn sum(&self, parts: Vec<Option<Reused<M::Real>>>) -> Option<Vec<Vec<M::Real>>> {
        (self.wanted != Wanted::Input).then(|| {
            let mut all = add_in_order(parts.into_iter().flatten(), self.weights());
            self.pixelwise.ws.iter().map(|w| all.drain(..w.len()).collect()).collect()
        })
    }
}

vectorized! {
    /// Of every `by.0` elements of each map the first `by.1`, whole vectors, perhaps behind a ReLU, map behind map to places `width`
    /// apart; of one map to [`SIDE_BY_SIDE`], of one size.
    fn pick<M: Stored, V, WIDE>(
        xs: &[&[M]], by: (usize, usize), relu: bool, picked: &mut [M::Real], width: usize
    ) -> () {
        match *xs {
            [a] => pick_from::<M, V, 1>([a], by, relu, picked, width),
            [a, b] => pick_from::<M, V, 2>([a, b], by, relu, picked, width),
            [a, b, c] => pick_from::<M, V, 3>([a, b, c], by, relu, picked, width),
            [a, b, c, d] => pick_from::<M, V, 4>([a, b, c, d], by, relu, picked, width),
            _ => unreachable!("one map to four"),
        }
    }
}

#[inline(always)]
fn pick_from<M: Stored, V: Vector<Elem = M::Real>, const MAPS: usize>(
    xs: [&[M]; MAPS],
    (step, c): (usize, usize),
    relu: bool,
    picked: &mut [M::Real],
    width: usize,
) {
    let pixels = xs[0].len().div_ceil(step);
    assert!(c.is_multiple_of(V::LANES) && MAPS * c <= width && pixels > 0);
    assert!(xs.iter().all(|x| (pixels - 1) * step + c <= x.len()));
    assert!((pixels - 1) * width + MAPS * c <= picked.len());
    for pixel in 0..pixels {
        for (m, x) in xs.iter().enumerate() {
            for lane in (0..c).step_by(V::LANES) {
                // SAFETY: just checked: `c` elements from every pixel on lie in every map, and those of all maps in `picked`.
                unsafe {
                    let x: V = M::load(x.as_ptr().add(pixel * step + lane));
                    let x = if relu { x.relu() } else { x };
                    x.store(picked.as_mut_ptr().add(pixel * width + m * c + lane));
                }
            }
        }
    }
}

vectorized! {
    /// Writes to where [`pick`] read from; 0 where what it `picked` was not positive, if that is a mask.
    fn spread<M: Stored, V, WIDE>(
        gy: &[M::Real], picked: &[M::Real], width: usize, masked: bool, by: (usize, usize), gx: &mut [M]
    ) -> () {
        let (step, c) = by;
        let pixels = gx.len().div_ceil(step);
        assert!(c.is_multiple_of(V::LANES) && c <= width && pixels > 0 && gy.len() == picked.len());
        assert!((pixels - 1) * step + c <= gx.len() && (pixels - 1) * width + c <= gy.len());
        for pixel in 0..pixels {
            for lane in (0..c).step_by(V::LANES) {
                // SAFETY: just checked: `c` elements from every pixel on lie in all three.
                unsafe {
                    let gy = V::load(gy.as_ptr().add(pixel * width + lane));
                    let seen = picked.as_ptr().add(pixel * width + lane);
                    let gy = if masked { gy.where_positive(V::load(seen)) } else { gy };
                    M::store(gy, gx.as_mut_ptr().add(pixel * step + lane));
                }
            }
        }
    }
}
