//! Batch normalization over the batch and space (Ioffe & Szegedy, 2015): `y = (x − mean) · inv_std · scale + shift`.

mod cpu;
#[cfg(any(feature = "cuda", feature = "emulate"))]
pub(in crate::kernels) mod cuda;
#[cfg(test)]
mod tests;
mod waiting;

use candle_core::{Result, Tensor, bail};

pub(in crate::kernels) use cpu::{PieceMoments, PieceProducts, PieceSums, Statistics, Through, normalize};

use cpu::GradientSums;

pub use super::channelwise::Channelwise;
pub use waiting::{Normalized, Waiting};

use super::{
    Isa,
    channelwise::channels,
    element::{Real, Stored},
    gpu::on_gpu,
    later::Later,
    map::Map,
    values::{Values, dense, expect_dims, for_real, for_stored, tensor},
};

/// The moments of one batch, each `(C,)`.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Mean.
    pub mean: Tensor,
    /// `1 / √(var + ε)` with the biased variance (divided by the number of values), which normalizes.
    pub inv_std: Tensor,
    /// Unbiased variance (divided by one less), which running statistics take; of a single value 0.
    pub var_unbiased: Tensor,
}

/// `⟨gy, (x − mean)·factor + shift⟩`, accumulated in `f64`; does not wait for the device.
///
/// # Errors
/// Shapes or types do not fit.
pub fn dot(gy: &Tensor, x: &Tensor, by: &Channelwise) -> Result<Later> {
    let c = Map::of(x.dims())?.c;
    expect_dims("gradient of a batch norm", gy, x.dims())?;
    on_gpu!(x, gpu => Ok(Later::OnDevice(cuda::dot(&gpu, gy, x, by)?)));
    let (gy, x) = (dense(gy)?, dense(x)?);
    for_stored!(x, M, T => {
        let [mean, factor, shift] = by.wide::<T>(c)?;
        let (x, gy) = (Values::<M>::of(&x)?, Values::<M>::of(&gy)?);
        let sums = cpu::gradient_sums(Isa::detect(), &x, &gy, &mean, &vec![1.0; c]);
        Ok(Later::Known(sums.product(&factor, &shift)))
    })
}

impl Moments {
    /// How these moments, a scale and a shift normalize.
    ///
    /// # Errors
    /// Shapes or types do not fit.
    pub fn channelwise(&self, scale_shift: Option<(&Tensor, &Tensor)>) -> Result<Channelwise> {
        let c = self.mean.elem_count();
        for_real!(self.mean, T => {
            let inv_std = channels::<T>(&self.inv_std, c)?;
            let (scale, shift) = affine::<T>(scale_shift, c)?.unwrap_or_else(|| (vec![1.0; c], vec![0.0; c]));
            let factor: Vec<f64> = scale.iter().zip(&inv_std).map(|(scale, inv_std)| scale * inv_std).collect();
            let vector = |values: &[f64]| tensor(cpu::round::<T>(values), &[c]);
            Ok(Channelwise { mean: self.mean.clone(), factor: vector(&factor)?, shift: vector(&shift)? })
        })
    }
}

/// The moments of `x`, and how they normalize it, for whoever does that while reading.
///
/// # Errors
/// Shapes or types do not fit.
pub fn forward_waiting(
    x: &Tensor,
    scale_shift: Option<(&Tensor, &Tensor)>,
    eps: f64,
) -> Result<(Moments, Channelwise)> {
    on_gpu!(x, gpu => cuda::moments(&gpu, x, scale_shift, eps));
    let moments = moments(x, eps)?;
    let by = moments.channelwise(scale_shift)?;
    Ok((moments, by))
}

/// The moments of `x`.
fn moments(x: &Tensor, eps: f64) -> Result<Moments> {
    let (map, isa) = (Map::of(x.dims())?, Isa::detect());
    let x = dense(x)?;
    for_stored!(x, M, T => {
        let x = Values::<M>::of(&x)?;
        moments_of::<T>(cpu::statistics(isa, &x, map.c), x.len() / map.c, eps)
    })
}

