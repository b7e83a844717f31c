//! Optimizer steps on a device: of many tensors in one launch.

use candle_core::{DType, Result, Tensor, bail};

use super::{AdamStep, SgdStep};
use crate::kernels::{
    gpu::{Arg, Fresh, Gpu, Grid, computed_in},
    values::dense,
};

/// Elements that one block works on.
const PIECE: usize = 4_096;

/// Rows of a table, one for each piece of each tensor.
#[derive(Default)]
struct Table(Vec<i64>);

impl Table {
    /// A tensor's rows: `addresses`, of which 0 stays 0, its length, and what comes `last`.
    fn push(&mut self, addresses: &[u64], tensor: &Tensor, last: &[i64]) {
        let (len, size) = (tensor.elem_count(), tensor.dtype().size_in_bytes());
        for first in (0..len).step_by(PIECE) {
            let moved =
                |&address: &u64| if address == 0 { 0 } else { address as i64 + (first * size) as i64 };
            self.0.extend(addresses.iter().map(moved));
            self.0.push(PIECE.min(len - first) as i64);
            self.0.extend(last);
        }
    }

    /// How many rows of `width` numbers.
    fn rows(&self, width: usize) -> usize {
        self.0.len() / width
    }
}

/// Where a tensor of `real` elements lies.
fn address(gpu: &Gpu, x: &Tensor, real: DType) -> Result<u64> {
    if computed_in(real) != real {
        bail!("found weights of type {real:?}, expected f32 or f64: narrow ones lose small steps");
    }
    if x.dtype() != real {
        bail!("found elements of type {:?} beside {real:?}, expected all alike", x.dtype());
    }
    gpu.address(x)
}

/// `Σ x²` over all tensors, on the device: one `f64`.
pub(super) fn norm_squared(gpu: &Gpu, tensors: &[&Tensor]) -> Result<Tensor> {
    let tensors = tensors.iter().map(|x| dense(x)).collect::<Result<Vec<_>>>()?;
    let mut table = Table::default();
    let real = tensors.first().map_or(DType::F32, Tensor::dtype);
    for x in &tensors {
        table.push(&[address(gpu, x, real)?], x, &[]);
    }
    let n = table.rows(2);
    let parts = gpu.fresh(DType::F64, &[n])?;
    let table = gpu.upload(table.0)?;
    let args = [Arg::In(&table), Arg::Out(&parts)].into_iter().chain(tensors.iter().map(Arg::ReadByTable));
    gpu.launch("squares_of_many", real, Grid::squares(n), &args.collect::<Vec<_>>())?;
    let (parts, sum) = (parts.tensor()?, gpu.fresh(DType::F64, &[1])?);
    gpu.launch(
        "add_all",
        real,
        Grid::squares(1),
        &[Arg::Doubles(Some(&parts)), Arg::Int(n), Arg::Out(&sum)],
    )?;
    sum.tensor()
}

/// One tensor's weights, gradient and velocity.
pub(super) type Triple<'a> = (&'a Tensor, &'a Tensor, Option<&'a Tensor>);

