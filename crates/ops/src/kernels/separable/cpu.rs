//! Two convolutions and a batch norm on slices.

use crate::kernels::{
    Isa,
    batch_norm::{PieceMoments, PieceProducts, Statistics, Through, normalize},
    bias::repeat,
    conv::{Inputs, Outputs, Shape, Weights},
    conv_norm::Wanted,
    depthwise::{self, ChannelSums},
    threads::{Scratch, add_in_order, collect, fill_and_collect, images_per_piece},
    values::Real,
};

/// Both convolutions' shapes; the first one's output is the second one's input.
#[derive(Clone, Copy)]
pub(super) struct Shapes<'a> {
    pub(super) depthwise: Shape<'a>,
    pub(super) dense: Shape<'a>,
}

impl Shapes<'_> {
    /// Images of a piece: what lies between belongs into the cache with what lies around it.
    fn images(&self) -> usize {
        let maps = [self.depthwise.input, self.dense.input, self.dense.output];
        let largest = maps.iter().map(|map| map.image()).max().unwrap_or(1);
        images_per_piece(self.dense.input.n, largest)
    }

    fn work(&self) -> usize {
        self.dense.work() + self.depthwise.output.len() * self.depthwise.window.taps()
    }
}

/// The input: a map, or one whose batch norm is applied on the way, channels' means, factors and shifts repeated.
pub(super) struct Source<'a, T> {
    x: &'a [T],
    norm: Option<[Vec<T>; 3]>,
}

impl<'a, T: Real> Source<'a, T> {
    pub(super) fn new(x: &'a [T], channels: Option<[Vec<T>; 3]>) -> Self {
        Self { x, norm: channels.map(|channels| channels.map(|values| repeat(&values))) }
    }

    /// How much memory [`Source::piece`] needs for pieces of so many elements.
    fn memory(&self, len: usize) -> usize {
        if self.norm.is_some() { len } else { 0 }
    }

    /// Some consecutive images, perhaps by way of `memory`.
    fn piece<'m>(&self, isa: Isa, shape: Shape<'_>, i: usize, images: usize, memory: &'m mut [T]) -> &'m [T]
    where
        'a: 'm,
    {
        let x = shape.input(self.x, i, images);
        let Some([mean, factor, shift]) = &self.norm else { return x };
        let memory = &mut memory[..x.len()];
        normalize(isa, x, mean, factor, shift, memory);
        memory
    }
}

/// The two convolutions, ready to run on pieces.
struct Between<'a, T: Real> {
    isa: Isa,
    shapes: Shapes<'a>,
    images: usize,
    first: ChannelSums<T>,
    second: Outputs<'a, T>,
    scratch: Scratch<T>,
}

impl<'a, T: Real> Between<'a, T> {
    fn new(isa: Isa, shapes: Shapes<'a>, d: &[T], w: &[T], bias: Option<&'a [T]>) -> Self {
        let images = shapes.images();
        let first = depthwise::outputs(isa, shapes.depthwise, d, images);
        let second = Outputs::new(isa, shapes.dense, w, bias, images);
        Self { isa, shapes, images, first, second, scratch: Scratch::new() }
    }

    /// The output of a piece's images.
    fn write(&self, source: &Source<'_, T>, i: usize, y: &mut [T]) {
        let Shapes { depthwise, dense } = self.shapes;
        let images = y.len() / dense.output.image();
        let lengths = [images * dense.input.image(), source.memory(images * depthwise.input.image())];
        self.scratch.lend(lengths.iter().sum(), |memory| {
            let (a, memory) = memory.split_at_mut(lengths[0]);
            let x = source.piece(self.isa, depthwise, i, self.images, memory);
            self.first.write(x, depthwise.input, depthwise.prelude, a, depthwise.output);
            self.second.write(a, y);
        });
    }
}

/// The second convolution's output and its moments.
pub(super) fn forward<T: Real>(
    isa: Isa,
    shapes: Shapes<'_>,
    source: &Source<'_, T>,
    d: &[T],
    w: &[T],
    bias: Option<&[T]>,
) -> (Vec<T>, Statistics) {
    let output = shapes.dense.output;
    let between = Between::new(isa, shapes, d, w, bias);
    let len = between.images * output.image();
    let (y, parts) = fill_and_collect(output.len(), len, shapes.work(), |i, y: &mut [T]| {
        between.write(source, i, y);
        PieceMoments::of(isa, y, output.c)
    });
    (y, PieceMoments::merge(parts, output.c))
}

