//! Depthwise convolution on slices: sums over the taps of framed images.

use std::ops::Range;

use crate::kernels::{
    Isa, Prelude,
    conv::Shape,
    element::{MAX_LANES, Real, Stored},
    gather::{Gather, Lattice, Lens, Phase, padded},
    map::Map,
    simd::lanes,
    stored::wide,
    threads::{Scratch, add_in_order, collect, fill, images_per_piece},
};

use super::lattice::{Pixels, products, sums};

/// Elements of a few rows of outputs: so few that what becomes of them is still in a near cache when it is read, and so many that
/// memory is read in long runs.
pub(in crate::kernels) const BAND: usize = 4_096;

pub(super) fn forward<M: Stored>(isa: Isa, shape: Shape<'_>, x: &[M], w: &[M::Real]) -> Vec<M> {
    let images = images_per_piece(shape.input.n, shape.input.image());
    let outputs = outputs(isa, shape, w, None);
    fill(shape.output.len(), images * shape.output.image(), work(shape), |i, y| {
        outputs.write(shape.input(x, i, images), None::<&[M]>, y);
    })
}

pub(super) fn input_gradient<M: Stored>(
    isa: Isa,
    shape: Shape<'_>,
    gy: &[M],
    w: &[M::Real],
    x: &[M],
) -> Vec<M> {
    let images = images_per_piece(shape.input.n, shape.input.image());
    let inputs = Inputs::new(isa, shape, w);
    fill(shape.input.len(), images * shape.input.image(), work(shape), |i, gx| {
        inputs.write(shape.output(gy, i, images), shape.input(x, i, images), gx);
    })
}

pub(super) fn weight_gradient<M: Stored>(isa: Isa, shape: Shape<'_>, x: &[M], gy: &[M]) -> Vec<M::Real> {
    let images = images_per_piece(shape.input.n, shape.input.image());
    let sight = Sight::forward(isa, shape, None);
    let parts = collect(shape.input.n.div_ceil(images), work(shape), |i| {
        let (x, gy) = (shape.input(x, i, images), shape.output(gy, i, images));
        let mut part = vec![M::Real::ZERO; shape.window.taps() * shape.input.c];
        let each = x.chunks_exact(shape.input.image()).zip(gy.chunks_exact(shape.output.image()));
        each.for_each(|(x, gy)| {
            sight.frame(x, |frame| {
                wide(gy, |gy| sight.add_weights(frame, 0..shape.output.h, gy, &mut part));
            });
        });
        part
    });
    add_in_order(parts, shape.window.taps() * shape.input.c)
}

fn work(shape: Shape<'_>) -> usize {
    shape.output.len() * shape.window.taps()
}

/// A forward, ready to run on images; `norm` is a batch norm that is still to be applied to them, channels' means, factors
/// and shifts repeated.
pub(in crate::kernels) fn outputs<'a, T: Real>(
    isa: Isa,
    shape: Shape<'a>,
    w: &[T],
    norm: Option<&'a [Vec<T>; 3]>,
) -> ChannelSums<'a, T> {
    ChannelSums::new(Sight::forward(isa, shape, norm), w)
}

/// An input's gradient, ready to run on images.
pub(in crate::kernels) struct Inputs<'a, T: Real> {
    prelude: Prelude,
    sums: ChannelSums<'a, T>,
}

impl<'a, T: Real> Inputs<'a, T> {
    pub(in crate::kernels) fn new(isa: Isa, shape: Shape<'a>, w: &[T]) -> Self {
        Self { prelude: shape.prelude, sums: ChannelSums::new(Sight::backward(isa, shape), w) }
    }

    /// Computes the gradient at some consecutive images, of which `x` are the values.
    pub(in crate::kernels) fn write<G: Stored<Real = T>, M: Stored<Real = T>, N: Stored<Real = T>>(
        &self,
        gy: &[G],
        x: &[M],
        gx: &mut [N],
    ) {
        self.sums.write(gy, (self.prelude == Prelude::Relu).then_some(x), gx);
    }

