//! Depthwise convolution on slices: sums over gathered offsets, a vector of channels at a time.

use crate::kernels::{
    Isa, Prelude, Window,
    activation::relu_mask,
    gather::{Gather, padded},
    product::{Sum, channelwise, runs},
    simd::lanes,
    threads::{add_in_order, collect, fill, images_per_piece, piece},
    values::{Map, Real},
};

pub(super) fn forward<T: Real>(
    isa: Isa,
    x: &[T],
    input: &Map,
    w: &[T],
    output: &Map,
    window: &Window,
    prelude: Prelude,
) -> Vec<T> {
    let gather = Gather::forward(window, input, output.c);
    let sums = ChannelSums::new(isa, gather, input, output, |tap| &w[tap * input.c..][..input.c]);
    fill(output.len(), sums.images * output.image(), output.len() * window.taps(), |i, y| {
        sums.write(piece(x, i, sums.images * input.image()), input, prelude, y, output);
    })
}

#[expect(clippy::too_many_arguments, reason = "two slices and their shapes more than a forward")]
pub(super) fn input_gradient<T: Real>(
    isa: Isa,
    gy: &[T],
    output: &Map,
    w: &[T],
    x: &[T],
    input: &Map,
    window: &Window,
    prelude: Prelude,
) -> Vec<T> {
    let gather = Gather::backward(window, input, output.c);
    let sums = ChannelSums::new(isa, gather, output, input, |tap| &w[tap * input.c..][..input.c]);
    fill(input.len(), sums.images * input.image(), output.len() * window.taps(), |i, gx| {
        let gy = piece(gy, i, sums.images * output.image());
        sums.write(gy, output, Prelude::Identity, gx, input);
        if prelude == Prelude::Relu {
            relu_mask(isa, piece(x, i, sums.images * input.image()), gx);
        }
    })
}

pub(super) fn weight_gradient<T: Real>(
    isa: Isa,
    x: &[T],
    input: &Map,
    gy: &[T],
    output: &Map,
    window: &Window,
    prelude: Prelude,
) -> Vec<T> {
    let gather = Gather::forward(window, input, output.c);
    let images = images_per_piece(input.n, gather.frame.len());
    let gather = gather.over(images, output.image());
    let [phase] = &gather.phases[..] else { unreachable!("a forward has one phase") };
    let outs: Vec<_> = phase.taps.iter().map(|tap| tap * input.c).collect();
    let (c, lanes) = (input.c, lanes::<T>(isa));
    let width = c.next_multiple_of(lanes);
    let parts = collect(input.n.div_ceil(images), output.len() * window.taps(), |i| {
        let frames = gather.frames(input, prelude, piece(x, i, images * input.image()), width == c);
        let gy = padded(piece(gy, i, images * output.image()), c, lanes);
        let cols = runs(phase.pixels[..gy.len() / width].iter().copied());
        let sum = Sum { values: &frames, rows: &phase.offsets, cols: &cols, outs: &outs };
        let mut part = vec![T::ZERO; window.taps() * c];
        channelwise(isa, sum, &gy, width, &mut part, c);
        part
    });
    add_in_order(parts, window.taps() * c)
}

/// A gather over pieces of some images, with the weights of each of its phases.
pub(in crate::kernels) struct ChannelSums<T> {
    isa: Isa,
    gather: Gather,
    weights: Vec<Vec<T>>,
    /// Images of a piece.
    pub(in crate::kernels) images: usize,
}

impl<T: Real> ChannelSums<T> {
    /// Sums from one map to another, each tap with its own row of weights.
    pub(in crate::kernels) fn new<'a>(
        isa: Isa,
        gather: Gather,
        from: &Map,
        to: &Map,
        weights: impl Fn(usize) -> &'a [T],
    ) -> Self {
        let images = images_per_piece(from.n, gather.frame.len());
        let rows = |taps: &[usize]| taps.iter().flat_map(|&tap| weights(tap)).copied().collect::<Vec<_>>();
        let wide = |taps: &[usize]| padded(&rows(taps), from.c, lanes::<T>(isa)).into_owned();
        let weights = gather.phases.iter().map(|phase| wide(&phase.taps)).collect();
        Self { isa, weights, images, gather: gather.over(images, to.image()) }
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
        let width = from.c.next_multiple_of(lanes::<T>(self.isa));
        let frames = self.gather.frames(from, prelude, source, width == from.c);
        for (phase, weights) in self.gather.phases.iter().zip(&self.weights) {
            let cols = runs(phase.offsets.iter().copied());
            let sum = self.gather.sum(phase, &frames, &cols, target.len() / to.image());
            channelwise(self.isa, sum, weights, width, target, to.c);
        }
    }
}
