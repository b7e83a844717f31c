//! Convolution and batch norm on slices.

use super::Wanted;
use crate::kernels::{
    Isa,
    batch_norm::{PieceMoments, PieceProducts, Statistics, Through},
    conv::{Inputs, Outputs, Shape, Weights},
    threads::{Reused, Scratch, add_in_order, collect, fill_and_collect, images_per_piece},
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

/// What the pieces of an output that nobody keeps say together with the gradient behind its norm.
pub(super) fn probe<T: Real>(
    isa: Isa,
    shape: Shape<'_>,
    gz: &[T],
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
) -> Vec<PieceProducts> {
    let images = images_per_piece(shape.input.n, shape.input.image().max(shape.output.image()));
    let (outputs, scratch) = (Outputs::new(isa, shape, w, bias, images), Scratch::new());
    collect(shape.input.n.div_ceil(images), shape.work(), |i| {
        let gz = shape.output(gz, i, images);
        scratch.lend(gz.len(), |y| {
            outputs.write(shape.input(x, i, images), y);
            PieceProducts::of(isa, y, gz, shape.output.c)
        })
    })
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
    let scratch = Scratch::new();
    let gradient = |i, gy: &mut [T]| {
        through.write(isa, shape.output(y, i, images), shape.output(gz, i, images), gy);
    };
    let len = |i| shape.output(y, i, images).len();
    let part = |i, gy: &[T]| weights.as_ref().map(|weights| weights.part(shape.input(x, i, images), gy));
    let sum = |parts: Vec<Option<Reused<T>>>| {
        weights.as_ref().map(|weights| add_in_order(parts.into_iter().flatten(), weights.len()))
    };
    let Some(inputs) = &inputs else {
        let parts = collect(shape.input.n.div_ceil(images), shape.work(), |i| {
            scratch.lend(len(i), |gy| {
                gradient(i, gy);
                part(i, gy)
            })
        });
        return (None, sum(parts));
    };
    let (gx, parts) =
        fill_and_collect(shape.input.len(), images * shape.input.image(), shape.work(), |i, gx: &mut [T]| {
            scratch.lend(len(i), |gy| {
                gradient(i, gy);
                inputs.write(gy, shape.input(x, i, images), gx);
                part(i, gy)
            })
        });
    (Some(gx), sum(parts))
}
