//! Dense convolution on slices: an implicit matrix product over gathered offsets.

use crate::kernels::{
    Isa, Prelude, Window,
    activation::relu_mask,
    gather::{Gather, padded},
    product::{Panels, Store, Sum, pack, product},
    simd::lanes,
    threads::{add_in_order, collect, fill, images_per_piece, piece},
    values::{Map, Real},
};

/// Pixels summed at once in a weight's gradient: as many as the first-level cache holds.
const PIXELS: usize = 128;

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
    fill(output.len(), images * output.image(), work, |i, y| {
        let x = piece(x, i, images * input.image());
        sums.write(x, input, prelude, y, output);
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
        sums.write(piece(gy, i, images * output.image()), output, Prelude::Identity, gx, input);
        if prelude == Prelude::Relu {
            relu_mask(isa, piece(x, i, images * input.image()), gx);
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
    let rows = phase.channels(input.c);
    let place = |&tap: &usize| (0..input.c).map(move |ci| (tap * input.c + ci) * output.c);
    let outs: Vec<_> = phase.taps.iter().flat_map(place).collect();
    let len = window.taps() * input.c * output.c;
    let lanes = lanes::<T>(isa);
    let parts = collect(input.n.div_ceil(images), output.len() * rows.len(), |i| {
        let frames = gather.frames(input, prelude, piece(x, i, images * input.image()), true);
        let gy = padded(piece(gy, i, images * output.image()), output.c, lanes);
        let width = output.c.next_multiple_of(lanes);
        let mut part = vec![T::ZERO; len];
        for (cols, gy) in phase.pixels.chunks(PIXELS).zip(gy.chunks(PIXELS * width)) {
            let cols = &cols[..gy.len() / width];
            let sum = Sum { values: &frames, rows: &rows, cols, outs: &outs };
            product(
                isa,
                sum,
                Panels { values: gy, row: width, vector: lanes },
                &mut part,
                output.c,
                Store::Add,
            );
        }
        part
    });
    add_in_order(parts, len)
}

/// A gather, with what each of its phases sums over and the weights of that.
struct Sums<T> {
    isa: Isa,
    gather: Gather,
    cols: Vec<Vec<usize>>,
    panels: Vec<Vec<T>>,
}

impl<T: Real> Sums<T> {
    fn new(isa: Isa, gather: Gather, channels: usize, panels: Vec<Vec<T>>) -> Self {
        let cols = gather.phases.iter().map(|phase| phase.channels(channels)).collect();
        Self { isa, gather, cols, panels }
    }

    /// Computes some consecutive images.
    fn write(&self, source: &[T], from: &Map, prelude: Prelude, target: &mut [T], to: &Map) {
        let frames = self.gather.frames(from, prelude, source, true);
        let lanes = lanes::<T>(self.isa);
        for ((phase, cols), panels) in self.gather.phases.iter().zip(&self.cols).zip(&self.panels) {
            let sum = self.gather.sum(phase, &frames, cols, target.len() / to.image());
            let b = Panels { values: panels, row: lanes, vector: lanes * cols.len() };
            product(self.isa, sum, b, target, to.c, Store::Replace);
        }
    }
}
