//! A convolution and the batch norm over its output, in as few passes over memory as their mathematics allows.
//!
//! Maps live in memory, not in caches: what counts is how often they are read and written. Forward, the moments are
//! summed of each piece while the convolution's output is still in the cache. Backward, the gradient at the
//! convolution's output exists only piece by piece: both of the convolution's gradients are taken while it is there.

mod cpu;
#[cfg(any(feature = "cuda", feature = "emulate"))]
mod cuda;
#[cfg(test)]
mod tests;

use candle_core::{Result, Tensor};

use super::{
    Isa, Prelude, Window,
    batch_norm::{self, Arrived, Channelwise, Moments},
    conv,
    gpu::on_gpu,
    later::Later,
    values::{Map, Values, dense, expect_dims, for_real, tensor},
};

/// What a forward computes.
#[derive(Clone, Debug)]
pub struct Normalized {
    /// The convolution's output, bias included.
    pub y: Tensor,
    /// `y` normalized by its own moments.
    pub z: Tensor,
    /// Those moments.
    pub moments: Moments,
}

/// What a forward computes for whoever normalizes while reading.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The convolution's output, bias included.
    pub y: Tensor,
    /// Its moments.
    pub moments: Moments,
    /// How they, a scale and a shift normalize it.
    pub by: Channelwise,
}

impl Waiting {
    /// Normalizes what waited.
    pub(in crate::kernels) fn now(self) -> Result<Normalized> {
        let Self { y, moments, by } = self;
        Ok(Normalized { z: batch_norm::apply(&y, &by)?, y, moments })
    }
}

/// What a backward computes: the gradients that were asked for.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// At the convolution's input.
    pub x: Option<Tensor>,
    /// Of the convolution's weights. (A bias has none: the mean takes it out again.)
    pub w: Option<Tensor>,
    /// Of scale and shift, where there are any.
    pub scale_shift: Option<(Tensor, Tensor)>,
    /// `⟨∂L/∂z, z⟩`, which the norm's sums give for nothing.
    pub product: Option<Later>,
}

/// Which gradients of a convolution are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The input's.
    Input,
    /// The weights'.
    Weights,
    /// Both.
    Both,
}

/// `z = normalize(w ∗ prelude(x) + bias) · scale + shift` with the batch's own moments; as [`conv::forward`] followed by
/// [`batch_norm::forward_train`].
///
/// # Errors
/// Shapes or types do not fit.
pub fn forward_train(
    x: &Tensor,
    weights: (&Tensor, Option<&Tensor>),
    scale_shift: Option<(&Tensor, &Tensor)>,
    eps: f64,
    window: &Window,
    prelude: Prelude,
) -> Result<Normalized> {
    forward_waiting(x, weights, scale_shift, eps, window, prelude)?.now()
}

/// [`forward_train`] for whoever normalizes while reading.
///
/// # Errors
/// Shapes or types do not fit.
pub fn forward_waiting(
    x: &Tensor,
    (w, bias): (&Tensor, Option<&Tensor>),
    scale_shift: Option<(&Tensor, &Tensor)>,
    eps: f64,
    window: &Window,
    prelude: Prelude,
) -> Result<Waiting> {
    let input = Map::of(x.dims())?;
    let output = input.through(window, conv::channels(w, window, input.c)?);
    bias.map_or(Ok(()), |bias| expect_dims("bias of a convolution", bias, &[output.c]))?;
    let shape = conv::Shape { input: &input, output: &output, window, prelude };
    on_gpu!(x, gpu => cuda::forward_waiting(&gpu, shape, x, (w, bias), scale_shift, eps));
    let (x, w, bias) = (dense(x)?, dense(w)?, bias.map(dense).transpose()?);
    for_real!(x, T => {
        let (x, w) = (Values::of(&x)?, Values::of(&w)?);
        let bias = bias.as_ref().map(Values::of).transpose()?;
        let (y, statistics) = cpu::forward::<T>(Isa::detect(), shape, &x, &w, bias.as_deref());
        let moments = batch_norm::moments_of::<T>(statistics, y.len() / output.c, eps)?;
        let by = moments.channelwise(scale_shift)?;
        Ok(Waiting { y: tensor(y, &output.dims())?, moments, by })
    })
}

