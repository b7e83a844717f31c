//! Two convolutions and a batch norm on a device, one after the other; what lies between the convolutions is made anew
//! where the backward needs it, and not kept.

use candle_core::{Result, Tensor};

use super::{Convolutions, Gradients, cpu::Shapes};
use crate::kernels::{
    batch_norm::{self, Channelwise, Moments, Waiting},
    conv::{self, Wanted},
    depthwise,
    gpu::Gpu,
};

pub(super) fn forward_waiting(
    gpu: &Gpu,
    shapes: Shapes<'_>,
    x: &Tensor,
    Convolutions { norm, d, w, bias, .. }: Convolutions<'_>,
    scale_shift: Option<(&Tensor, &Tensor)>,
    eps: f64,
) -> Result<Waiting> {
    let between = depthwise::cuda::forward(gpu, shapes.depthwise, &source(x, norm)?, d)?;
    let (y, slices) = conv::cuda::forward_with_moments(gpu, shapes.dense, &between, w, bias)?;
    let (moments, by) = batch_norm::cuda::moments_of(gpu, &slices, y.dtype(), scale_shift, eps)?;
    Ok(Waiting { y, moments, by })
}

/// The input, with the norm applied that still waits in front of it.
fn source(x: &Tensor, norm: Option<&Channelwise>) -> Result<Tensor> {
    norm.map_or_else(|| Ok(x.clone()), |norm| batch_norm::apply(x, norm))
}

#[expect(clippy::too_many_arguments, reason = "what three layers kept, and what is asked for")]
pub(super) fn backward(
    gpu: &Gpu,
    shapes: Shapes<'_>,
    gz: &Tensor,
    x: &Tensor,
    Convolutions { norm, d, w, .. }: Convolutions<'_>,
    (y, moments): (&Tensor, &Moments),
    scale_shift: Option<(&Tensor, &Tensor)>,
    wanted: Wanted,
) -> Result<Gradients> {
    let batch_norm::Gradients { x: gy, scale_shift, product } =
        batch_norm::cuda::backward(gpu, y, gz, scale_shift, moments)?;
    let x = &source(x, norm)?;
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
        product,
        sums: None,
    })
}