    /// As [`Inputs::write`] of one image, whose gradient `bands` hands over: it calls what it is given with some rows after the
    /// other. They go where they are read; elsewhere they would wait in the second-level cache. Rows of
    /// the gradient that read no later ones are computed at once.
    pub(in crate::kernels) fn write_arriving<M: Stored<Real = T>, N: Stored<Real = T>>(
        &self,
        bands: impl FnOnce(&mut dyn FnMut(Range<usize>, &[T])),
        x: &[M],
        gx: &mut [N],
    ) {
        let sight = &self.sums.sight;
        let x = (self.prelude == Prelude::Relu).then_some(x);
        sight.lend(|memory| {
            let mut filled = 0;
            bands(&mut |rows, gy| {
                let end = sight.gather.frame.filled(sight.from, rows.end);
                sight.gather.frame.put(sight.from, rows, gy, memory);
                self.sums.write_seen(memory, filled..end, x, gx);
                filled = end;
            });
        });
    }
}

/// How pixels of one map see another, image by image.
pub(in crate::kernels) struct Sight<'a, T: Real> {
    from: &'a Map,
    to: &'a Map,
    gather: Gather,
    lens: Lens<'a, T>,
    frames: Scratch<T>,
}

impl<'a, T: Real> Sight<'a, T> {
    /// Outputs see inputs, perhaps behind a batch norm.
    fn forward(isa: Isa, shape: Shape<'a>, norm: Option<&'a [Vec<T>; 3]>) -> Self {
        let Shape { input, output, window, prelude } = shape;
        let gather = Gather::forward(window, input, output.c);
        let lens = Lens { isa, norm, prelude };
        Self { from: input, to: output, gather, lens, frames: Scratch::new() }
    }

    /// Inputs see gradients of outputs.
    fn backward(isa: Isa, shape: Shape<'a>) -> Self {
        let Shape { input, output, window, .. } = shape;
        let gather = Gather::backward(window, input, output.c);
        let lens = Lens { isa, norm: None, prelude: Prelude::Identity };
        Self { from: output, to: input, gather, lens, frames: Scratch::new() }
    }

    /// Lends memory for a frame, with margins of zeros and a vector behind it.
    fn lend<R>(&self, work: impl FnOnce(&mut [T]) -> R) -> R {
        let len = self.gather.frame.len() + MAX_LANES;
        self.frames.lend_with_margins(len, len, work)
    }

    /// Calls `seen` with an image as windows see it: with margins, in memory that the next one reuses.
    fn frame<M: Stored<Real = T>, R>(&self, image: &[M], seen: impl FnOnce(&[T]) -> R) -> R {
        if self.is_clear() {
            return wide(image, seen);
        }
        let frame = &self.gather.frame;
        self.lend(|memory| {
            frame.fill(self.from, 0..frame.rows(), image, memory, &self.lens);
            seen(memory)
        })
    }

    /// Calls `seen` with a few rows of outputs after the other, and the frame of the image that they see, filled as far as
    /// they see it: what was just written lies in a near cache.
    pub(in crate::kernels) fn bands<M: Stored<Real = T>>(
        &self,
        image: &[M],
        mut seen: impl FnMut(&[T], Range<usize>),
    ) {
        if self.is_clear() {
            return wide(image, |image| self.rows().for_each(|rows| seen(image, rows)));
        }
        let (frame, phase) = (&self.gather.frame, self.phase());
        let reach = phase.reads.at(0, phase.size.1 - 1) + phase.offsets.iter().max().copied().unwrap_or(0);
        self.lend(|memory| {
            let mut filled = 0;
            for rows in self.rows() {
                let end = ((rows.end - 1) * phase.reads.row + reach) / frame.row() + 1;
                frame.fill(self.from, filled..end, image, memory, &self.lens);
                filled = end;
                seen(memory, rows);
            }
        });
    }

    /// Rows of a band.
    pub(in crate::kernels) fn band(&self) -> usize {
        (BAND / (self.to.w * self.to.c)).clamp(1, self.to.h)
    }

    /// All rows of outputs, a band at a time.
    pub(in crate::kernels) fn rows(&self) -> impl Iterator<Item = Range<usize>> + use<T> {
        let (rows, band) = (self.to.h, self.band());
        (0..rows).step_by(band).map(move |first| first..rows.min(first + band))
    }

