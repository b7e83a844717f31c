//! SNAS: one loss for weights and logits.

use candle_core::{DType, Result, Tensor};
use rand_chacha::ChaCha8Rng;

use super::GumbelSoft;
use crate::{Demand, Estimator, Gates, gumbel};

/// SNAS: [`GumbelSoft`] whose logits learn from the weights' own loss, in the same pass.
///
/// ```text
/// gate = softmax((α + g)/τ);   one batch, one backward: ∂L/∂w and ∂L/∂α
/// ```
///
/// There is no second split and no second step ([`Demand::Joint`]): half the cost of a bilevel step on mixtures, and
/// logits that see how well the training part is remembered rather than how well it is understood.
///
/// # References
/// - Xie, Zheng, Liu & Lin, *SNAS: Stochastic Neural Architecture Search*, 2019, §2.2, <https://arxiv.org/abs/1812.09926>
#[derive(Clone, Copy, Debug, Default)]
pub struct Snas;

impl Estimator for Snas {
    fn demand(&self) -> Demand {
        Demand::Joint
    }

    fn relax(&self, logits: &Tensor, tau: &Tensor, rng: &mut ChaCha8Rng) -> Result<Gates> {
        GumbelSoft::relax_with(logits, tau, &gumbel(logits.dims2()?, rng, DType::F64, logits.device())?)
    }
}
