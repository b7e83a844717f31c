//! Cross-entropy on a device.

use candle_core::{DType, Result, Tensor};

use crate::kernels::{
    gpu::{Arg, Gpu, Grid},
    values::dense,
};

/// Parts in `f64` of the mean loss and of the number of right samples, one a sample; and the gradient `(N, O)`.
pub(super) fn cross_entropy(
    gpu: &Gpu,
    logits: &Tensor,
    labels: &[u32],
    smoothing: f64,
) -> Result<(Tensor, Tensor, Tensor)> {
    let ((n, classes), logits) = (logits.dims2()?, dense(logits)?);
    let labels = gpu.upload(labels.to_vec())?;
    let (losses, right) = (gpu.fresh(DType::F64, &[n])?, gpu.fresh(DType::F64, &[n])?);
    let grad = gpu.fresh(logits.dtype(), &[n, classes])?;
    let args = [
        Arg::In(&logits),
        Arg::In(&labels),
        Arg::Double(smoothing),
        Arg::Int(n),
        Arg::Int(classes),
        Arg::Out(&losses),
        Arg::Out(&right),
        Arg::Out(&grad),
    ];
    let grid = Grid { blocks: (n.div_ceil(32), 1, 1), threads: (32, 1) };
    gpu.launch("cross_entropy", logits.dtype(), grid, &args)?;
    Ok((losses.tensor()?, right.tensor()?, grad.tensor()?))
}
