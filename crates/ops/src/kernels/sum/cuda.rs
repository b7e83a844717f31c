//! Sums and multiples of whole tensors on a device.

use std::iter;

use candle_core::{DType, Result, Tensor, bail};

use super::term::Term;
use crate::kernels::{
    gpu::{Arg, Gpu, Grid, computed_in},
    map::Map,
    values::{dense, expect_dims},
};

/// Terms of one kernel.
const TERMS: usize = 4;

/// Elements that a block multiplies in a dot product, at least, and blocks of one, at most.
const SLICE: usize = 4_096;
const SLICES: usize = 128;

/// The sum of the terms, in order; of four, their norms included, in one pass.
pub(in crate::kernels) fn weighted(gpu: &Gpu, terms: &[Term<'_>]) -> Result<Tensor> {
    match terms.split_at_checked(TERMS) {
        Some((first, rest)) if !rest.is_empty() => {
            let sum = add(gpu, first)?;
            let rest = rest.iter().copied();
            weighted(gpu, &iter::once(Term::of(1.0, &sum)).chain(rest).collect::<Vec<_>>())
        }
        _ => add(gpu, terms),
    }
}

fn add(gpu: &Gpu, terms: &[Term<'_>]) -> Result<Tensor> {
    let first = terms[0].x;
    let (maps, len, c) = (first.dtype(), first.elem_count(), first.dims().last().copied().unwrap_or(1));
    let channels = |x: &Tensor| {
        expect_dims("a value per channel", x, &[c])?;
        dense(x)
    };
    let parts = terms.iter().map(|Term { factor, x, norm }| {
        let norm = norm.map(|norm| -> Result<_> {
            Ok([channels(&norm.mean)?, channels(&norm.factor)?, channels(&norm.shift)?])
        });
        Ok((*factor, dense(x)?, norm.transpose()?))
    });
    let parts = parts.collect::<Result<Vec<_>>>()?;
    let y = gpu.fresh(maps, first.dims())?;
    let mut args = Vec::with_capacity(5 * TERMS + 3);
    for i in 0..TERMS {
        let (factor, x, norm) =
            parts.get(i).map_or((0.0, None, None), |(factor, x, norm)| (*factor, Some(x), norm.as_ref()));
        args.extend([Arg::Maybe(x), Arg::Real(factor)]);
        args.extend((0..3).map(|i| Arg::Reals(norm.map(|norm| &norm[i]))));
    }
    args.extend([Arg::Int(c), Arg::Int(len), Arg::Out(&y)]);
    gpu.launch("weighted", maps, Grid::over(len), &args)?;
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
    let maps = parts[0].dtype();
    let y = gpu.fresh(maps, &map.dims())?;
    let pairs =
        (0..TERMS).flat_map(|i| [Arg::Maybe(parts.get(i)), Arg::Int(widths.get(i).copied().unwrap_or(0))]);
    let args: Vec<Arg<'_>> = pairs.chain([Arg::Int(map.len()), Arg::Out(&y)]).collect();
    gpu.launch("join_channels", maps, Grid::over(map.len()), &args)?;
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

/// The sum of each tensor's numbers, all of them `f64`, in one launch.
pub(in crate::kernels) fn add_each(gpu: &Gpu, parts: &[&Tensor]) -> Result<Tensor> {
    let mut table = Vec::with_capacity(2 * parts.len());
    for part in parts {
        if part.dtype() != DType::F64 {
            bail!("found parts of a sum of type {:?}, expected f64", part.dtype());
        }
        table.extend([gpu.address(part)? as i64, part.elem_count() as i64]);
    }
    let (table, sums) = (gpu.upload(table)?, gpu.fresh(DType::F64, &[parts.len()])?);
    let parts = parts.iter().map(|part| Arg::ReadByTable(part));
    let args: Vec<Arg<'_>> = [Arg::In(&table), Arg::Out(&sums)].into_iter().chain(parts).collect();
    gpu.launch("add_each", DType::F32, Grid::squares(table.elem_count() / 2), &args)?;
    sums.tensor()
}

/// Adds the rows of `parts` `(slices, …)` in order, to a tensor of `dims`.
pub(in crate::kernels) fn add_parts(gpu: &Gpu, parts: &Tensor, dims: &[usize]) -> Result<Tensor> {
    let (slices, len) = parts.dims2()?;
    if slices == 1 {
        return parts.reshape(dims);
    }
    let sum = gpu.fresh(parts.dtype(), dims)?;
    let args = [Arg::Reals(Some(parts)), Arg::Int(slices), Arg::Int(len), Arg::Out(&sum)];
    gpu.launch("add_parts", parts.dtype(), Grid::squares(len.div_ceil(16)), &args)?;
    sum.tensor()
}
