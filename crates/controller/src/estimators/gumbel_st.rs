//! Straight-through Gumbel-Softmax, exact.

use candle_core::{DType, Result, Tensor};
use rand_chacha::ChaCha8Rng;

use super::sample::{Sample, differential};
use crate::{Demand, Estimator, Gates, gumbel};

/// Straight-through Gumbel-Softmax: the hard sample forward, the soft sample's derivative backward.
///
/// Row by row, with logits `α` and independent noise `g ~ Gumbel(0, 1)`:
///
/// ```text
/// z    = (α + g)/τ
/// y    = softmax(z)                        soft sample
/// h    = one_hot(argmax z)                 hard sample; the lowest index on ties
/// gate = h + (y − stop_gradient(y))        equals h exactly, while ∂gate = ∂y
///
/// ∂y_i/∂α_j = y_i (δ_ij − y_j)/τ           ∂y_i/∂τ = −(y_i/τ)(z_i − Σ_j y_j z_j)
/// ```
///
/// The answer it needs, `∂L/∂gate_k = ⟨∂L/∂f, o_k(x)⟩`, takes all `K` outputs but a single backward pass: off the chosen
/// candidate the gate is 0, so `∂L/∂x` and the weights' gradients flow through that one alone ([`Demand::Outputs`]).
/// Its variance grows as `1/τ²` while `τ` is warm and as `1/τ` when `τ → 0`; its bias falls with `τ`, to zero where
/// the loss is at most quadratic between two choices.
///
/// # References
/// - Jang, Gu & Poole, *Categorical Reparameterization with Gumbel-Softmax*, 2017, §2.2, <https://arxiv.org/abs/1611.01144>
/// - Maddison, Mnih & Teh, *The Concrete Distribution*, 2017, <https://arxiv.org/abs/1611.00712>
/// - Cai, Zhu & Han, *ProxylessNAS*, 2019, whose `full_v2` runs the unchosen forwards inside the edge's backward,
///   <https://arxiv.org/abs/1812.00332>
#[derive(Clone, Copy, Debug, Default)]
pub struct GumbelSt;

impl GumbelSt {
    /// [`Estimator::relax`] with the noise given, `(E, K)`.
    pub(super) fn relax_with(logits: &Tensor, tau: &Tensor, noise: &Tensor) -> Result<Gates> {
        let sample = Sample::new(logits, tau, noise)?;
        let gates = (sample.hard()? + differential(&sample.soft)?)?.to_dtype(logits.dtype())?; // (E, K)
        Ok(Gates::single(gates, sample.chosen))
    }
}

impl Estimator for GumbelSt {
    fn demand(&self) -> Demand {
        Demand::Outputs
    }

    fn relax(&self, logits: &Tensor, tau: &Tensor, rng: &mut ChaCha8Rng) -> Result<Gates> {
        Self::relax_with(logits, tau, &gumbel(logits.dims2()?, rng, DType::F64, logits.device())?)
    }
}
