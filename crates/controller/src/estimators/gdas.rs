//! GDAS: one path forward, one path backward.

use candle_core::{DType, Result, Tensor};
use rand_chacha::ChaCha8Rng;

use super::sample::{Sample, differential};
use crate::{Demand, Estimator, Gates, gumbel};

/// GDAS: straight-through Gumbel-Softmax of which only the sampled candidate runs.
///
/// With `y` and `h` as in [`GumbelSt`](super::GumbelSt):
///
/// ```text
/// gate = h · (1 + y − stop_gradient(y))    equals h exactly, while ∂gate = h ∘ ∂y
/// ```
///
/// so `∂L/∂gate` off the chosen candidate is taken as 0, whatever the answer holds there: a step costs the time and the
/// memory of a single path however many candidates there are ([`Demand::Chosen`]). The price is a bias that no
/// temperature removes: of a linear loss it sees half the gradient. Its variance grows as `1/τ` when `τ → 0`.
///
/// The authors' code differs between its two search spaces: on NAS-Bench-201 it adds the other gates as bare scalars to
/// the map, in the DARTS space it drops them. This is the second.
///
/// # References
/// - Dong & Yang, *Searching for a Robust Neural Architecture in Four GPU Hours*, 2019, <https://arxiv.org/abs/1910.04465>
/// - Jang, Gu & Poole, *Categorical Reparameterization with Gumbel-Softmax*, 2017, §2.2, <https://arxiv.org/abs/1611.01144>
#[derive(Clone, Copy, Debug, Default)]
pub struct Gdas;

impl Gdas {
    /// [`Estimator::relax`] with the noise given, `(E, K)`.
    pub(super) fn relax_with(logits: &Tensor, tau: &Tensor, noise: &Tensor) -> Result<Gates> {
        let sample = Sample::new(logits, tau, noise)?;
        let gates = (sample.hard()? * (differential(&sample.soft)? + 1.0)?)?.to_dtype(logits.dtype())?; // (E, K)
        Ok(Gates::single(gates, sample.chosen))
    }
}

impl Estimator for Gdas {
    fn demand(&self) -> Demand {
        Demand::Chosen
    }

    fn relax(&self, logits: &Tensor, tau: &Tensor, rng: &mut ChaCha8Rng) -> Result<Gates> {
        Self::relax_with(logits, tau, &gumbel(logits.dims2()?, rng, DType::F64, logits.device())?)
    }
}
