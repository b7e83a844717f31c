//! A number per channel, added.

mod cpu;
#[cfg(test)]
mod tests;

use candle_core::{Result, Tensor};

pub(in crate::kernels) use cpu::{fold, repeat};

use super::{
    Isa,
    values::{Map, Values, dense, expect_dims, for_real, tensor},
};

/// `x + b`, with `b` `(C,)` on the last axis of `x`.
///
/// # Errors
/// Shapes or types do not fit.
pub fn add(x: &Tensor, b: &Tensor) -> Result<Tensor> {
    let map = Map::of(x.dims())?;
    expect_dims("bias", b, &[map.c])?;
    let (x, b) = (dense(x)?, dense(b)?);
    for_real!(x, T => {
        tensor(cpu::add::<T>(Isa::detect(), &Values::of(&x)?, &Values::of(&b)?), &map.dims())
    })
}

/// `∂L/∂b` `(C,)`: the sum of `∂L/∂y` over the batch and space.
///
/// # Errors
/// Shapes or types do not fit.
pub fn gradient(gy: &Tensor) -> Result<Tensor> {
    let map = Map::of(gy.dims())?;
    let gy = dense(gy)?;
    for_real!(gy, T => tensor(cpu::gradient::<T>(Isa::detect(), &Values::of(&gy)?, map.c), &[map.c]))
}