/// A step of every tensor: `(w', v')` each. With `clip`, the squared norm of all gradients, on the device, and the longest
/// that they may be: the step's `grad_scale` then is that of clipping.
pub(super) fn sgd(
    gpu: &Gpu,
    tensors: &[Triple<'_>],
    step: SgdStep,
    clip: Option<(&Tensor, f64)>,
) -> Result<Vec<(Tensor, Tensor)>> {
    let Some(real) = tensors.first().map(|(w, ..)| w.dtype()) else { return Ok(Vec::new()) };
    let (mut table, mut kept, mut fresh) = (Table::default(), Vec::new(), Vec::new());
    for (w, g, v) in tensors {
        let (w, g, v) = (dense(w)?, dense(g)?, v.map(dense).transpose()?);
        let (w_new, v_new) = (gpu.fresh(real, w.dims())?, gpu.fresh(real, w.dims())?);
        let velocity = v.as_ref().map_or(Ok(0), |v| address(gpu, v, real))?;
        let (of_w, of_g) = (address(gpu, &w, real)?, address(gpu, &g, real)?);
        let addresses = [of_w, of_g, velocity, w_new.address(), v_new.address()];
        table.push(&addresses, &w, &[]);
        kept.push((w, g, v));
        fresh.push((w_new, v_new));
    }
    let (n, table) = (table.rows(6), gpu.upload(table.0)?);
    let mut args = vec![
        Arg::In(&table),
        Arg::Doubles(clip.map(|(squares, _)| squares)),
        Arg::Double(clip.map_or(0.0, |(_, clip)| clip)),
        Arg::Real(step.grad_scale),
        Arg::Real(step.lr),
        Arg::Real(step.momentum),
        Arg::Real(step.weight_decay),
        Arg::Int(usize::from(step.nesterov)),
    ];
    for ((w, g, v), (w_new, v_new)) in kept.iter().zip(&fresh) {
        args.extend([Arg::ReadByTable(w), Arg::ReadByTable(g)]);
        args.extend(v.iter().map(Arg::ReadByTable));
        args.extend([Arg::WrittenByTable(w_new), Arg::WrittenByTable(v_new)]);
    }
    gpu.launch("sgd_of_many", real, Grid { blocks: (n, 1, 1), threads: (256, 1) }, &args)?;
    fresh.into_iter().map(|(w, v)| Ok((w.tensor()?, v.tensor()?))).collect()
}

/// `(1 − m)·old + m·new` of every triple `(old, new, m)`.
pub(super) fn blend(gpu: &Gpu, tensors: &[(&Tensor, &Tensor, f64)]) -> Result<Vec<Tensor>> {
    let Some(real) = tensors.first().map(|(old, ..)| old.dtype()) else { return Ok(Vec::new()) };
    let (mut table, mut kept, mut fresh) = (Table::default(), Vec::new(), Vec::new());
    for (old, new, m) in tensors {
        let (old, new, blended) = (dense(old)?, dense(new)?, gpu.fresh(real, old.dims())?);
        let addresses = [address(gpu, &old, real)?, address(gpu, &new, real)?, blended.address()];
        table.push(&addresses, &old, &[m.to_bits() as i64]);
        kept.push((old, new));
        fresh.push(blended);
    }
    let (n, table) = (table.rows(5), gpu.upload(table.0)?);
    let mut args = vec![Arg::In(&table)];
    for ((old, new), blended) in kept.iter().zip(&fresh) {
        args.extend([Arg::ReadByTable(old), Arg::ReadByTable(new), Arg::WrittenByTable(blended)]);
    }
    gpu.launch("blend_many", real, Grid { blocks: (n, 1, 1), threads: (256, 1) }, &args)?;
    fresh.into_iter().map(Fresh::tensor).collect()
}

pub(super) fn adam(
    gpu: &Gpu,
    [w, g, m, v]: [&Tensor; 4],
    step: AdamStep,
) -> Result<(Tensor, Tensor, Tensor)> {
    let (w, g, m, v) = (dense(w)?, dense(g)?, dense(m)?, dense(v)?);
    let (real, len, t) = (w.dtype(), w.elem_count(), step.step as f64);
    let fresh = || gpu.fresh(real, w.dims());
    let (w_new, m_new, v_new) = (fresh()?, fresh()?, fresh()?);
    let args = [
        Arg::Reals(Some(&w)),
        Arg::Reals(Some(&g)),
        Arg::Reals(Some(&m)),
        Arg::Reals(Some(&v)),
        Arg::Real(step.lr / (1.0 - step.beta1.powf(t))),
        Arg::Real((1.0 - step.beta2.powf(t)).sqrt()),
        Arg::Real(step.beta1),
        Arg::Real(1.0 - step.beta1),
        Arg::Real(step.beta2),
        Arg::Real(1.0 - step.beta2),
        Arg::Real(step.eps),
        Arg::Real(step.weight_decay),
        Arg::Int(len),
        Arg::Out(&w_new),
        Arg::Out(&m_new),
        Arg::Out(&v_new),
    ];
    gpu.launch("adam", real, Grid::over(len), &args)?;
    Ok((w_new.tensor()?, m_new.tensor()?, v_new.tensor()?))
}