/// `(x − mean) · factor + shift`, channel by channel.
///
/// # Errors
/// Shapes or types do not fit.
pub fn apply(x: &Tensor, by: &Channelwise) -> Result<Tensor> {
    on_gpu!(x, gpu => super::sum::cuda::weighted(&gpu, &[super::sum::Term { factor: 1.0, x, norm: Some(by) }]));
    let map = Map::of(x.dims())?;
    let x = dense(x)?;
    for_stored!(x, M, T => {
        let [mean, factor, shift] = [&by.mean, &by.factor, &by.shift].map(|x| channels::<T>(x, map.c));
        tensor(cpu::apply::<M>(Isa::detect(), &Values::of(&x)?, &mean?, &factor?, Some((vec![1.0; map.c], shift?))), &map.dims())
    })
}

/// `x` normalized by its own moments, and these.
///
/// # Errors
/// Shapes or types do not fit.
pub fn forward_train(
    x: &Tensor,
    scale_shift: Option<(&Tensor, &Tensor)>,
    eps: f64,
) -> Result<(Tensor, Moments)> {
    let (moments, by) = forward_waiting(x, scale_shift, eps)?;
    Ok((apply(x, &by)?, moments))
}

/// Statistics of so many `rows`, as tensors.
pub(in crate::kernels) fn moments_of<T: Real>(
    Statistics { mean, var }: Statistics,
    rows: usize,
    eps: f64,
) -> Result<Moments> {
    let rows = rows as f64;
    let unbiased: Vec<f64> = var.iter().map(|var| var * rows / (rows - 1.0).max(1.0)).collect();
    let channels = |values: &[f64]| tensor(cpu::round::<T>(values), &[values.len()]);
    Ok(Moments {
        mean: channels(&mean)?,
        inv_std: channels(&inverse_root(&var, eps))?,
        var_unbiased: channels(&unbiased)?,
    })
}

/// `x` normalized by given moments, each `(C,)`.
///
/// # Errors
/// Shapes or types do not fit.
pub fn forward_eval(
    x: &Tensor,
    scale_shift: Option<(&Tensor, &Tensor)>,
    mean: &Tensor,
    var: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    on_gpu!(x, gpu => cuda::by_running(&gpu, x, scale_shift.unzip(), Some(mean), var, eps));
    let map = Map::of(x.dims())?;
    let x = dense(x)?;
    for_stored!(x, M, T => {
        let mean = channels::<T>(mean, map.c)?;
        let inv_std = inverse_root(&channels::<T>(var, map.c)?, eps);
        let affine = affine::<T>(scale_shift, map.c)?;
        tensor(cpu::apply::<M>(Isa::detect(), &Values::of(&x)?, &mean, &inv_std, affine), &map.dims())
    })
}

/// What a backward through the moments computes.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// At the input.
    pub x: Tensor,
    /// Of scale and shift, where there are any.
    pub scale_shift: Option<(Tensor, Tensor)>,
    /// `⟨∂L/∂y, y⟩`, which the sums over the batch give for nothing.
    pub product: Option<Later>,
}

/// `∂L/∂x` of [`forward_train`], through the moments; and, where there is a scale, `(∂L/∂scale, ∂L/∂shift)`.
///
/// With `x̂ = (x − mean)·inv_std` and means over batch and space,
///
/// ```text
/// ∂L/∂x = scale·inv_std · (∂L/∂y − mean(∂L/∂y) − x̂·mean(∂L/∂y·x̂))
/// ```
///
/// # Errors
/// Shapes or types do not fit.
pub fn backward(
    x: &Tensor,
    gy: &Tensor,
    scale_shift: Option<(&Tensor, &Tensor)>,
    moments: &Moments,
) -> Result<Gradients> {
    let (map, isa) = (Map::of(x.dims())?, Isa::detect());
    expect_dims("gradient of a batch norm", gy, x.dims())?;
    on_gpu!(x, gpu => cuda::backward(&gpu, x, gy, scale_shift, moments));
    let (x, gy) = (dense(x)?, dense(gy)?);
    for_stored!(x, M => {
        let (x, gy) = (Values::<M>::of(&x)?, Values::<M>::of(&gy)?);
        let Arrived { through, scale_shift, product } = arrive(&x, &gy, scale_shift, moments, None)?;
        let x = tensor(cpu::backward(isa, &x, &gy, map.c, &through), &map.dims())?;
        Ok(Gradients { x, scale_shift, product: Some(Later::Known(product)) })
    })
}

/// What `∂L/∂y` says before it passes through.
pub(in crate::kernels) struct Arrived<T> {
    /// How it passes.
    pub(in crate::kernels) through: Through<T>,
    /// As in [`Gradients`].
    pub(in crate::kernels) scale_shift: AffineGradients,
    /// As in [`Gradients`].
    pub(in crate::kernels) product: f64,
}

