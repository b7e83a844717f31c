//! Sums over all rows of each channel on a device, and batch norms.

use candle_core::{DType, Result, Tensor};

use super::{Channelwise, Gradients, Moments};
use crate::kernels::{
    gpu::{Arg, Gpu, Grid, computed_in},
    later::Later,
    map::Map,
    values::{dense, expect_dims},
};

/// Blocks that share a map's rows, at most; what they found is added up by one block.
const SLICES: usize = 256;

/// Rows that a thread adds up, at least, before the map is shared by more blocks.
const ROWS: usize = 16;

/// How a map's rows are shared by blocks.
pub(in crate::kernels) struct Shares {
    /// Threads along the channels.
    width: usize,
    /// Rows of one block.
    slice: usize,
    pub(in crate::kernels) slices: usize,
    rows: usize,
    c: usize,
}

impl Shares {
    /// Of `rows` of `c` channels; a function of these alone.
    pub(in crate::kernels) fn of(rows: usize, c: usize) -> Self {
        let width = c.next_power_of_two().clamp(8, 32);
        let least = 256 / width * ROWS;
        let slice = rows.div_ceil(SLICES).max(least).min(rows.max(1));
        Self { width, slice, slices: rows.div_ceil(slice), rows, c }
    }

    fn grid(&self) -> Grid {
        Grid {
            blocks: (self.c.div_ceil(self.width), self.slices, 1),
            threads: (self.width, 256 / self.width),
        }
    }

