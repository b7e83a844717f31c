//! Depthwise convolution on slices: sums over gathered offsets, a vector of channels at a time.

use std::borrow::Cow;

use crate::kernels::{
    Isa, Prelude,
    activation::relu_mask,
    conv::Shape,
    gather::{Gather, padded},
    product::{Run, Sum, channelwise, runs},
    simd::lanes,
    threads::{add_in_order, collect, fill, images_per_piece},
    values::{Map, Real},
};

pub(super) fn forward<T: Real>(isa: Isa, shape: Shape<'_>, x: &[T], w: &[T]) -> Vec<T> {
    let images = images_per_piece(shape.input.n, shape.input.image());
    let outputs = outputs(isa, shape, w, images);
    fill(shape.output.len(), images * shape.output.image(), work(shape), |i, y| {
        outputs.write(shape.input(x, i, images), shape.input, shape.prelude, y, shape.output);
    })
}

pub(super) fn input_gradient<T: Real>(isa: Isa, shape: Shape<'_>, gy: &[T], w: &[T], x: &[T]) -> Vec<T> {
    let images = images_per_piece(shape.input.n, shape.input.image());
    let inputs = Inputs::new(isa, shape, w, images);
    fill(shape.input.len(), images * shape.input.image(), work(shape), |i, gx| {
        inputs.write(shape.output(gy, i, images), shape.input(x, i, images), gx);
    })
}

pub(super) fn weight_gradient<T: Real>(isa: Isa, shape: Shape<'_>, x: &[T], gy: &[T]) -> Vec<T> {
    let images = images_per_piece(shape.input.n, shape.input.image());
    let weights = Weights::new(isa, shape, images);
    let part = |i| weights.part(shape.input(x, i, images), shape.output(gy, i, images));
    let parts = collect(shape.input.n.div_ceil(images), work(shape), part);
    add_in_order(parts, shape.window.taps() * shape.input.c)
}

fn work(shape: Shape<'_>) -> usize {
    shape.output.len() * shape.window.taps()
}

/// A forward, ready to run on pieces of so many images.
pub(in crate::kernels) fn outputs<T: Real>(
    isa: Isa,
    shape: Shape<'_>,
    w: &[T],
    images: usize,
) -> ChannelSums<T> {
    let Shape { input, output, window, .. } = shape;
    let gather = Gather::forward(window, input, output.c);
    ChannelSums::new(isa, gather, input, output, images, |tap| &w[tap * input.c..][..input.c])
}

/// An input's gradient, ready to run on pieces.
pub(in crate::kernels) struct Inputs<'a, T> {
    shape: Shape<'a>,
    sums: ChannelSums<T>,
}

impl<'a, T: Real> Inputs<'a, T> {
    pub(in crate::kernels) fn new(isa: Isa, shape: Shape<'a>, w: &[T], images: usize) -> Self {
        let Shape { input, output, window, .. } = shape;
        let gather = Gather::backward(window, input, output.c);
        let weights = |tap: usize| &w[tap * input.c..][..input.c];
        Self { shape, sums: ChannelSums::new(isa, gather, output, input, images, weights) }
    }

    /// Computes the gradient at some consecutive images, of which `x` are the values.
    pub(in crate::kernels) fn write(&self, gy: &[T], x: &[T], gx: &mut [T]) {
        self.sums.write(gy, self.shape.output, Prelude::Identity, gx, self.shape.input);
        if self.shape.prelude == Prelude::Relu {
            relu_mask(self.sums.isa, x, gx);
        }
    }
}

/// The weights' gradient, ready to run on pieces.
pub(in crate::kernels) struct Weights<'a> {
    isa: Isa,
    shape: Shape<'a>,
    gather: Gather,
    /// Where each tap's channels are added up.
    outs: Vec<usize>,
}

