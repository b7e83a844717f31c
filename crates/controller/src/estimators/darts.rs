//! DARTS: the plain mixture.

use candle_core::{Result, Tensor};
use rand_chacha::ChaCha8Rng;

use crate::{Demand, Estimator, Gates, categorical};

/// DARTS: every candidate runs, weighted by its probability, without noise.
///
/// ```text
/// gate = π = softmax(α),   ∂π_i/∂α_j = π_i (δ_ij − π_j)
/// ```
///
/// `K` forwards and `K` backwards ([`Demand::Mixture`]). No temperature and no draw takes part: `∂L/∂τ` is 0 and the
/// generator is left as it was. `none` takes part in the softmax, as in the authors' code, even where the derivation
/// rule can never choose it.
///
/// # References
/// - Liu, Simonyan & Yang, *DARTS: Differentiable Architecture Search*, 2019, §2.2, <https://arxiv.org/abs/1806.09055>
#[derive(Clone, Copy, Debug, Default)]
pub struct Darts;

impl Estimator for Darts {
    fn demand(&self) -> Demand {
        Demand::Mixture
    }

    fn relax(&self, logits: &Tensor, _tau: &Tensor, _rng: &mut ChaCha8Rng) -> Result<Gates> {
        Gates::weighted(categorical::softmax(logits)?)
    }
}
