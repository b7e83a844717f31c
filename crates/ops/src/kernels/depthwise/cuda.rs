//! Depthwise convolution on a device.

use candle_core::{Result, Tensor};

use crate::kernels::{
    conv::Shape,
    gpu::{Arg, Geometry, Gpu, Grid, computed_in},
    sum,
    values::dense,
};

/// Pixels that a thread adds up for the weights' gradient.
const PIXELS: usize = 32;

pub(in crate::kernels) fn forward(gpu: &Gpu, shape: Shape<'_>, x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let Shape { input, output, window, prelude } = shape;
    let (x, w) = (dense(x)?, dense(w)?);
    let y = gpu.fresh(x.dtype(), &output.dims())?;
    let geometry = Geometry::new(input, output, window, prelude)?;
    let args = [Arg::Geometry(geometry), Arg::In(&x), Arg::Reals(Some(&w)), Arg::Out(&y)];
    gpu.launch("depthwise_forward", x.dtype(), Grid::over(output.len()), &args)?;
    y.tensor()
}

pub(in crate::kernels) fn input_gradient(
    gpu: &Gpu,
    shape: Shape<'_>,
    gy: &Tensor,
    w: &Tensor,
    x: &Tensor,
) -> Result<Tensor> {
    let Shape { input, output, window, prelude } = shape;
    let (gy, w, x) = (dense(gy)?, dense(w)?, dense(x)?);
    let gx = gpu.fresh(gy.dtype(), &input.dims())?;
    let geometry = Geometry::new(input, output, window, prelude)?;
    let args = [Arg::Geometry(geometry), Arg::In(&gy), Arg::Reals(Some(&w)), Arg::In(&x), Arg::Out(&gx)];
    gpu.launch("depthwise_input_gradient", gy.dtype(), Grid::over(input.len()), &args)?;
    gx.tensor()
}

/// `(kh, kw, C)`
pub(in crate::kernels) fn weight_gradient(
    gpu: &Gpu,
    shape: Shape<'_>,
    x: &Tensor,
    gy: &Tensor,
) -> Result<Tensor> {
    let Shape { input, output, window, prelude } = shape;
    let (x, gy) = (dense(x)?, dense(gy)?);
    let geometry = Geometry::new(input, output, window, prelude)?;
    let (c, pixels) = (input.c, output.len() / output.c);
    let width = c.next_power_of_two().clamp(8, 32);
    let slice = 256 / width * PIXELS;
    let slices = pixels.div_ceil(slice);
    let parts = gpu.fresh(computed_in(x.dtype()), &[slices, window.taps() * c])?;
    let args = [Arg::Geometry(geometry), Arg::In(&x), Arg::In(&gy), Arg::Int(slice), Arg::Out(&parts)];
    let grid = Grid { blocks: (c.div_ceil(width), window.taps(), slices), threads: (width, 256 / width) };
    gpu.launch("depthwise_weight_gradient", x.dtype(), grid, &args)?;
    sum::cuda::add_parts(gpu, &parts.tensor()?, &[window.kernel.0, window.kernel.1, c])
}
