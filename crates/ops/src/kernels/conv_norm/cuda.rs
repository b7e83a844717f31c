//! Convolution and batch norm on a device, one after the other: what lies between stays in the device's cache, which
//! holds many maps of these sizes.

use candle_core::{Result, Tensor};

use super::Gradients;
use crate::kernels::{
    batch_norm::{self, Moments, Waiting},
    conv::{self, Shape, Wanted},
    gpu::Gpu,
};

pub(super) fn forward_waiting(
    gpu: &Gpu,
    shape: Shape<'_>,
    x: &Tensor,
    (w, bias): (&Tensor, Option<&Tensor>),
    scale_shift: Option<(&Tensor, &Tensor)>,
    eps: f64,
) -> Result<Waiting> {
    let (y, slices) = conv::cuda::forward_with_moments(gpu, shape, x, w, bias)?;
    let (moments, by) = batch_norm::cuda::moments_of(gpu, &slices, y.dtype(), scale_shift, eps)?;
    Ok(Waiting { y, moments, by })
}

#[expect(clippy::too_many_arguments, reason = "what two layers kept, and what is asked for")]
pub(super) fn backward(
    gpu: &Gpu,
    shape: Shape<'_>,
    gz: &Tensor,
    x: &Tensor,
    w: &Tensor,
    (y, moments): (&Tensor, &Moments),
    scale_shift: Option<(&Tensor, &Tensor)>,
    wanted: Wanted,
) -> Result<Gradients> {
    let batch_norm::Gradients { x: gy, scale_shift, product } =
        batch_norm::cuda::backward(gpu, y, gz, scale_shift, moments)?;
    let input = || conv::cuda::input_gradient(gpu, shape, &gy, w, x);
    let weights = || conv::cuda::weight_gradient(gpu, shape, x, &gy);
    Ok(Gradients {
        x: (wanted != Wanted::Weights).then(input).transpose()?,
        w: (wanted != Wanted::Input).then(weights).transpose()?,
        scale_shift,
        product,
    })
}
