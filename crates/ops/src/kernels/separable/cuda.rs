//! Two convolutions and a batch norm on a device, one after the other; what lies between the convolutions is made anew
//! where the backward needs it, and not kept.

use candle_core::{Result, Tensor};

use super::{Convolutions, Gradients, cpu::Shapes};
use crate::kernels::{
    batch_norm::{self, Moments},
    conv,
    conv_norm::{Normalized, Wanted},
    depthwise,
    gpu::Gpu,
};

pub(super) fn forward_train(
    gpu: &Gpu,
    shapes: Shapes<'_>,
    x: &Tensor,
    Convolutions { d, w, bias, .. }: Convolutions<'_>,
    scale_shift: Option<(&Tensor, &Tensor)>,
    eps: f64,
) -> Result<Normalized> {
    let between = depthwise::cuda::forward(gpu, shapes.depthwise, x, d)?;
    let y = conv::cuda::forward(gpu, shapes.dense, &between, w, bias)?;
    let (z, moments) = batch_norm::cuda::forward_train(gpu, &y, scale_shift, eps)?;
    Ok(Normalized { y, z, moments })
}

#[expect(clippy::too_many_arguments, reason = "what three layers kept, and what is asked for")]
pub(super) fn backward(
    gpu: &Gpu,
    shapes: Shapes<'_>,
    gz: &Tensor,
    x: &Tensor,
    Convolutions { d, w, .. }: Convolutions<'_>,
    (y, moments): (&Tensor, &Moments),
    scale: Option<&Tensor>,
    wanted: Wanted,
) -> Result<Gradients> {
    let (gy, scale_shift) = batch_norm::cuda::backward(gpu, y, gz, scale, moments)?;
    let between = depthwise::cuda::forward(gpu, shapes.depthwise, x, d)?;
    let ga = conv::cuda::input_gradient(gpu, shapes.dense, &gy, w, &between)?;
    let input = || depthwise::cuda::input_gradient(gpu, shapes.depthwise, &ga, d, x);
    let weights = || {
        let of_depthwise = depthwise::cuda::weight_gradient(gpu, shapes.depthwise, x, &ga)?;
        Ok::<_, candle_core::Error>((
            of_depthwise,
            conv::cuda::weight_gradient(gpu, shapes.dense, &between, &gy)?,
        ))
    };
    Ok(Gradients {
        x: (wanted != Wanted::Weights).then(input).transpose()?,
        weights: (wanted != Wanted::Input).then(weights).transpose()?,
        scale_shift,
        product: None,
    })
}
