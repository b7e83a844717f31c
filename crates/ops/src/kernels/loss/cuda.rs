//! Cross-entropy on a device.

use candle_core::{DType, Result, Tensor};

use crate::kernels::{
    gpu::{Arg, Gpu, Grid},
    values::dense,
};

/// Each sample's loss and whether it is right, `(N, 2)` in `f64`; and the gradient `(N, O)`.
pub(super) fn cross_entropy(
    gpu: &Gpu,
    logits: &Tensor,
    labels: &[u32],
    smoothing: f64,
) -> Result<(Tensor, Tensor)> {
    let ((n, classes), logits) = (logits.dims2()?, dense(logits)?);
    let labels = gpu.upload(labels.to_vec())?;
    let (losses, grad) = (gpu.fresh(DType::F64, &[n, 2])?, gpu.fresh(logits.dtype(), &[n, classes])?);
    let args = [
        Arg::In(&logits),
        Arg::In(&labels),
        Arg::Double(smoothing),
        Arg::Int(n),
        Arg::Int(classes),
        Arg::Out(&losses),
        Arg::Out(&grad),
    ];
    let grid = Grid { blocks: (n.div_ceil(32), 1, 1), threads: (32, 1) };
    gpu.launch("cross_entropy", logits.dtype(), grid, &args)?;
    Ok((losses.tensor()?, grad.tensor()?))
}