    /// Two sums of each channel and slice, `(slices, 2, c)`, by a kernel that takes `args` first.
    fn sums(&self, gpu: &Gpu, kernel: &str, maps: DType, args: &[Arg<'_>]) -> Result<Tensor> {
        let parts = gpu.fresh(DType::F64, &[self.slices, 2, self.c])?;
        let rest = [Arg::Int(self.rows), Arg::Int(self.c), Arg::Int(self.slice), Arg::Out(&parts)];
        gpu.launch(kernel, maps, self.grid(), &[args, &rest].concat())?;
        parts.tensor()
    }
}

/// A block to a channel.
fn channels(c: usize) -> Grid {
    Grid { blocks: (c, 1, 1), threads: (256, 1) }
}

/// `Σ x` of each channel of the last axis.
pub(in crate::kernels) fn channel_sums(gpu: &Gpu, x: &Tensor, map: &Map) -> Result<Tensor> {
    let (x, shares) = (dense(x)?, Shares::of(map.len() / map.c, map.c));
    let parts = shares.sums(gpu, "plain_sums", x.dtype(), &[Arg::In(&x)])?;
    let sum = gpu.fresh(computed_in(x.dtype()), &[map.c])?;
    let args = [Arg::Doubles(Some(&parts)), Arg::Int(shares.slices), Arg::Int(map.c), Arg::Out(&sum)];
    gpu.launch("add_plain_sums", x.dtype(), channels(map.c), &args)?;
    sum.tensor()
}

/// Moments of slices of a map's rows, as `moments` in `batch_norm.cu` takes them: `(slices, 2, c)` in `f64`.
pub(in crate::kernels) struct Slices {
    pub(in crate::kernels) parts: Tensor,
    /// Rows of each but the last.
    pub(in crate::kernels) slice: usize,
    pub(in crate::kernels) rows: usize,
}

/// The moments of `x`, and how they normalize.
pub(super) fn moments(
    gpu: &Gpu,
    x: &Tensor,
    scale_shift: Option<(&Tensor, &Tensor)>,
    eps: f64,
) -> Result<(Moments, Channelwise)> {
    let (map, x) = (Map::of(x.dims())?, dense(x)?);
    let shares = Shares::of(map.len() / map.c, map.c);
    let parts = shares.sums(gpu, "moment_sums", x.dtype(), &[Arg::In(&x)])?;
    let slices = Slices { parts, slice: shares.slice, rows: shares.rows };
    moments_of(gpu, &slices, x.dtype(), scale_shift, eps)
}

/// The moments of a map of `maps` elements whose slices are known.
pub(in crate::kernels) fn moments_of(
    gpu: &Gpu,
    Slices { parts, slice, rows }: &Slices,
    maps: DType,
    scale_shift: Option<(&Tensor, &Tensor)>,
    eps: f64,
) -> Result<(Moments, Channelwise)> {
    let (slices, _, c) = parts.dims3()?;
    let (scale, shift) = affine(scale_shift, c)?;
    let vector = || gpu.fresh(computed_in(maps), &[c]);
    let (mean, inv_std, unbiased, factor, shifted) = (vector()?, vector()?, vector()?, vector()?, vector()?);
    let args = [
        Arg::Doubles(Some(parts)),
        Arg::Int(*rows),
        Arg::Int(*slice),
        Arg::Int(slices),
        Arg::Int(c),
        Arg::Double(eps),
        Arg::Reals(scale.as_ref()),
        Arg::Reals(shift.as_ref()),
        Arg::Out(&mean),
        Arg::Out(&inv_std),
        Arg::Out(&unbiased),
        Arg::Out(&factor),
        Arg::Out(&shifted),
    ];
    gpu.launch("moments", maps, channels(c), &args)?;
    let mean = mean.tensor()?;
    let by = Channelwise { mean: mean.clone(), factor: factor.tensor()?, shift: shifted.tensor()? };
    Ok((Moments { mean, inv_std: inv_std.tensor()?, var_unbiased: unbiased.tensor()? }, by))
}

/// What each channel adds to `⟨gy, (x − mean)·factor + shift⟩`, `(c,)` in `f64`.
pub(super) fn dot(gpu: &Gpu, gy: &Tensor, x: &Tensor, by: &Channelwise) -> Result<Tensor> {
    let (map, x, gy) = (Map::of(x.dims())?, dense(x)?, dense(gy)?);
    let shares = Shares::of(map.len() / map.c, map.c);
    let (mean, factor, shift) = (dense(&by.mean)?, dense(&by.factor)?, dense(&by.shift)?);
    let parts = shares.sums(
        gpu,
        "correlation_sums",
        x.dtype(),
        &[Arg::In(&x), Arg::In(&gy), Arg::Reals(Some(&mean))],
    )?;
    let products = gpu.fresh(DType::F64, &[map.c])?;
    let args = [
        Arg::Doubles(Some(&parts)),
        Arg::Int(shares.slices),
        Arg::Int(map.c),
        Arg::Reals(Some(&factor)),
        Arg::Reals(Some(&shift)),
        Arg::Out(&products),
    ];
    gpu.launch("norm_products", x.dtype(), channels(map.c), &args)?;
    products.tensor()
}

/// With running statistics; without a mean, 0, which is the backward.
pub(super) fn by_running(
    gpu: &Gpu,
    x: &Tensor,
    scale_shift: (Option<&Tensor>, Option<&Tensor>),
    mean: Option<&Tensor>,
    var: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    let (map, x) = (Map::of(x.dims())?, dense(x)?);
    let (scale, shift) = scale_shift;
    let vector = |x: &Tensor| {
        expect_dims("a value per channel", x, &[map.c])?;
        dense(x)
    };
    let (mean, var) = (mean.map(vector).transpose()?, vector(var)?);
    let (scale, shift) = (scale.map(vector).transpose()?, shift.map(vector).transpose()?);
    let y = gpu.fresh(x.dtype(), x.dims())?;
    let args = [
        Arg::In(&x),
        Arg::Reals(mean.as_ref()),
        Arg::Reals(Some(&var)),
        Arg::Reals(scale.as_ref()),
        Arg::Reals(shift.as_ref()),
        Arg::Double(eps),
        Arg::Int(map.len()),
        Arg::Int(map.c),
        Arg::Out(&y),
    ];
    gpu.launch("normalize_running", x.dtype(), Grid::over(map.len()), &args)?;
    y.tensor()
}

/// What [`super::backward`] computes.
pub(in crate::kernels) fn backward(
    gpu: &Gpu,
    x: &Tensor,
    gy: &Tensor,
    scale_shift: Option<(&Tensor, &Tensor)>,
    moments: &Moments,
) -> Result<Gradients> {
    let (map, x, gy) = (Map::of(x.dims())?, dense(x)?, dense(gy)?);
    let (maps, shares) = (x.dtype(), Shares::of(map.len() / map.c, map.c));
    let real = computed_in(maps);
    let vector = |x: &Tensor| {
        expect_dims("a value per channel", x, &[map.c])?;
        dense(x)
    };
    let (mean, inv_std) = (vector(&moments.mean)?, vector(&moments.inv_std)?);
    let (scale, shift) = affine(scale_shift, map.c)?;
    let parts =
        shares.sums(gpu, "correlation_sums", maps, &[Arg::In(&x), Arg::In(&gy), Arg::Reals(Some(&mean))])?;
    let (through, of_scale, of_shift) =
        (gpu.fresh(real, &[3, map.c])?, gpu.fresh(real, &[map.c])?, gpu.fresh(real, &[map.c])?);
    let products = gpu.fresh(DType::F64, &[map.c])?;
    let args = [
        Arg::Doubles(Some(&parts)),
        Arg::Int(shares.rows),
        Arg::Int(shares.slices),
        Arg::Int(map.c),
        Arg::Reals(Some(&inv_std)),
        Arg::Reals(scale.as_ref()),
        Arg::Reals(shift.as_ref()),
        Arg::Out(&through),
        Arg::Out(&of_scale),
        Arg::Out(&of_shift),
        Arg::Out(&products),
    ];
    gpu.launch("norm_gradient_through", maps, channels(map.c), &args)?;
    let (through, of_scale, of_shift) = (through.tensor()?, of_scale.tensor()?, of_shift.tensor()?);
    let gx = gpu.fresh(maps, x.dims())?;
    let args = [
        Arg::In(&x),
        Arg::In(&gy),
        Arg::Reals(Some(&mean)),
        Arg::Reals(Some(&through)),
        Arg::Int(map.len()),
        Arg::Int(map.c),
        Arg::Out(&gx),
    ];
    gpu.launch("norm_gradient", maps, Grid::over(map.len()), &args)?;
    Ok(Gradients {
        x: gx.tensor()?,
        scale_shift: scale.map(|_| (of_scale, of_shift)),
        product: Some(Later::OnDevice(products.tensor()?)),
    })
}

fn affine(scale_shift: Option<(&Tensor, &Tensor)>, c: usize) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let Some((scale, shift)) = scale_shift else { return Ok((None, None)) };
    expect_dims("a value per channel", scale, &[c])?;
    expect_dims("a value per channel", shift, &[c])?;
    Ok((Some(dense(scale)?), Some(dense(shift)?)))
}