    /// Whether images are their own frames.
    fn is_clear(&self) -> bool {
        self.lens.is_clear()
            && self.gather.frame.is_whole(self.from)
            && self.from.c.is_multiple_of(lanes::<T>(self.lens.isa))
    }

    /// That of a forward.
    fn phase(&self) -> &Phase {
        let [phase] = &self.gather.phases[..] else { unreachable!("a forward has one phase") };
        phase
    }

    /// Adds what an image's frame and the gradient at some rows of a forward's outputs say of the weights.
    pub(in crate::kernels) fn add_weights(&self, frame: &[T], rows: Range<usize>, gy: &[T], sum: &mut [T]) {
        let (phase, c, lanes) = (self.phase(), self.from.c, lanes::<T>(self.lens.isa));
        let gy = padded(gy, c, lanes);
        let width = c.next_multiple_of(lanes);
        let writes = Lattice { first: 0, row: phase.size.1 * width, column: width };
        let pixels = Pixels { writes, ..Pixels::of(phase, rows) };
        products(self.lens.isa, frame, pixels, &phase.taps, &gy, c, sum);
    }
}

/// Sums over the taps that pixels see, with the weights of each phase.
pub(in crate::kernels) struct ChannelSums<'a, T: Real> {
    pub(in crate::kernels) sight: Sight<'a, T>,
    /// Rows of whole vectors, one for each tap.
    weights: Vec<Vec<T>>,
}

impl<'a, T: Real> ChannelSums<'a, T> {
    fn new(sight: Sight<'a, T>, w: &[T]) -> Self {
        let c = sight.from.c;
        let width = c.next_multiple_of(lanes::<T>(sight.lens.isa));
        let of_phase = |phase: &Phase| {
            let mut rows = vec![T::ZERO; phase.taps.len() * width];
            for (row, tap) in rows.chunks_exact_mut(width).zip(&phase.taps) {
                row[..c].copy_from_slice(&w[tap * c..][..c]);
            }
            rows
        };
        let weights = sight.gather.phases.iter().map(of_phase).collect();
        Self { sight, weights }
    }

    /// Computes some consecutive images; a gradient only where `x` is positive, if there is one.
    pub(in crate::kernels) fn write<S: Stored<Real = T>, M: Stored<Real = T>, N: Stored<Real = T>>(
        &self,
        source: &[S],
        x: Option<&[M]>,
        target: &mut [N],
    ) {
        let (from, to) = (self.sight.from.image(), self.sight.to.image());
        for (i, (source, target)) in source.chunks_exact(from).zip(target.chunks_exact_mut(to)).enumerate() {
            let x = x.map(|x| &x[i * to..][..to]);
            self.sight.frame(source, |frame| self.write_image(frame, x, target));
        }
    }

    /// Computes one image from its frame, as [`ChannelSums::write`].
    fn write_image<M: Stored<Real = T>, N: Stored<Real = T>>(
        &self,
        frame: &[T],
        x: Option<&[M]>,
        target: &mut [N],
    ) {
        self.write_seen(frame, 0..self.sight.gather.frame.rows(), x, target);
    }

    /// As [`ChannelSums::write_image`], only rows of which all that they read is there with some `more` rows of the frame, but was
    /// not before.
    fn write_seen<M: Stored<Real = T>, N: Stored<Real = T>>(
        &self,
        frame: &[T],
        more: Range<usize>,
        x: Option<&[M]>,
        target: &mut [N],
    ) {
        let gather = &self.sight.gather;
        for (phase, weights) in gather.phases.iter().zip(&self.weights) {
            let (before, now) = (gather.seen(phase, more.start), gather.seen(phase, more.end));
            if before < now {
                let from = before * phase.writes.row;
                let (x, target) = (x.map(|x| &x[from..]), &mut target[from..]);
                let pixels = Pixels::of(phase, before..now);
                sums(self.sight.lens.isa, frame, pixels, weights, self.sight.to.c, x, target);
            }
        }
    }

    /// Computes some rows of a forward's outputs from an image's frame.
    pub(in crate::kernels) fn write_rows(&self, frame: &[T], rows: Range<usize>, target: &mut [T]) {
        let pixels = Pixels::of(self.sight.phase(), rows);
        sums::<T, T>(self.sight.lens.isa, frame, pixels, &self.weights[0], self.sight.to.c, None, target);
    }
}
