//! Pools on a device.

use candle_core::{DType, Result, Tensor};

use crate::kernels::{
    Prelude, Window,
    gpu::{Arg, Geometry, Gpu, Grid},
    map::Map,
    values::dense,
};

pub(super) fn max(
    gpu: &Gpu,
    x: &Tensor,
    (input, output): (&Map, &Map),
    window: &Window,
) -> Result<(Tensor, Tensor)> {
    let (x, geometry) = (dense(x)?, Geometry::new(input, output, window, Prelude::Identity)?);
    let (y, winners) = (gpu.fresh(x.dtype(), &output.dims())?, gpu.fresh(DType::U8, &output.dims())?);
    let some = gpu.neighbors(output.c, &[&x], &[&y, &winners])?;
    let args = [Arg::Geometry(geometry), Arg::In(&x), Arg::Out(&y), Arg::Out(&winners), Arg::Int(some)];
    gpu.launch("max_pool", x.dtype(), Grid::over(output.len() / some), &args)?;
    Ok((y.tensor()?, winners.tensor()?))
}

/// Winners beyond the window's taps, which only a caller could make, match no tap and add nothing.
pub(super) fn max_gradient(
    gpu: &Gpu,
    gy: &Tensor,
    winners: &Tensor,
    (input, output): (&Map, &Map),
    window: &Window,
) -> Result<Tensor> {
    let (gy, winners) = (dense(gy)?, dense(winners)?);
    if winners.dtype() != DType::U8 {
        candle_core::bail!("winners of a pool: found elements of type {:?}, expected u8", winners.dtype());
    }
    let geometry = Geometry::new(input, output, window, Prelude::Identity)?;
    let gx = gpu.fresh(gy.dtype(), &input.dims())?;
    let some = gpu.neighbors(input.c, &[&gy, &winners], &[&gx])?;
    let args = [Arg::Geometry(geometry), Arg::In(&gy), Arg::In(&winners), Arg::Out(&gx), Arg::Int(some)];
    gpu.launch("max_pool_gradient", gy.dtype(), Grid::over(input.len() / some), &args)?;
    gx.tensor()
}

/// An average pool of a window: the output of `kernel` over the elements of `to`.
pub(super) fn average(
    gpu: &Gpu,
    kernel: &str,
    x: &Tensor,
    (input, output): (&Map, &Map),
    window: &Window,
    to: &Map,
) -> Result<Tensor> {
    let (x, geometry) = (dense(x)?, Geometry::new(input, output, window, Prelude::Identity)?);
    let y = gpu.fresh(x.dtype(), &to.dims())?;
    let some = gpu.neighbors(to.c, &[&x], &[&y])?;
    let args = [Arg::Geometry(geometry), Arg::In(&x), Arg::Out(&y), Arg::Int(some)];
    gpu.launch(kernel, x.dtype(), Grid::over(to.len() / some), &args)?;
    y.tensor()
}

/// An adaptive pool: the output of `kernel` over the elements of `to`.
pub(super) fn adaptive(
    gpu: &Gpu,
    kernel: &str,
    x: &Tensor,
    (input, output): (&Map, &Map),
    to: &Map,
) -> Result<Tensor> {
    let window = Window::same((1, 1), (1, 1), (1, 1));
    let (x, geometry) = (dense(x)?, Geometry::new(input, output, &window, Prelude::Identity)?);
    let y = gpu.fresh(x.dtype(), &to.dims())?;
    let args = [Arg::Geometry(geometry), Arg::In(&x), Arg::Out(&y)];
    gpu.launch(kernel, x.dtype(), Grid::over(to.len()), &args)?;
    y.tensor()
}
