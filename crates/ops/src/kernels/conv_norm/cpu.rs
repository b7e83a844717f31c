//! Convolution and batch norm on slices.

use candle_core::Result;

use super::Wanted;
use crate::kernels::{
    Isa,
    batch_norm::{PieceMoments, PieceProducts, Statistics, Through},
    conv::{Inputs, Outputs, Shape, Weights},
    element::Stored,
    pending::{self, Then},
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
            outputs.write(shape.input(x, i, images), y);
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
            outputs.write(shape.input(x, i, images), y);
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
    let passes = Passes::new(isa, shape, images, x, w, (y, gz), through, wanted);
    if wanted == Wanted::Weights {
        let parts = collect(shape.input.n.div_ceil(images), shape.work(), |i| passes.run(i, None));
        return (None, passes.sum(parts));
    }
    let len = images * shape.input.image();
    let run = |i, gx: &mut [M]| passes.run(i, Some(gx));
    let (gx, parts) = overwrite_and_collect(shape.input.len(), len, shape.work(), run);
    (Some(gx), passes.sum(parts))
}

/// As [`backward`], where `then` writes the gradient at the input by pieces of so many images.
#[expect(clippy::too_many_arguments, reason = "as of the whole backward")]
pub(super) fn backward_in_pieces<M: Stored>(
    isa: Isa,
    shape: Shape<'_>,
    images: usize,
    x: &[M],
    w: &[M::Real],
    (y, gz): (&[M], &[M]),
    through: &Through<M::Real>,
    wanted: Wanted,
    then: Then<'_, M>,
) -> Result<Option<Vec<M::Real>>> {
    let passes = Passes::new(isa, shape, images, x, w, (y, gz), through, wanted);
    let run = |i, gx: &mut [M]| passes.run(i, Some(gx));
    let parts = pending::hand_over(shape.input.n.div_ceil(images), shape.work(), run, then)?;
    Ok(passes.sum(parts))
}

/// A backward, ready to run on pieces.
struct Passes<'a, M: Stored> {
    isa: Isa,
    shape: Shape<'a>,
    images: usize,
    x: &'a [M],
    y: &'a [M],
    gz: &'a [M],
    through: &'a Through<M::Real>,
    weights: Option<Weights<'a, M::Real>>,
    inputs: Option<Inputs<'a, M::Real>>,
    scratch: Scratch<M::Real>,
}

impl<'a, M: Stored> Passes<'a, M> {
    #[expect(clippy::too_many_arguments, reason = "as of the whole backward")]
    fn new(
        isa: Isa,
        shape: Shape<'a>,
        images: usize,
        x: &'a [M],
        w: &'a [M::Real],
        (y, gz): (&'a [M], &'a [M]),
        through: &'a Through<M::Real>,
        wanted: Wanted,
    ) -> Self {
        let weights = (wanted != Wanted::Input).then(|| Weights::new::<M>(isa, shape, images));
        let inputs = (wanted != Wanted::Weights).then(|| Inputs::new::<M>(isa, shape, w, images));
        Self { isa, shape, images, x, y, gz, through, weights, inputs, scratch: Scratch::new() }
    }

    /// The gradients of a piece: at its input, where that is asked for, and what it adds to the weights'.
    fn run(&self, i: usize, gx: Option<&mut [M]>) -> Option<Reused<M::Real>> {
        let [y, gz] = [self.y, self.gz].map(|values| self.shape.output(values, i, self.images));
        let x = self.shape.input(self.x, i, self.images);
        self.scratch.lend(y.len(), |gy| {
            self.through.write(self.isa, y, gz, gy);
            match &self.weights {
                // A mask and the weights' gradient both read these numbers.
                Some(weights) if !weights.reads_stored() => wide(x, |x| self.behind(gy, x, gx)),
                _ => self.behind(gy, x, gx),
            }
        })
    }

    /// The gradients of a piece from that at the convolution's output.
    fn behind<N: Stored<Real = M::Real>>(
        &self,
        gy: &[M::Real],
        x: &[N],
        gx: Option<&mut [M]>,
    ) -> Option<Reused<M::Real>> {
        if let (Some(inputs), Some(gx)) = (&self.inputs, gx) {
            inputs.write(gy, x, gx);
        }
        self.weights.as_ref().map(|weights| weights.part(x, gy))
    }

    /// The weights' gradient of what all pieces say of it.
    fn sum(&self, parts: Vec<Option<Reused<M::Real>>>) -> Option<Vec<M::Real>> {
        let weights = self.weights.as_ref()?;
        Some(add_in_order(parts.into_iter().flatten(), weights.len()))
    }
}
