//! Functions of single elements.

mod cpu;
#[cfg(any(feature = "cuda", feature = "emulate"))]
mod cuda;
#[cfg(test)]
mod tests;

use candle_core::{Result, Tensor};

pub(in crate::kernels) use cpu::{relu as relu_piece, relu_mask};

use super::{
    Isa,
    gpu::on_gpu,
    stored::computed,
    threads::{fill, piece, piece_of},
    values::{Values, dense, for_stored, same_shape, tensor},
};

/// `max(x, 0)`, of any shape.
///
/// # Errors
/// The elements are not `f32`, `f64` or `bf16`.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    on_gpu!(x, gpu => cuda::rectify(&gpu, x, f64::INFINITY));
    let (isa, dims) = (Isa::detect(), x.dims());
    let x = dense(x)?;
    for_stored!(x, M => {
        let x = Values::<M>::of(&x)?;
        let len = piece_of(x.len());
        tensor(fill(x.len(), len, x.len(), |i, y: &mut [M]| computed(y, |y| cpu::relu(isa, piece(&x, i, len), y))), dims)
    })
}

/// `∂L/∂x` of [`relu`]: `∂L/∂y` where `x > 0`, else 0.
///
/// # Errors
/// Shapes or types do not fit.
pub fn relu_gradient(x: &Tensor, gy: &Tensor) -> Result<Tensor> {
    masked(x, gy, f64::INFINITY)
}

/// `min(max(x, 0), 6)`, of any shape.
///
/// # Errors
/// As [`relu`].
pub fn relu6(x: &Tensor) -> Result<Tensor> {
    on_gpu!(x, gpu => cuda::rectify(&gpu, x, 6.0));
    let (isa, dims) = (Isa::detect(), x.dims());
    let x = dense(x)?;
    for_stored!(x, M => {
        let x = Values::<M>::of(&x)?;
        let len = piece_of(x.len());
        tensor(fill(x.len(), len, x.len(), |i, y: &mut [M]| computed(y, |y| cpu::relu6(isa, piece(&x, i, len), y))), dims)
    })
}

/// `∂L/∂x` of [`relu6`]: `∂L/∂y` where `0 < x < 6`, else 0.
///
/// # Errors
/// Shapes or types do not fit.
pub fn relu6_gradient(x: &Tensor, gy: &Tensor) -> Result<Tensor> {
    masked(x, gy, 6.0)
}

fn masked(x: &Tensor, gy: &Tensor, below: f64) -> Result<Tensor> {
    same_shape(x, gy)?;
    on_gpu!(x, gpu => cuda::masked(&gpu, x, gy, below));
    let dims = x.dims();
    let (x, gy, isa) = (dense(x)?, dense(gy)?, Isa::detect());
    for_stored!(x, M => {
        let (x, gy) = (Values::<M>::of(&x)?, Values::<M>::of(&gy)?);
        let len = piece_of(x.len());
        let write = |i, gx: &mut [M]| {
            computed(gx, |gx| cpu::mask(isa, piece(&x, i, len), piece(&gy, i, len), below, gx));
        };
        tensor(fill(x.len(), len, x.len(), write), dims)
    })
}