impl<'a> Weights<'a> {
    pub(in crate::kernels) fn new(isa: Isa, shape: Shape<'a>, images: usize) -> Self {
        let Shape { input, output, window, .. } = shape;
        let gather = Gather::forward(window, input, output.c).over(images, output.image());
        let [phase] = &gather.phases[..] else { unreachable!("a forward has one phase") };
        let outs = phase.taps.iter().map(|tap| tap * input.c).collect();
        Self { isa, shape, gather, outs }
    }

    /// What some consecutive images add.
    pub(in crate::kernels) fn part<T: Real>(&self, x: &[T], gy: &[T]) -> Vec<T> {
        let Shape { input, prelude, .. } = self.shape;
        let whole = input.c.is_multiple_of(lanes::<T>(self.isa));
        self.part_of_frames(&self.gather.frames(input, prelude, x, whole), gy)
    }

    /// The same, from the frames that the forward's [`ChannelSums::frames`] made of the images.
    pub(in crate::kernels) fn part_of_frames<T: Real>(&self, frames: &[T], gy: &[T]) -> Vec<T> {
        let Shape { input, window, .. } = self.shape;
        let [phase] = &self.gather.phases[..] else { unreachable!("a forward has one phase") };
        let (c, lanes) = (input.c, lanes::<T>(self.isa));
        let width = c.next_multiple_of(lanes);
        let gy = padded(gy, c, lanes);
        let cols = runs(phase.pixels[..gy.len() / width].iter().copied());
        let sum = Sum { values: frames, rows: &phase.offsets, cols: &cols, outs: &self.outs };
        let mut part = vec![T::ZERO; window.taps() * c];
        channelwise(self.isa, sum, &gy, width, &mut part, c);
        part
    }
}

/// A gather over pieces of some images, with the weights of each of its phases.
pub(in crate::kernels) struct ChannelSums<T> {
    isa: Isa,
    gather: Gather,
    cols: Vec<Vec<Run>>,
    weights: Vec<Vec<T>>,
}

impl<T: Real> ChannelSums<T> {
    /// Sums from one map to another, each tap with its own row of weights.
    pub(in crate::kernels) fn new<'a>(
        isa: Isa,
        gather: Gather,
        from: &Map,
        to: &Map,
        images: usize,
        weights: impl Fn(usize) -> &'a [T],
    ) -> Self {
        let rows = |taps: &[usize]| taps.iter().flat_map(|&tap| weights(tap)).copied().collect::<Vec<_>>();
        let wide = |taps: &[usize]| padded(&rows(taps), from.c, lanes::<T>(isa)).into_owned();
        let weights = gather.phases.iter().map(|phase| wide(&phase.taps)).collect();
        let cols = gather.phases.iter().map(|phase| runs(phase.offsets.iter().copied())).collect();
        Self { isa, weights, cols, gather: gather.over(images, to.image()) }
    }

    /// Computes some consecutive images.
    pub(in crate::kernels) fn write(
        &self,
        source: &[T],
        from: &Map,
        prelude: Prelude,
        target: &mut [T],
        to: &Map,
    ) {
        self.write_from_frames(&self.frames(source, from, prelude), target, to);
    }

    /// Some consecutive images with the margins that are read.
    pub(in crate::kernels) fn frames<'s>(
        &self,
        source: &'s [T],
        from: &Map,
        prelude: Prelude,
    ) -> Cow<'s, [T]> {
        self.gather.frames(from, prelude, source, from.c.is_multiple_of(lanes::<T>(self.isa)))
    }

    /// As [`ChannelSums::write`], from the images' frames.
    pub(in crate::kernels) fn write_from_frames(&self, frames: &[T], target: &mut [T], to: &Map) {
        let width = to.c.next_multiple_of(lanes::<T>(self.isa));
        for ((phase, cols), weights) in self.gather.phases.iter().zip(&self.cols).zip(&self.weights) {
            let sum = self.gather.sum(phase, frames, cols, target.len() / to.image());
            channelwise(self.isa, sum, weights, width, target, to.c);
        }
    }
}
