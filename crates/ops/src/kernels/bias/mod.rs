//! A number per channel, added by whatever it follows; here its gradient.

mod cpu;
#[cfg(test)]
mod tests;

use candle_core::{Result, Tensor};

pub(in crate::kernels) use cpu::{channel_sums, fold, repeat};

use super::{
    Isa,
    gpu::on_gpu,
    map::Map,
    values::{Values, dense, for_stored, tensor},
};

/// `∂L/∂b` `(C,)`: the sum of `∂L/∂y` over the batch and space.
///
/// # Errors
/// Shapes or types do not fit.
pub fn gradient(gy: &Tensor) -> Result<Tensor> {
    let map = Map::of(gy.dims())?;
    on_gpu!(gy, gpu => super::batch_norm::cuda::channel_sums(&gpu, gy, &map));
    let gy = dense(gy)?;
    for_stored!(gy, M => tensor(cpu::gradient::<M>(Isa::detect(), &Values::of(&gy)?, map.c), &[map.c]))
}
