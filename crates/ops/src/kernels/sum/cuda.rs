//! Sums and multiples of whole tensors on a device.

use candle_core::{DType, Result, Tensor};

use crate::kernels::{
    gpu::{Arg, Gpu, Grid, computed_in},
    values::{Map, dense},
};

/// Terms of one kernel.
const TERMS: usize = 4;

/// Elements that a block multiplies in a dot product, at least, and blocks of one, at most.
const SLICE: usize = 4_096;
const SLICES: usize = 128;

/// `Σ sᵢ·xᵢ`, added in order; of four tensors in one pass.
pub(super) fn weighted(gpu: &Gpu, parts: Vec<(f64, Tensor)>) -> Result<Tensor> {
    let mut parts = parts.into_iter().map(|(s, x)| Ok((s, dense(&x)?))).collect::<Result<Vec<_>>>()?;
    while parts.len() > TERMS {
        let sum = add(gpu, &parts[..TERMS])?;
        parts.splice(..TERMS, [(1.0, sum)]);
    }
    add(gpu, &parts)
}

fn add(gpu: &Gpu, parts: &[(f64, Tensor)]) -> Result<Tensor> {
    let (first, len) = (&parts[0].1, parts[0].1.elem_count());
    let y = gpu.fresh(first.dtype(), first.dims())?;
    let terms = (0..TERMS).flat_map(|i| {
        let term = parts.get(i);
        [Arg::Maybe(term.map(|(_, x)| x)), Arg::Real(term.map_or(0.0, |(s, _)| *s))]
    });
    let args: Vec<Arg<'_>> = terms.chain([Arg::Int(len), Arg::Out(&y)]).collect();
    gpu.launch("weighted", first.dtype(), Grid::over(len), &args)?;
    y.tensor()
}

pub(super) fn scale_samples(gpu: &Gpu, x: &Tensor, factors: &[f64]) -> Result<Tensor> {
    let (x, len) = (dense(x)?, x.elem_count());
    let factors = gpu.upload(factors.to_vec())?.to_dtype(computed_in(x.dtype()))?;
    let y = gpu.fresh(x.dtype(), x.dims())?;
    let sample = (len / factors.elem_count().max(1)).max(1);
    let args = [Arg::In(&x), Arg::Reals(Some(&factors)), Arg::Int(len), Arg::Int(sample), Arg::Out(&y)];
    gpu.launch("scale_samples", x.dtype(), Grid::over(len), &args)?;
    y.tensor()
}

/// Joins parts of `widths` channels to `map`.
pub(super) fn concat(gpu: &Gpu, parts: &[&Tensor], widths: &[usize], map: &Map) -> Result<Tensor> {
    let mut parts = parts.iter().map(|part| dense(part)).collect::<Result<Vec<_>>>()?;
    let mut widths = widths.to_vec();
    while parts.len() > TERMS {
        let wide = widths[..TERMS].iter().sum();
        let joined = join(gpu, &parts[..TERMS], &widths[..TERMS], &Map { c: wide, ..*map })?;
        parts.splice(..TERMS, [joined]);
        widths.splice(..TERMS, [wide]);
    }
    join(gpu, &parts, &widths, map)
}

fn join(gpu: &Gpu, parts: &[Tensor], widths: &[usize], map: &Map) -> Result<Tensor> {
    let real = parts[0].dtype();
    let y = gpu.fresh(real, &map.dims())?;
    let pairs =
        (0..TERMS).flat_map(|i| [Arg::Maybe(parts.get(i)), Arg::Int(widths.get(i).copied().unwrap_or(0))]);
    let args: Vec<Arg<'_>> = pairs.chain([Arg::Int(map.len()), Arg::Out(&y)]).collect();
    gpu.launch("join_channels", real, Grid::over(map.len()), &args)?;
    y.tensor()
}

pub(super) fn split(gpu: &Gpu, x: &Tensor, widths: &[usize], map: &Map) -> Result<Vec<Tensor>> {
    let x = dense(x)?;
    let firsts = widths.iter().scan(0, |next, c| Some(std::mem::replace(next, *next + c)));
    firsts
        .zip(widths)
        .map(|(first, &c)| {
            let to = Map { c, ..*map };
            let y = gpu.fresh(x.dtype(), &to.dims())?;
            let args = [
                Arg::In(&x),
                Arg::Int(map.c),
                Arg::Int(first),
                Arg::Int(c),
                Arg::Int(to.len()),
                Arg::Out(&y),
            ];
            gpu.launch("cut_channels", x.dtype(), Grid::over(to.len()), &args)?;
            y.tensor()
        })
        .collect()
}

/// Parts of `Σ aᵢ·bᵢ` in `f64`, to be added in order, still on the device.
pub(super) fn dot(gpu: &Gpu, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (a, b, len) = (dense(a)?, dense(b)?, a.elem_count());
    let slice = len.div_ceil(SLICES).max(SLICE);
    let parts = gpu.fresh(DType::F64, &[len.div_ceil(slice)])?;
    let args = [Arg::In(&a), Arg::In(&b), Arg::Int(len), Arg::Int(slice), Arg::Out(&parts)];
    gpu.launch("dot_parts", a.dtype(), Grid::squares(len.div_ceil(slice)), &args)?;
    parts.tensor()
}

/// Adds the rows of `parts` `(slices, …)` in order, to a tensor of `dims`.
pub(in crate::kernels) fn add_parts(gpu: &Gpu, parts: &Tensor, dims: &[usize]) -> Result<Tensor> {
    let (slices, len) = parts.dims2()?;
    if slices == 1 {
        return parts.reshape(dims);
    }
    let sum = gpu.fresh(parts.dtype(), dims)?;
    let args = [Arg::Reals(Some(parts)), Arg::Int(slices), Arg::Int(len), Arg::Out(&sum)];
    gpu.launch("add_parts", parts.dtype(), Grid::over(len), &args)?;
    sum.tensor()
}