/// `⟨∂L/∂z, z⟩` of a `z` that nobody keeps: as [`forward_train`] and a dot product, but its output never reaches memory.
///
/// # Errors
/// Shapes or types do not fit.
pub fn probe(
    gz: &Tensor,
    x: &Tensor,
    (w, bias): (&Tensor, Option<&Tensor>),
    scale_shift: Option<(&Tensor, &Tensor)>,
    eps: f64,
    window: &Window,
    prelude: Prelude,
) -> Result<Later> {
    let input = Map::of(x.dims())?;
    let output = input.through(window, conv::channels(w, window, input.c)?);
    bias.map_or(Ok(()), |bias| expect_dims("bias of a convolution", bias, &[output.c]))?;
    expect_dims("gradient of a batch norm", gz, &output.dims())?;
    let shape = conv::Shape { input: &input, output: &output, window, prelude };
    on_gpu!(x, gpu => {
        let Waiting { y, by, .. } = cuda::forward_waiting(&gpu, shape, x, (w, bias), scale_shift, eps)?;
        batch_norm::dot(gz, &y, &by)
    });
    let (gz, x, w, bias) = (dense(gz)?, dense(x)?, dense(w)?, bias.map(dense).transpose()?);
    for_real!(x, T => {
        let (gz, x, w) = (Values::of(&gz)?, Values::of(&x)?, Values::of(&w)?);
        let bias = bias.as_ref().map(Values::of).transpose()?;
        let pieces = cpu::probe::<T>(Isa::detect(), shape, &gz, &x, &w, bias.as_deref());
        Ok(Later::Known(batch_norm::product_of::<T>(pieces, scale_shift, output.c, eps)?))
    })
}

/// The gradients of [`forward_train`] from `∂L/∂z`; `y` and `moments` are what it returned.
///
/// # Errors
/// Shapes or types do not fit.
#[expect(clippy::too_many_arguments, reason = "what two layers kept, and what is asked for")]
pub fn backward(
    gz: &Tensor,
    x: &Tensor,
    w: &Tensor,
    y: &Tensor,
    scale_shift: Option<(&Tensor, &Tensor)>,
    moments: &Moments,
    window: &Window,
    prelude: Prelude,
    wanted: Wanted,
) -> Result<Gradients> {
    let input = Map::of(x.dims())?;
    let output = input.through(window, conv::channels(w, window, input.c)?);
    expect_dims("output of a convolution", y, &output.dims())?;
    expect_dims("gradient of a batch norm", gz, &output.dims())?;
    let shape = conv::Shape { input: &input, output: &output, window, prelude };
    on_gpu!(x, gpu => cuda::backward(&gpu, shape, gz, x, w, (y, moments), scale_shift, wanted));
    let (gz, x, dense_w, y) = (dense(gz)?, dense(x)?, dense(w)?, dense(y)?);
    for_real!(x, T => {
        let (y, gz) = (Values::<T>::of(&y)?, Values::<T>::of(&gz)?);
        let Arrived { through, scale_shift, product } = batch_norm::arrive(&y, &gz, scale_shift, moments)?;
        let (x, w_values) = (Values::of(&x)?, Values::of(&dense_w)?);
        let (gx, gw) = cpu::backward::<T>(Isa::detect(), shape, &x, &w_values, (&y, &gz), &through, wanted);
        Ok(Gradients {
            x: gx.map(|gx| tensor(gx, &input.dims())).transpose()?,
            w: gw.map(|gw| tensor(gw, w.dims())).transpose()?,
            scale_shift,
            product: Some(Later::Known(product)),
        })
    })
}
