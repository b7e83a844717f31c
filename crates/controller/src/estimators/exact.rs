//! The gradient by enumeration.

use candle_core::{Result, Tensor};
use rand_chacha::ChaCha8Rng;

use super::sample::{differential, draw, one_hot};
use crate::{Demand, Estimator, Gates, categorical};

/// The true gradient, by running every choice: the yardstick of all others.
///
/// ```text
/// ∂ E[L]/∂α = Σ_k (∂π_k/∂α)·E[L | k]       gate = one_hot(k ~ π) in value,   ∂gate = ∂π
/// ```
///
/// It needs `E[L | k]` of every edge and candidate ([`Demand::Enumeration`]). Where there are at most `limit`
/// architectures, all of them run, and nothing is left to chance. Where there are more, one edge at a time is
/// enumerated while the others keep what was drawn: `Σ(K − 1) + 1` forwards, unbiased, and exact for a single edge.
/// `τ` takes no part: `∂L/∂τ` is 0.
///
/// # References
/// - Titsias & Lázaro-Gredilla, *Local Expectation Gradients for Black Box Variational Inference*, 2015, for one edge at a
///   time, <https://arxiv.org/abs/1503.01494>
#[derive(Clone, Copy, Debug)]
pub struct Exact {
    /// The most architectures that are enumerated as a whole.
    pub limit: usize,
}

impl Exact {
    /// Three edges of five candidates still fit.
    pub const LIMIT: usize = 125;
}

impl Default for Exact {
    fn default() -> Self {
        Self { limit: Self::LIMIT }
    }
}

impl Estimator for Exact {
    fn demand(&self) -> Demand {
        Demand::Enumeration(self.limit)
    }

    fn relax(&self, logits: &Tensor, _tau: &Tensor, rng: &mut ChaCha8Rng) -> Result<Gates> {
        let chosen = draw(logits, rng)?;
        let hard = one_hot(&chosen, logits.dim(1)?, logits.device())?;
        let pi = categorical::softmax(&logits.to_dtype(hard.dtype())?)?; // (E, K)
        Ok(Gates::single((hard + differential(&pi)?)?.to_dtype(logits.dtype())?, chosen))
    }
}
