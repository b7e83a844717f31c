//! Batch normalization over the batch and space (Ioffe & Szegedy, 2015): `y = (x − mean) · inv_std · scale + shift`.

mod cpu;
#[cfg(any(feature = "cuda", feature = "emulate"))]
pub(in crate::kernels) mod cuda;
#[cfg(test)]
mod tests;

use candle_core::{Result, Tensor};

pub(in crate::kernels) use cpu::{PieceMoments, Statistics, Through};

use super::{
    Isa,
    gpu::on_gpu,
    values::{Map, Real, Values, dense, expect_dims, for_real, tensor},
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

/// `x` normalized by its own moments, and these.
///
/// # Errors
/// Shapes or types do not fit.
pub fn forward_train(
    x: &Tensor,
    scale_shift: Option<(&Tensor, &Tensor)>,
    eps: f64,
) -> Result<(Tensor, Moments)> {
    on_gpu!(x, gpu => cuda::forward_train(&gpu, x, scale_shift, eps));
    let (map, isa) = (Map::of(x.dims())?, Isa::detect());
    let x = dense(x)?;
    for_real!(x, T => {
        let x = Values::<T>::of(&x)?;
        normalize_by(&x, cpu::statistics(isa, &x, map.c), &map, scale_shift, eps)
    })
}

/// `x` normalized by its statistics, and these as tensors.
pub(in crate::kernels) fn normalize_by<T: Real>(
    x: &[T],
    Statistics { mean, var }: Statistics,
    map: &Map,
    scale_shift: Option<(&Tensor, &Tensor)>,
    eps: f64,
) -> Result<(Tensor, Moments)> {
    let rows = (x.len() / map.c) as f64;
    let inv_std = inverse_root(&var, eps);
    let unbiased: Vec<f64> = var.iter().map(|var| var * rows / (rows - 1.0).max(1.0)).collect();
    let y = cpu::apply(Isa::detect(), x, &mean, &inv_std, affine::<T>(scale_shift, map.c)?);
    let channels = |values: &[f64]| tensor(cpu::round::<T>(values), &[map.c]);
    let moments =
        Moments { mean: channels(&mean)?, inv_std: channels(&inv_std)?, var_unbiased: channels(&unbiased)? };
    Ok((tensor(y, &map.dims())?, moments))
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
    for_real!(x, T => {
        let mean = channels::<T>(mean, map.c)?;
        let inv_std = inverse_root(&channels::<T>(var, map.c)?, eps);
        let affine = affine::<T>(scale_shift, map.c)?;
        tensor(cpu::apply::<T>(Isa::detect(), &Values::of(&x)?, &mean, &inv_std, affine), &map.dims())
    })
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
    scale: Option<&Tensor>,
    moments: &Moments,
) -> Result<(Tensor, Option<(Tensor, Tensor)>)> {
    let (map, isa) = (Map::of(x.dims())?, Isa::detect());
    expect_dims("gradient of a batch norm", gy, x.dims())?;
    on_gpu!(x, gpu => cuda::backward(&gpu, x, gy, scale, moments));
    let (x, gy) = (dense(x)?, dense(gy)?);
    for_real!(x, T => {
        let (x, gy) = (Values::<T>::of(&x)?, Values::<T>::of(&gy)?);
        let (through, affine) = gradient_through(&x, &gy, scale, moments)?;
        Ok((tensor(cpu::backward(isa, &x, &gy, map.c, &through), &map.dims())?, affine))
    })
}

/// How `∂L/∂y` passes through; and the gradients of scale and shift, where there is a scale.
pub(in crate::kernels) fn gradient_through<T: Real>(
    x: &[T],
    gy: &[T],
    scale: Option<&Tensor>,
    moments: &Moments,
) -> Result<(Through<T>, AffineGradients)> {
    let c = moments.mean.elem_count();
    let (mean, inv_std) = (channels::<T>(&moments.mean, c)?, channels::<T>(&moments.inv_std, c)?);
    let factors = scale.map(|scale| channels::<T>(scale, c)).transpose()?;
    let sums = cpu::gradient_sums(Isa::detect(), x, gy, &mean, &inv_std);
    let through = Through::new(&mean, &inv_std, factors.as_deref(), &sums, (x.len() / c) as f64);
    let vector = |values: &[f64]| tensor(cpu::round::<T>(values), &[c]);
    let affine = scale.map(|_| Ok::<_, candle_core::Error>((vector(&sums.scale)?, vector(&sums.shift)?)));
    Ok((through, affine.transpose()?))
}

/// `∂L/∂x` of [`forward_eval`]: `∂L/∂y · inv_std · scale`.
///
/// # Errors
/// Shapes or types do not fit.
pub fn backward_eval(gy: &Tensor, scale: Option<&Tensor>, var: &Tensor, eps: f64) -> Result<Tensor> {
    on_gpu!(gy, gpu => cuda::by_running(&gpu, gy, (scale, None), None, var, eps));
    let map = Map::of(gy.dims())?;
    let gy = dense(gy)?;
    for_real!(gy, T => {
        let inv_std = inverse_root(&channels::<T>(var, map.c)?, eps);
        let affine = scale.map(|scale| Ok::<_, candle_core::Error>((channels::<T>(scale, map.c)?, vec![0.0; map.c])));
        let gx = cpu::apply::<T>(Isa::detect(), &Values::of(&gy)?, &vec![0.0; map.c], &inv_std, affine.transpose()?);
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

fn channels<T: Real>(x: &Tensor, c: usize) -> Result<Vec<f64>> {
    expect_dims("a value per channel", x, &[c])?;
    Ok(Values::<T>::of(&dense(x)?)?.iter().map(|x| x.to_f64()).collect())
}