/// What a gradient says to the norm that it arrives at, taken by whoever wrote it, while it was in the caches:
/// `Σ ∂L/∂y·(x − mean)` and `Σ ∂L/∂y` of each of the norm's channels, piece by piece.
#[derive(Clone, Debug)]
pub struct Sums(pub(in crate::kernels) Vec<PieceSums>);

/// Takes the sums over all of `x` and `∂L/∂y`, unless they are `known`.
pub(in crate::kernels) fn arrive<M: Stored>(
    x: &[M],
    gy: &[M],
    scale_shift: Option<(&Tensor, &Tensor)>,
    moments: &Moments,
    known: Option<Sums>,
) -> Result<Arrived<M::Real>> {
    let c = moments.mean.elem_count();
    let (mean, inv_std) = (channels::<M::Real>(&moments.mean, c)?, channels::<M::Real>(&moments.inv_std, c)?);
    let affine = affine::<M::Real>(scale_shift, c)?;
    let scale = affine.as_ref().map(|(scale, _)| &scale[..]);
    let sums = match known {
        Some(Sums(parts)) if !parts.iter().all(|part| part.fits(c)) => {
            bail!("found sums of a gradient with other channels, expected {c}")
        }
        Some(Sums(parts)) => GradientSums::of(parts, &inv_std),
        None => cpu::gradient_sums(Isa::detect(), x, gy, &mean, &inv_std),
    };
    let through = Through::new(&mean, &inv_std, scale, &sums, (x.len() / c) as f64);
    // As `dot`, to the bit: whoever weighs an output gets one answer, whichever way it comes.
    let [_, factor, shift] = moments.channelwise(scale_shift)?.wide::<M::Real>(c)?;
    let product = sums.product(&factor, &shift);
    let vector = |values: &[f64]| tensor(cpu::round::<M::Real>(values), &[c]);
    let gradients = affine.map(|_| Ok::<_, candle_core::Error>((vector(&sums.scale)?, vector(&sums.shift)?)));
    Ok(Arrived { through, scale_shift: gradients.transpose()?, product })
}

/// `⟨∂L/∂y, y⟩` of an output that exists piece by piece: `pieces` say of each its rows' moments, and `Σ (x − m)·∂L/∂y`
/// and `Σ ∂L/∂y` of its channels about its own mean `m`.
pub(in crate::kernels) fn product_of<T: Real>(
    pieces: Vec<PieceProducts>,
    scale_shift: Option<(&Tensor, &Tensor)>,
    c: usize,
    eps: f64,
) -> Result<f64> {
    Ok(cpu::product(pieces, affine::<T>(scale_shift, c)?.as_ref(), c, eps))
}

/// `∂L/∂x` of [`forward_eval`]: `∂L/∂y · inv_std · scale`.
///
/// # Errors
/// Shapes or types do not fit.
pub fn backward_eval(gy: &Tensor, scale: Option<&Tensor>, var: &Tensor, eps: f64) -> Result<Tensor> {
    on_gpu!(gy, gpu => cuda::by_running(&gpu, gy, (scale, None), None, var, eps));
    let map = Map::of(gy.dims())?;
    let gy = dense(gy)?;
    for_stored!(gy, M, T => {
        let inv_std = inverse_root(&channels::<T>(var, map.c)?, eps);
        let affine = scale.map(|scale| Ok::<_, candle_core::Error>((channels::<T>(scale, map.c)?, vec![0.0; map.c])));
        let gx = cpu::apply::<M>(Isa::detect(), &Values::of(&gy)?, &vec![0.0; map.c], &inv_std, affine.transpose()?);
        tensor(gx, &map.dims())
    })
}

fn inverse_root(var: &[f64], eps: f64) -> Vec<f64> {
    var.iter().map(|var| 1.0 / (var + eps).sqrt()).collect()
}

/// `∂L/∂scale` and `∂L/∂shift`, where there are such.
type AffineGradients = Option<(Tensor, Tensor)>;

type Affine = Option<(Vec<f64>, Vec<f64>)>;

fn affine<T: Real>(scale_shift: Option<(&Tensor, &Tensor)>, c: usize) -> Result<Affine> {
    scale_shift.map(|(scale, shift)| Ok((channels::<T>(scale, c)?, channels::<T>(shift, c)?))).transpose()
}
