//! What a sum adds up.

use candle_core::Tensor;

use crate::kernels::channelwise::Channelwise;

/// A term of a sum: `factor·x`, or `factor·((x − mean)·f + shift)` where a batch norm is still to be applied.
#[derive(Clone, Copy, Debug)]
pub struct Term<'a> {
    /// How often it counts.
    pub factor: f64,
    /// `(N, …, C)`
    pub x: &'a Tensor,
    /// What normalizes its channels on the way.
    pub norm: Option<&'a Channelwise>,
}

impl<'a> Term<'a> {
    /// `factor·x`
    #[must_use]
    pub fn of(factor: f64, x: &'a Tensor) -> Self {
        Self { factor, x, norm: None }
    }
}
