//! Convolution and batch norm on slices.

use super::Wanted;
use crate::kernels::{
    Isa,
    batch_norm::{PieceMoments, PieceProducts, Statistics, Through},
    conv::{Inputs, Outputs, Shape, Weights},
    element::Stored,
    stored::wide,
    threads::{Reused, Scratch, add_in_order, collect, images_per_piece, overwrite_and_collect},
};

/// The convolution's output and its moments.
pub(super) fn forward<M: Stored>(
    isa: Isa,
    shape: Shape<'_>,
    x: &[M],
    w: &[M::Real],
    bias: Option<&[M::Real]>,
) -> (Vec<M>, Statistics) {
    let images = images_per_piece(shape.input.n, shape.input.image().max(shape.output.image()));
    let outputs = Outputs::new::<M>(isa, shape, w, bias, images);
    let (y, parts) = overwrite_and_collect(
        shape.output.len(),
        images * shape.output.image(),
        shape.work(),
        |i, y: &mut [M]| {
            wide(shape.input(x, i, images), |x| outputs.write(x, y));
            PieceMoments::of(isa, y, shape.output.c)
        },
    );
    (y, PieceMoments::merge(parts, shape.output.c))
}

/// What the pieces of an output that nobody keeps say together with the gradient behind its norm.
pub(super) fn probe<M: Stored>(
    isa: Isa,
    shape: Shape<'_>,
    gz: &[M],
    x: &[M],
    w: &[M::Real],
    bias: Option<&[M::Real]>,
) -> Vec<PieceProducts> {
    let images = images_per_piece(shape.input.n, shape.input.image().max(shape.output.image()));
    let (outputs, scratch) = (Outputs::new::<M>(isa, shape, w, bias, images), Scratch::new());
    collect(shape.input.n.div_ceil(images), shape.work(), |i| {
        let gz = shape.output(gz, i, images);
        scratch.lend(gz.len(), |y| {
            wide(shape.input(x, i, images), |x| outputs.write(x, y));
            PieceProducts::of(isa, y, gz, shape.output.c)
        })
    })
}

/// The gradients at the input and of the weights, as wanted; `(y, gz)` are the norm's input and what arrives behind it.
pub(super) fn backward<M: Stored>(
    isa: Isa,
    shape: Shape<'_>,
    x: &[M],
    w: &[M::Real],
    (y, gz): (&[M], &[M]),
    through: &Through<M::Real>,
    wanted: Wanted,
) -> (Option<Vec<M>>, Option<Vec<M::Real>>) {
    let images = images_per_piece(shape.input.n, shape.input.image().max(shape.output.image()));
    let weights = (wanted != Wanted::Input).then(|| Weights::new(isa, shape, images));
    let inputs = (wanted != Wanted::Weights).then(|| Inputs::new::<M>(isa, shape, w, images));
    let scratch = Scratch::new();
    let gradient = |i, gy: &mut [M::Real]| {
        through.write(isa, shape.output(y, i, images), shape.output(gz, i, images), gy);
    };
    let len = |i| shape.output(y, i, images).len();
    let part = |x: &[M::Real], gy: &[M::Real]| weights.as_ref().map(|weights| weights.part(x, gy));
    let sum = |parts: Vec<Option<Reused<M::Real>>>| {
        weights.as_ref().map(|weights| add_in_order(parts.into_iter().flatten(), weights.len()))
    };
    let Some(inputs) = &inputs else {
        let parts = collect(shape.input.n.div_ceil(images), shape.work(), |i| {
            scratch.lend(len(i), |gy| {
                gradient(i, gy);
                wide(shape.input(x, i, images), |x| part(x, gy))
            })
        });
        return (None, sum(parts));
    };
    let write = |i, gx: &mut [M]| {
        scratch.lend(len(i), |gy| {
            gradient(i, gy);
            wide(shape.input(x, i, images), |x| {
                inputs.write(gy, x, gx);
                part(x, gy)
            })
        })
    };
    let (gx, parts) =
        overwrite_and_collect(shape.input.len(), images * shape.input.image(), shape.work(), write);
    (Some(gx), sum(parts))
}
