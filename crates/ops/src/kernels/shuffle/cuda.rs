//! Partial channels on a device.

use candle_core::{Result, Tensor};

use crate::kernels::{
    gpu::{Arg, Gpu, Grid},
    map::Map,
    values::dense,
};

pub(super) fn join(gpu: &Gpu, part: &Tensor, rest: &Tensor, parts: usize, all: &Map) -> Result<Tensor> {
    let (part, rest) = (dense(part)?, dense(rest)?);
    let y = gpu.fresh(part.dtype(), &all.dims())?;
    let args = [
        Arg::In(&part),
        Arg::In(&rest),
        Arg::Int(all.c / parts),
        Arg::Int(parts),
        Arg::Int(all.len()),
        Arg::Out(&y),
    ];
    gpu.launch("shuffle_join", part.dtype(), Grid::over(all.len()), &args)?;
    y.tensor()
}

/// `dims`: those of the part and of the rest.
pub(super) fn separate(gpu: &Gpu, y: &Tensor, parts: usize, dims: [&[usize]; 2]) -> Result<(Tensor, Tensor)> {
    let (y, len, maps) = (dense(y)?, y.elem_count(), y.dtype());
    let (part, rest) = (gpu.fresh(maps, dims[0])?, gpu.fresh(maps, dims[1])?);
    let c = dims[0].last().copied().unwrap_or(1);
    let args = [Arg::In(&y), Arg::Int(c), Arg::Int(parts), Arg::Int(len), Arg::Out(&part), Arg::Out(&rest)];
    gpu.launch("shuffle_separate", maps, Grid::over(len), &args)?;
    Ok((part.tensor()?, rest.tensor()?))
}
