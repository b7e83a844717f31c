//! Gumbel-Softmax without the hard step.

use candle_core::{DType, Result, Tensor};
use rand_chacha::ChaCha8Rng;

use super::sample::Sample;
use crate::{Demand, Estimator, Gates, gumbel};

/// Gumbel-Softmax: every candidate runs, weighted by a soft sample.
///
/// ```text
/// gate = y = softmax((α + g)/τ),   g ~ Gumbel(0, 1)
///
/// ∂y_i/∂α_j = y_i (δ_ij − y_j)/τ           ∂y_i/∂τ = −(y_i/τ)(z_i − Σ_j y_j z_j)
/// ```
///
/// `K` forwards and `K` backwards ([`Demand::Mixture`]). The network it trains is a mixture, not a choice; as `τ → 0` the
/// two become one and the bias vanishes for every smooth loss. With one joint loss for weights and logits this is
/// SNAS; strait keeps the two apart, hence the other name.
///
/// # References
/// - Jang, Gu & Poole, *Categorical Reparameterization with Gumbel-Softmax*, 2017, §2, <https://arxiv.org/abs/1611.01144>
/// - Xie, Zheng, Liu & Lin, *SNAS: Stochastic Neural Architecture Search*, 2019, <https://arxiv.org/abs/1812.09926>
#[derive(Clone, Copy, Debug, Default)]
pub struct GumbelSoft;

impl GumbelSoft {
    /// [`Estimator::relax`] with the noise given, `(E, K)`.
    pub(super) fn relax_with(logits: &Tensor, tau: &Tensor, noise: &Tensor) -> Result<Gates> {
        Gates::weighted(Sample::new(logits, tau, noise)?.soft.to_dtype(logits.dtype())?)
    }
}

impl Estimator for GumbelSoft {
    fn demand(&self) -> Demand {
        Demand::Mixture
    }

    fn relax(&self, logits: &Tensor, tau: &Tensor, rng: &mut ChaCha8Rng) -> Result<Gates> {
        Self::relax_with(logits, tau, &gumbel(logits.dims2()?, rng, DType::F64, logits.device())?)
    }
}
