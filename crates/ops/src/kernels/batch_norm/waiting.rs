//! A map and the batch norm over it, before and after that was applied.

use candle_core::{Result, Tensor};

use super::{Channelwise, Moments, Statistics, apply, moments_of};
use crate::kernels::{element::Stored, values::tensor};

/// What is normalized, and what it became.
#[derive(Clone, Debug)]
pub struct Normalized {
    /// A convolution's output, bias included.
    pub y: Tensor,
    /// `y` normalized by its own moments.
    pub z: Tensor,
    /// Those moments.
    pub moments: Moments,
}

/// What is normalized, for whoever does that while reading.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// A convolution's output, bias included, or a pool's.
    pub y: Tensor,
    /// Its moments.
    pub moments: Moments,
    /// How they, a scale and a shift normalize it.
    pub by: Channelwise,
}

impl Waiting {
    /// Of a map in row-major order, and its statistics.
    pub(in crate::kernels) fn of<M: Stored>(
        y: Vec<M>,
        dims: &[usize],
        statistics: Statistics,
        scale_shift: Option<(&Tensor, &Tensor)>,
        eps: f64,
    ) -> Result<Self> {
        let c = dims.last().copied().unwrap_or(1);
        let moments = moments_of::<M::Real>(statistics, y.len() / c, eps)?;
        let by = moments.channelwise(scale_shift)?;
        Ok(Self { y: tensor(y, dims)?, moments, by })
    }

    /// Normalizes what waited.
    pub(in crate::kernels) fn now(self) -> Result<Normalized> {
        let Self { y, moments, by } = self;
        Ok(Normalized { z: apply(&y, &by)?, y, moments })
    }
}