/// What the pieces of an output that nobody keeps say together with the gradient behind its norm.
pub(super) fn probe<T: Real>(
    isa: Isa,
    shapes: Shapes<'_>,
    gz: &[T],
    source: &Source<'_, T>,
    (d, w): (&[T], &[T]),
    bias: Option<&[T]>,
) -> Vec<PieceProducts> {
    let (between, outputs) = (Between::new(isa, shapes, d, w, bias), Scratch::new());
    collect(shapes.dense.output.n.div_ceil(between.images), shapes.work(), |i| {
        let gz = shapes.dense.output(gz, i, between.images);
        outputs.lend(gz.len(), |y| {
            between.write(source, i, y);
            PieceProducts::of(isa, y, gz, shapes.dense.output.c)
        })
    })
}

/// The gradients at the input and of both convolutions' weights, as wanted; `(y, gz)` are the norm's input and what
/// arrives behind it.
#[expect(clippy::type_complexity, reason = "one gradient, and a pair of them")]
pub(super) fn backward<T: Real>(
    isa: Isa,
    shapes: Shapes<'_>,
    source: &Source<'_, T>,
    (d, w): (&[T], &[T]),
    (y, gz): (&[T], &[T]),
    through: &Through<T>,
    wanted: Wanted,
) -> (Option<Vec<T>>, Option<(Vec<T>, Vec<T>)>) {
    let Shapes { depthwise: first, dense: second } = shapes;
    let images = shapes.images();
    let between = depthwise::outputs(isa, first, d, images);
    let backwards = Inputs::new(isa, second, w, images);
    let of_dense = Weights::new(isa, second, images);
    let of_depthwise = depthwise::Weights::new(isa, first, images);
    let scratch = Scratch::new();
    // Calls `then` with the input, the gradients that arrive at the output and between the convolutions, and room for
    // what lay there.
    let piece = |i, then: &mut dyn FnMut(&[T], &[T], &[T], &mut [T])| {
        let (y, gz) = (second.output(y, i, images), second.output(gz, i, images));
        let n = y.len() / second.output.image();
        let (inner, outer) = (n * second.input.image(), source.memory(n * first.input.image()));
        scratch.lend(y.len() + 2 * inner + outer, |memory| {
            let (gy, memory) = memory.split_at_mut(y.len());
            let (ga, memory) = memory.split_at_mut(inner);
            let (a, memory) = memory.split_at_mut(inner);
            through.write(isa, y, gz, gy);
            backwards.write(gy, &[], ga);
            then(source.piece(isa, first, i, images, memory), gy, ga, a);
        });
    };
    let part = |x: &[T], gy: &[T], ga: &[T], a: &mut [T]| {
        let frames = between.frames(x, first.input, first.prelude);
        between.write_from_frames(&frames, a, first.output);
        (of_depthwise.part_of_frames(&frames, ga), of_dense.part(a, gy))
    };
    let sum = |parts: Vec<Option<(Vec<T>, Vec<T>)>>| {
        let (of_first, of_second): (Vec<_>, Vec<_>) = parts.into_iter().flatten().unzip();
        (add_in_order(of_first, d.len()), add_in_order(of_second, w.len()))
    };
    if wanted == Wanted::Weights {
        let parts = collect(first.input.n.div_ceil(images), shapes.work(), |i| {
            let mut found = None;
            piece(i, &mut |x, gy, ga, a| found = Some(part(x, gy, ga, a)));
            found
        });
        return (None, Some(sum(parts)));
    }
    let inputs = depthwise::Inputs::new(isa, first, d, images);
    let len = images * first.input.image();
    let (gx, parts) = fill_and_collect(first.input.len(), len, shapes.work(), |i, gx: &mut [T]| {
        let mut found = None;
        piece(i, &mut |x, gy, ga, a| {
            inputs.write(ga, x, gx);
            found = (wanted == Wanted::Both).then(|| part(x, gy, ga, a));
        });
        found
    });
    (Some(gx), (wanted == Wanted::Both).then(|| sum(parts)))
}
