//! Straight-through without noise in the backward.

use candle_core::{DType, Result, Tensor};
use rand_chacha::ChaCha8Rng;

use super::sample::{differential, draw, one_hot};
use crate::{Demand, Estimator, Gates, categorical};

/// Plain straight-through: a hard sample forward, the derivative of the tempered probabilities backward.
///
/// ```text
/// D    ~ softmax(α)                        hard sample
/// p    = softmax(α/τ)                      no noise in it
/// gate = D + (p − stop_gradient(p))        equals D exactly, while ∂gate/∂α = (diag(p) − p pᵀ)/τ
/// ```
///
/// All outputs and one backward, as [`GumbelSt`](super::GumbelSt) ([`Demand::Outputs`]). At `τ = 1` and for a linear
/// loss it is unbiased; of any other loss it sees the slope at the choice only.
///
/// # References
/// - Bengio, Léonard & Courville, *Estimating or Propagating Gradients Through Stochastic Neurons for Conditional
///   Computation*, 2013, §4, <https://arxiv.org/abs/1308.3432>
#[derive(Clone, Copy, Debug, Default)]
pub struct St;

impl Estimator for St {
    fn demand(&self) -> Demand {
        Demand::Outputs
    }

    fn relax(&self, logits: &Tensor, tau: &Tensor, rng: &mut ChaCha8Rng) -> Result<Gates> {
        let chosen = draw(logits, rng)?;
        let tempered = categorical::centered(logits)?.broadcast_div(&tau.to_dtype(DType::F64)?)?;
        let soft = categorical::softmax(&tempered)?; // (E, K)
        let hard = one_hot(&chosen, logits.dim(1)?, logits.device())?;
        Ok(Gates::single((hard + differential(&soft)?)?.to_dtype(logits.dtype())?, chosen))
    }
}
