//! Functions of single elements on a device.

use candle_core::{Result, Tensor};

use crate::kernels::{
    gpu::{Arg, Gpu, Grid},
    values::dense,
};

/// `min(max(x, 0), above)`
pub(super) fn rectify(gpu: &Gpu, x: &Tensor, above: f64) -> Result<Tensor> {
    let (x, len) = (dense(x)?, x.elem_count());
    let y = gpu.fresh(x.dtype(), x.dims())?;
    let args = [Arg::In(&x), Arg::Real(above), Arg::Int(len), Arg::Out(&y)];
    gpu.launch("rectify", x.dtype(), Grid::over(len), &args)?;
    y.tensor()
}

/// `∂L/∂y` where `0 < x < above`, else 0.
pub(super) fn masked(gpu: &Gpu, x: &Tensor, gy: &Tensor, above: f64) -> Result<Tensor> {
    let (x, gy, len) = (dense(x)?, dense(gy)?, x.elem_count());
    let gx = gpu.fresh(x.dtype(), x.dims())?;
    let args = [Arg::In(&x), Arg::In(&gy), Arg::Real(above), Arg::Int(len), Arg::Out(&gx)];
    gpu.launch("rectify_gradient", x.dtype(), Grid::over(len), &args)?;
    gx.tensor()
}
