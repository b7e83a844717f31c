//! Batches on a device.

use candle_core::{DType, Result, Tensor};

use super::{Row, Scale};
use crate::kernels::gpu::{Arg, Gpu, Grid};

pub(super) fn gather(
    gpu: &Gpu,
    values: &Tensor,
    (h, w, c): (usize, usize, usize),
    rows: &[Row],
    scale: Option<Scale<'_>>,
) -> Result<Tensor> {
    let len = rows.len() * h * w * c;
    let table = gpu.upload(rows.iter().flat_map(numbers).collect())?;
    let scale = scale.map(|of| gpu.upload([of.mean, of.deviation].concat())).transpose()?;
    let x = gpu.fresh(DType::F32, &[rows.len(), h * w * c])?;
    let (bytes, floats) =
        if values.dtype() == DType::U8 { (Some(values), None) } else { (None, Some(values)) };
    let args = [
        Arg::Maybe(bytes),
        Arg::Maybe(floats),
        Arg::In(&table),
        Arg::Maybe(scale.as_ref()),
        Arg::Int(h),
        Arg::Int(w),
        Arg::Int(c),
        Arg::Int(len),
        Arg::Out(&x),
    ];
    gpu.launch("gather_batch", DType::F32, Grid::over(len), &args)?;
    x.tensor()
}

/// A row as `batch.cu` reads it.
fn numbers(row: &Row) -> [i64; 8] {
    let Row { index, shift: (down, right), mirrored, hole: (rows, columns) } = row;
    let hole = [rows.start, rows.end, columns.start, columns.end].map(|n| n as i64);
    let [top, bottom, first, last] = hole;
    [*index as i64, *down as i64, *right as i64, i64::from(*mirrored), top, bottom, first, last]
}
