//! Strided 1×1 convolutions on slices: the pixels that one of them reads are picked, a block at a time, and multiplied as a
//! matrix.

use std::ops::Range;

use super::Layout;
use crate::kernels::{
    Isa, Prelude,
    batch_norm::{PieceMoments, PieceProducts, Statistics, Through},
    conv::pointwise::PIXELS,
    conv_norm::Wanted,
    product::{Matrix, Panels, Start, matrix_product},
    simd::{lanes, vectorized},
    threads::{
        Reused, Scratch, add_in_order, collect, fill_and_collect, fill_several, images_per_piece, piece,
    },
    transpose::transpose,
    values::{Map, Real, Values},
};

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

/// The convolutions, ready to run.
pub(super) struct Strided<'a, T: Real> {
    isa: Isa,
    layout: &'a Layout,
    prelude: Prelude,
    xs: Vec<&'a [T]>,
    ws: Vec<&'a [T]>,
    /// Images of a piece.
    images: usize,
    scratch: Scratch<T>,
}

impl<'a, T: Real> Strided<'a, T> {
    pub(super) fn new(
        isa: Isa,
        layout: &'a Layout,
        prelude: Prelude,
        xs: &'a [Values<'_, T>],
        ws: &'a [Values<'_, T>],
    ) -> Self {
        let (xs, ws) = (xs.iter().map(|x| &**x).collect(), ws.iter().map(|w| &**w).collect());
        let images = images_per_piece(layout.input.n, layout.input.image().max(layout.output.image()));
        Self { isa, layout, prelude, xs, ws, images, scratch: Scratch::new() }
    }

    fn work(&self) -> usize {
        self.layout.output.len() * self.layout.input.c * self.layout.maps
    }

    fn pieces(&self) -> usize {
        self.layout.input.n.div_ceil(self.images)
    }

    /// Rows of outputs that are computed at once.
    fn band(&self) -> usize {
        (PIXELS / self.layout.output.w).clamp(1, self.layout.output.h)
    }

    fn bands(&self) -> impl Iterator<Item = Range<usize>> + use<T> {
        let (rows, band) = (self.layout.output.h, self.band());
        (0..rows).step_by(band).map(move |first| first..rows.min(first + band))
    }

    /// Elements of a band's picked pixels of one map.
    fn picked(&self) -> usize {
        self.band() * self.layout.output.w * self.layout.input.c
    }

    /// The weights of each convolution for the channels of each map, `(c, channels)`.
    fn weights(&self) -> impl Iterator<Item = (Path, Vec<&'a [T]>)> {
        let c = self.layout.input.c;
        self.layout
            .paths
            .iter()
            .zip(&self.ws)
            .map(move |(&path, w)| (path, w.chunks_exact(c * path.channels).collect()))
    }

    /// The output and its moments.
    pub(super) fn forward(&self) -> (Vec<T>, Statistics) {
        let (output, weights) = (&self.layout.output, self.weights().collect::<Vec<_>>());
        let len = self.images * output.image();
        let (y, parts) = fill_and_collect(output.len(), len, self.work(), |i, y: &mut [T]| {
            self.write(i, &weights, y);
            PieceMoments::of(self.isa, y, output.c)
        });
        (y, PieceMoments::merge(parts, output.c))
    }

    /// What the pieces of an output that nobody keeps say together with the gradient behind its norm.
    pub(super) fn probe(&self, gz: &[T]) -> Vec<PieceProducts> {
        let (output, weights) = (&self.layout.output, self.weights().collect::<Vec<_>>());
        let outputs = Scratch::new();
        collect(self.pieces(), self.work(), |i| {
            let gz = piece(gz, i, self.images * output.image());
            outputs.lend(gz.len(), |y| {
                self.write(i, &weights, y);
                PieceProducts::of(self.isa, y, gz, output.c)
            })
        })
    }

    /// The outputs of a piece.
    fn write(&self, i: usize, weights: &[(Path, Vec<&[T]>)], y: &mut [T]) {
        let Layout { input, output, .. } = self.layout;
        self.scratch.lend(self.picked(), |picked| {
            for (image, y) in y.chunks_exact_mut(output.image()).enumerate() {
                for rows in self.bands() {
                    let pixels = rows.len() * output.w;
                    let y = &mut y[rows.start * output.w * output.c..][..pixels * output.c];
                    for (path, weights) in weights {
                        let mut start = Start::Zero;
                        for (x, w) in self.xs.iter().zip(weights) {
                            let x = piece(x, i * self.images + image, input.image());
                            let picked = self.pick(*path, x, &rows, picked);
                            let a =
                                Matrix { values: picked, rows: pixels, cols: input.c, row: input.c, col: 1 };
                            let b = Panels { values: w, row: path.channels, vector: lanes::<T>(self.isa) };
                            let y = &mut y[path.first..];
                            matrix_product(self.isa, a, b, y, output.c, path.channels, start);
                            start = Start::Old;
                        }
                    }
                }
            }
        });
    }

    /// The gradients at the maps and of the weights, as wanted; `(y, gz)` are the norm's input and what arrives behind it.
    #[expect(clippy::type_complexity, reason = "gradients of maps, and of weights")]
    pub(super) fn backward(
        &self,
        (y, gz): (&[T], &[T]),
        through: &Through<T>,
        wanted: Wanted,
    ) -> (Option<Vec<Vec<T>>>, Option<Vec<Vec<T>>>) {
        let Layout { input, output, maps, .. } = self.layout;
        let turned: Vec<(Path, Vec<Vec<T>>)> = match wanted {
            Wanted::Weights => self.layout.paths.iter().map(|&path| (path, Vec::new())).collect(),
            _ => self
                .weights()
                .map(|(path, ws)| (path, ws.into_iter().map(|w| transpose(w, path.channels)).collect()))
                .collect(),
        };
        let weights = self.ws.iter().map(|w| w.len()).sum();
        let run = |i: usize, gxs: &mut [&mut [T]]| {
            let mut sum = (wanted != Wanted::Input).then(|| Reused::zeros(weights));
            let len = self.images * output.image();
            let (y, gz) = (piece(y, i, len), piece(gz, i, len));
            let band = self.band() * output.w * output.c;
            self.scratch.lend(band + 2 * self.picked(), |memory| {
                let (gy, memory) = memory.split_at_mut(band);
                let (picked, gpicked) = memory.split_at_mut(self.picked());
                for image in 0..y.len() / output.image() {
                    for rows in self.bands() {
                        let first = image * output.image() + rows.start * output.w * output.c;
                        let at = first..first + rows.len() * output.w * output.c;
                        let gy = &mut gy[..at.len()];
                        through.write(self.isa, &y[at.clone()], &gz[at], gy);
                        let mut rest = sum.as_mut().map(|sum| &mut sum[..]);
                        for (path, turned) in &turned {
                            for (m, x) in self.xs.iter().enumerate() {
                                let x = piece(x, i * self.images + image, input.image());
                                let picked = self.pick(*path, x, &rows, picked);
                                if let Some(sum) = rest.take() {
                                    let (sum, behind) = sum.split_at_mut(input.c * path.channels);
                                    self.add_weights(*path, picked, gy, sum);
                                    rest = Some(behind);
                                }
                                if let (Some(gx), Some(w)) = (gxs.get_mut(m), turned.get(m)) {
                                    let gx = &mut gx[image * input.image()..][..input.image()];
                                    self.spread(*path, (picked, gy), w, &rows, gpicked, gx);
                                }
                            }
                        }
                    }
                }
            });
            sum
        };
        let (gxs, parts) = match wanted {
            Wanted::Weights => (None, collect(self.pieces(), self.work(), |i| run(i, &mut []))),
            _ => {
                let (gxs, parts) =
                    fill_several(*maps, input.len(), self.images * input.image(), self.work(), run);
                (Some(gxs), parts)
            }
        };
        let gws = (wanted != Wanted::Input).then(|| {
            let mut all = add_in_order(parts.into_iter().flatten(), weights);
            self.ws.iter().map(|w| all.drain(..w.len()).collect()).collect()
        });
        (gxs, gws)
    }

    /// The pixels of an image that a convolution reads for some rows of outputs, behind the prelude; zeros beyond the image.
    fn pick<'m>(&self, path: Path, x: &[T], rows: &Range<usize>, picked: &'m mut [T]) -> &'m [T] {
        let Layout { input, output, stride, .. } = self.layout;
        let picked = &mut picked[..rows.len() * output.w * input.c];
        for (row, picked) in rows.clone().zip(picked.chunks_exact_mut(output.w * input.c)) {
            let inside = match self.reads(path, row) {
                Some(at) => {
                    let inside = &mut picked[..at.len().div_ceil(stride.1 * input.c) * input.c];
                    pick(
                        self.isa,
                        &x[at],
                        stride.1 * input.c,
                        input.c,
                        self.prelude == Prelude::Relu,
                        inside,
                    );
                    inside.len()
                }
                None => 0,
            };
            picked[inside..].fill(T::ZERO);
        }
        picked
    }

    /// From which element to the end of which row of an image a convolution reads for a row of outputs.
    fn reads(&self, path: Path, row: usize) -> Option<Range<usize>> {
        let Layout { input: Map { h, w, c, .. }, stride, .. } = *self.layout;
        let (down, right) = (row * stride.0 + path.shift.0, path.shift.1);
        (down < h && right < w).then(|| (down * w + right) * c..(down + 1) * w * c)
    }

    /// Adds what picked pixels and their gradient say of a convolution's weights for one map.
    fn add_weights(&self, path: Path, picked: &[T], gy: &[T], sum: &mut [T]) {
        let Layout { input, output, .. } = self.layout;
        let pixels = picked.len() / input.c;
        let a = Matrix { values: picked, rows: input.c, cols: pixels, row: 1, col: input.c };
        let b = Panels { values: &gy[path.first..], row: output.c, vector: lanes::<T>(self.isa) };
        matrix_product(self.isa, a, b, sum, path.channels, path.channels, Start::Old);
    }

    /// Writes the gradient at the pixels that a convolution read; `w` are its turned weights for this map.
    fn spread(
        &self,
        path: Path,
        (picked, gy): (&[T], &[T]),
        w: &[T],
        rows: &Range<usize>,
        gpicked: &mut [T],
        gx: &mut [T],
    ) {
        let Layout { input, output, stride, .. } = self.layout;
        let (pixels, gpicked) = (picked.len() / input.c, &mut gpicked[..picked.len()]);
        let a =
            Matrix { values: &gy[path.first..], rows: pixels, cols: path.channels, row: output.c, col: 1 };
        let b = Panels { values: w, row: input.c, vector: lanes::<T>(self.isa) };
        matrix_product(self.isa, a, b, gpicked, input.c, input.c, Start::Zero);
        let row = output.w * input.c;
        let each = picked.chunks_exact(row).zip(gpicked.chunks_exact(row));
        for (y, (picked, gpicked)) in rows.clone().zip(each) {
            if let Some(at) = self.reads(path, y) {
                let masked = self.prelude == Prelude::Relu;
                spread(self.isa, gpicked, picked, stride.1 * input.c, input.c, masked, &mut gx[at]);
            }
        }
    }
}

vectorized! {
    /// The first `c` of every `step` elements, perhaps behind a ReLU.
    fn pick<T, V, WIDE>(x: &[T], step: usize, c: usize, relu: bool, picked: &mut [T]) -> () {
        for (picked, x) in picked.chunks_exact_mut(c).zip(x.chunks(step)) {
            match relu {
                true => picked.iter_mut().zip(x).for_each(|(picked, x)| *picked = x.relu()),
                false => picked.iter_mut().zip(x).for_each(|(picked, &x)| *picked = x),
            }
        }
    }
}

vectorized! {
    /// Writes to where [`pick`] read from; 0 where what it `picked` was not positive, if that is a mask.
    fn spread<T, V, WIDE>(gy: &[T], picked: &[T], step: usize, c: usize, masked: bool, gx: &mut [T]) -> () {
        for ((gx, gy), picked) in gx.chunks_mut(step).zip(gy.chunks_exact(c)).zip(picked.chunks_exact(c)) {
            for ((gx, &gy), &picked) in gx.iter_mut().zip(gy).zip(picked) {
                *gx = if masked && !(picked > T::ZERO) { T::ZERO } else { gy };
            }
        }
    }
}
