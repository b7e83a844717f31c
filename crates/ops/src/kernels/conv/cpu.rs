//! Dense convolution on slices: an implicit matrix product over gathered offsets.

use crate::kernels::{
    Isa, Prelude, Window,
    activation::relu_mask,
    bias::channel_sums,
    gather::{Gather, padded},
    product::{Panels, Run, Start, Sum, pack, product, runs},
    simd::lanes,
    threads::{add_in_order, collect, fill, images_per_piece, piece},
    values::{Map, Real},
};

/// What a pass over the gradient adds up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Weights,
    WeightsAndBias,
}

/// Pixels summed at once in a weight's gradient: as many as the first-level cache holds.
const PIXELS: usize = 128;

#[expect(clippy::too_many_arguments, reason = "three slices, their shapes, and a window")]
pub(super) fn forward<T: Real>(
    isa: Isa,
    x: &[T],
    input: &Map,
    w: &[T],
    bias: Option<&[T]>,
    output: &Map,
    window: &Window,
    prelude: Prelude,
) -> Vec<T> {
    let gather = Gather::forward(window, input, output.c);
    let images = images_per_piece(input.n, gather.frame.len());
    let gather = gather.over(images, output.image());
    let pack_taps = |taps: &[usize]| {
        pack(lanes::<T>(isa), taps.len() * input.c, output.c, |k, co| {
            w[(taps[k / input.c] * input.c + k % input.c) * output.c + co]
        })
    };
    let panels = gather.phases.iter().map(|phase| pack_taps(&phase.taps)).collect();
    let work = output.len() * window.taps() * input.c;
    let sums = Sums::new(isa, gather, input.c, panels);
    let bias = bias.map(|bias| padded(bias, output.c, lanes::<T>(isa)));
    let start = bias.as_deref().map_or(Start::Zero, Start::Columns);
    fill(output.len(), images * output.image(), work, |i, y| {
        let x = piece(x, i, images * input.image());
        sums.write(x, input, prelude, y, output, start);
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
    let images = images_per_piece(input.n, gather.frame.len());
    let gather = gather.over(images, input.image());
    let transposed = |taps: &[usize]| {
        pack(lanes::<T>(isa), taps.len() * output.c, input.c, |k, ci| {
            w[(taps[k / output.c] * input.c + ci) * output.c + k % output.c]
        })
    };
    let panels = gather.phases.iter().map(|phase| transposed(&phase.taps)).collect();
    let work = output.len() * window.taps() * input.c;
    let sums = Sums::new(isa, gather, output.c, panels);
    fill(input.len(), images * input.image(), work, |i, gx| {
        let gy = piece(gy, i, images * output.image());
        sums.write(gy, output, Prelude::Identity, gx, input, Start::Zero);
        if prelude == Prelude::Relu {
            relu_mask(isa, piece(x, i, images * input.image()), gx);
        }
    })
}

/// The gradients of the weights and, where wanted, of the bias.
#[expect(clippy::too_many_arguments, reason = "as of a forward")]
pub(super) fn weight_gradient<T: Real>(
    isa: Isa,
    wanted: Wanted,
    x: &[T],
    input: &Map,
    gy: &[T],
    output: &Map,
    window: &Window,
    prelude: Prelude,
) -> (Vec<T>, Vec<T>) {
    let gather = Gather::forward(window, input, output.c);
    let images = images_per_piece(input.n, gather.frame.len());
    let gather = gather.over(images, output.image());
    let [phase] = &gather.phases[..] else { unreachable!("a forward has one phase") };
    let rows: Vec<_> = phase.channels(input.c).collect();
    let place = |&tap: &usize| (0..input.c).map(move |ci| (tap * input.c + ci) * output.c);
    let outs: Vec<_> = phase.taps.iter().flat_map(place).collect();
    let len = window.taps() * input.c * output.c;
    let lanes = lanes::<T>(isa);
    let parts = collect(input.n.div_ceil(images), output.len() * rows.len(), |i| {
        let frames = gather.frames(input, prelude, piece(x, i, images * input.image()), true);
        let gy = piece(gy, i, images * output.image());
        let bias = match wanted {
            Wanted::Weights => Vec::new(),
            Wanted::WeightsAndBias => channel_sums(isa, gy, output.c),
        };
        let gy = padded(gy, output.c, lanes);
        let width = output.c.next_multiple_of(lanes);
        let mut part = vec![T::ZERO; len];
        for (cols, gy) in phase.pixels.chunks(PIXELS).zip(gy.chunks(PIXELS * width)) {
            let cols = runs(cols[..gy.len() / width].iter().copied());
            let sum = Sum { values: &frames, rows: &rows, cols: &cols, outs: &outs };
            product(
                isa,
                sum,
                Panels { values: gy, row: width, vector: lanes },
                &mut part,
                output.c,
                Start::Old,
            );
        }
        (part, bias)
    });
    let (parts, bias): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    let bias = add_in_order(bias, output.c).into_iter().map(T::from_f64).collect();
    (add_in_order(parts, len), bias)
}

/// A gather, with what each of its phases sums over and the weights of that.
struct Sums<T> {
    isa: Isa,
    gather: Gather,
    cols: Vec<Vec<Run>>,
    panels: Vec<Vec<T>>,
}

impl<T: Real> Sums<T> {
    fn new(isa: Isa, gather: Gather, channels: usize, panels: Vec<Vec<T>>) -> Self {
        let cols = gather.phases.iter().map(|phase| runs(phase.channels(channels))).collect();
        Self { isa, gather, cols, panels }
    }

    /// Computes some consecutive images.
    fn write(
        &self,
        source: &[T],
        from: &Map,
        prelude: Prelude,
        target: &mut [T],
        to: &Map,
        start: Start<'_, T>,
    ) {
        let frames = self.gather.frames(from, prelude, source, true);
        let lanes = lanes::<T>(self.isa);
        for ((phase, cols), panels) in self.gather.phases.iter().zip(&self.cols).zip(&self.panels) {
            let sum = self.gather.sum(phase, &frames, cols, target.len() / to.image());
            let b = Panels { values: panels, row: lanes, vector: panels.len() / to.c.div_ceil(lanes) };
            product(self.isa, sum, b, target, to.c, start);
        }
    }
}
