//! Convolution and batch norm on a device, one after the other: what lies between stays in the device's cache, which
//! holds many maps of these sizes.

use candle_core::{Result, Tensor};

use super::{Gradients, Normalized, Wanted};
use crate::kernels::{
    batch_norm::{self, Moments},
    conv::{self, Shape},
    gpu::Gpu,
};

pub(super) fn forward_train(
    gpu: &Gpu,
    shape: Shape<'_>,
    x: &Tensor,
    (w, bias): (&Tensor, Option<&Tensor>),
    scale_shift: Option<(&Tensor, &Tensor)>,
    eps: f64,
) -> Result<Normalized> {
    let y = conv::cuda::forward(gpu, shape, x, w, bias)?;
    let (z, moments) = batch_norm::cuda::forward_train(gpu, &y, scale_shift, eps)?;
    Ok(Normalized { y, z, moments })
}

#[expect(clippy::too_many_arguments, reason = "what two layers kept, and what is asked for")]
pub(super) fn backward(
    gpu: &Gpu,
    shape: Shape<'_>,
    gz: &Tensor,
    x: &Tensor,
    w: &Tensor,
    (y, moments): (&Tensor, &Moments),
    scale: Option<&Tensor>,
    wanted: Wanted,
) -> Result<Gradients> {
    let (gy, scale_shift) = batch_norm::cuda::backward(gpu, y, gz, scale, moments)?;
    let input = || conv::cuda::input_gradient(gpu, shape, &gy, w, x);
    let weights = || conv::cuda::weight_gradient(gpu, shape, x, &gy);
    Ok(Gradients {
        x: (wanted != Wanted::Weights).then(input).transpose()?,
        w: (wanted != Wanted::Input).then(weights).transpose()?,
        scale_shift,
        product: None,
    })
}
