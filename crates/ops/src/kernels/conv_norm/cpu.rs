//! Convolution and batch norm on slices.

use super::Wanted;
use crate::kernels::{
    Isa,
    batch_norm::{PieceMoments, Statistics, Through},
    conv::{Inputs, Outputs, Shape, Weights},
    threads::{add_in_order, collect, fill_and_collect, images_per_piece},
    values::Real,
};

/// The convolution's output and its moments.
pub(super) fn forward<T: Real>(
    isa: Isa,
    shape: Shape<'_>,
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
) -> (Vec<T>, Statistics) {
    let images = images_per_piece(shape.input.n, shape.input.image().max(shape.output.image()));
    let outputs = Outputs::new(isa, shape, w, bias, images);
    let (y, parts) = fill_and_collect(
        shape.output.len(),
        images * shape.output.image(),
        shape.work(),
        |i, y: &mut [T]| {
            outputs.write(shape.input(x, i, images), y);
            PieceMoments::of(isa, y, shape.output.c)
        },
    );
    (y, PieceMoments::merge(parts, shape.output.c))
}

/// The gradients at the input and of the weights, as wanted; `(y, gz)` are the norm's input and what arrives behind it.
pub(super) fn backward<T: Real>(
    isa: Isa,
    shape: Shape<'_>,
    x: &[T],
    w: &[T],
    (y, gz): (&[T], &[T]),
    through: &Through<T>,
    wanted: Wanted,
) -> (Option<Vec<T>>, Option<Vec<T>>) {
    let images = images_per_piece(shape.input.n, shape.input.image().max(shape.output.image()));
    let weights = (wanted != Wanted::Input).then(|| Weights::new(isa, shape, images));
    let inputs = (wanted != Wanted::Weights).then(|| Inputs::new(isa, shape, w, images));
    let gradient = |i| {
        let (y, gz) = (shape.output(y, i, images), shape.output(gz, i, images));
        let mut gy = vec![T::ZERO; y.len()];
        through.write(isa, y, gz, &mut gy);
        gy
    };
    let part = |i, gy: &[T]| weights.as_ref().map(|weights| weights.part(shape.input(x, i, images), gy));
    let sum = |parts: Vec<Option<Vec<T>>>| {
        weights.as_ref().map(|weights| add_in_order(parts.into_iter().flatten(), weights.len()))
    };
    let Some(inputs) = &inputs else {
        let parts = collect(shape.input.n.div_ceil(images), shape.work(), |i| part(i, &gradient(i)));
        return (None, sum(parts));
    };
    let (gx, parts) =
        fill_and_collect(shape.input.len(), images * shape.input.image(), shape.work(), |i, gx: &mut [T]| {
            let gy = gradient(i);
            inputs.write(&gy, shape.input(x, i, images), gx);
            part(i, &gy)
        });
    (Some(gx), sum(parts))
}
