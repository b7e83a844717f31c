//! Two convolutions and a batch norm on slices.

use crate::kernels::{
    Isa,
    batch_norm::{PieceMoments, Statistics, Through},
    conv::{Inputs, Outputs, Shape, Weights},
    conv_norm::Wanted,
    depthwise::{self, ChannelSums},
    threads::{add_in_order, collect, fill_and_collect, images_per_piece},
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

/// The second convolution's output and its moments.
pub(super) fn forward<T: Real>(
    isa: Isa,
    shapes: Shapes<'_>,
    x: &[T],
    d: &[T],
    w: &[T],
    bias: Option<&[T]>,
) -> (Vec<T>, Statistics) {
    let (images, output) = (shapes.images(), shapes.dense.output);
    let between = depthwise::outputs(isa, shapes.depthwise, d, images);
    let outputs = Outputs::new(isa, shapes.dense, w, bias, images);
    let (y, parts) =
        fill_and_collect(output.len(), images * output.image(), shapes.work(), |i, y: &mut [T]| {
            outputs.write(&inner(&between, shapes.depthwise, shapes.depthwise.input(x, i, images)), y);
            PieceMoments::of(isa, y, output.c)
        });
    (y, PieceMoments::merge(parts, output.c))
}

/// The gradients at the input and of both convolutions' weights, as wanted; `(y, gz)` are the norm's input and what
/// arrives behind it.
#[expect(clippy::type_complexity, reason = "one gradient, and a pair of them")]
pub(super) fn backward<T: Real>(
    isa: Isa,
    shapes: Shapes<'_>,
    x: &[T],
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
    // The gradients that arrive at the output and between the convolutions.
    let arriving = |i| {
        let (y, gz) = (second.output(y, i, images), second.output(gz, i, images));
        let mut gy = vec![T::ZERO; y.len()];
        through.write(isa, y, gz, &mut gy);
        let mut ga = vec![T::ZERO; y.len() / second.output.image() * second.input.image()];
        backwards.write(&gy, &[], &mut ga);
        (gy, ga)
    };
    let part = |i, gy: &[T], ga: &[T]| {
        let x = first.input(x, i, images);
        (of_depthwise.part(x, ga), of_dense.part(&inner(&between, first, x), gy))
    };
    let sum = |parts: Vec<(Vec<T>, Vec<T>)>| {
        let (of_first, of_second): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        (add_in_order(of_first, d.len()), add_in_order(of_second, w.len()))
    };
    if wanted == Wanted::Weights {
        let parts = collect(first.input.n.div_ceil(images), shapes.work(), |i| {
            let (gy, ga) = arriving(i);
            part(i, &gy, &ga)
        });
        return (None, Some(sum(parts)));
    }
    let inputs = depthwise::Inputs::new(isa, first, d, images);
    let len = images * first.input.image();
    let (gx, parts) = fill_and_collect(first.input.len(), len, shapes.work(), |i, gx: &mut [T]| {
        let (gy, ga) = arriving(i);
        inputs.write(&ga, first.input(x, i, images), gx);
        (wanted == Wanted::Both).then(|| part(i, &gy, &ga))
    });
    (Some(gx), (wanted == Wanted::Both).then(|| sum(parts.into_iter().flatten().collect())))
}

/// What lies between the convolutions, of some consecutive images `x`.
fn inner<T: Real>(between: &ChannelSums<T>, shape: Shape<'_>, x: &[T]) -> Vec<T> {
    let mut a = vec![T::ZERO; x.len() / shape.input.image() * shape.output.image()];
    between.write(x, shape.input, shape.prelude, &mut a, shape.output);
    a
}
