//! Gumbel-Rao: straight-through Gumbel-Softmax, averaged over the noise that would have chosen the same.

use std::num::NonZeroUsize;

use candle_core::{DType, Result, Tensor};
use rand_chacha::ChaCha8Rng;

use super::sample::{Sample, differential, draw, log_add_exp, one_hot};
use crate::{Demand, Estimator, Gates, gates::to_host, noise::exponential};

/// Gumbel-Rao: [`GumbelSt`](super::GumbelSt) with its Jacobian averaged over `M` noises that agree with the choice.
///
/// ```text
/// k*   ~ softmax(α)                                             as gumbel-st draws it
/// g⁽ᵐ⁾ ~ Gumbel(0, 1) given argmax(α + g) = k*,   m = 1 … M     E ~ Exp(1), Z = Σ_j exp α_j:
///        α_k* + g_k* = −ln E_k* + ln Z
///        α_j  + g_j  = −ln(E_j/exp α_j + E_k*/Z)                j ≠ k*
/// y⁽ᵐ⁾ = softmax((α + g⁽ᵐ⁾)/τ)
/// gate = one_hot(k*) in value,   ∂gate = (1/M)·Σ_m ∂y⁽ᵐ⁾
/// ```
///
/// The mean is that of `gumbel-st` and the variance never more, at the same cost to the network ([`Demand::Outputs`]):
/// the `M` draws touch nothing but `(E, K)` matrices.
///
/// # References
/// - Paulus, Maddison & Krause, *Rao-Blackwellizing the Straight-Through Gumbel-Softmax Gradient Estimator*, 2021, §3,
///   <https://arxiv.org/abs/2010.04838>
/// - Maddison, Tarlow & Minka, *A\* Sampling*, 2014, on which the conditional draw rests, <https://arxiv.org/abs/1411.0030>
#[derive(Clone, Copy, Debug)]
pub struct GumbelRao {
    /// `M`, the conditional draws of a gradient.
    pub draws: NonZeroUsize,
}

impl GumbelRao {
    /// Draws of a gradient where nobody says otherwise: most of what 1000 bring (Paulus et al., 2021, §5).
    pub const DRAWS: NonZeroUsize = NonZeroUsize::new(10).expect("10 is not 0");
}

impl Default for GumbelRao {
    fn default() -> Self {
        Self { draws: Self::DRAWS }
    }
}

impl Estimator for GumbelRao {
    fn demand(&self) -> Demand {
        Demand::Outputs
    }

    fn relax(&self, logits: &Tensor, tau: &Tensor, rng: &mut ChaCha8Rng) -> Result<Gates> {
        let (edges, candidates) = logits.dims2()?;
        let (chosen, draws) = (draw(logits, rng)?, self.draws.get());
        let rows = to_host(&logits.detach())?;
        let mut noise = Vec::with_capacity(draws * edges * candidates);
        for _ in 0..draws {
            for (row, &k) in rows.iter().zip(&chosen) {
                noise.extend(conditional(row, k, rng));
            }
        }
        let noise = Tensor::from_vec(noise, (draws * edges, candidates), logits.device())?;
        let repeated = Tensor::cat(&vec![logits; draws], 0)?; // (M·E, K)
        let tau = if tau.rank() == 0 { tau.clone() } else { Tensor::cat(&vec![tau; draws], 0)? };
        let soft = Sample::new(&repeated, &tau, &noise)?.soft.reshape((draws, edges, candidates))?;
        let derivative = differential(&soft.to_dtype(DType::F64)?.mean(0)?)?; // (E, K)
        let hard = one_hot(&chosen, candidates, logits.device())?;
        Ok(Gates::single((hard + derivative)?.to_dtype(logits.dtype())?, chosen))
    }
}

/// Gumbel noise for one row of logits, given that candidate `chosen` wins.
pub(super) fn conditional(logits: &[f64], chosen: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_z = logits.iter().map(|alpha| (alpha - max).exp()).sum::<f64>().ln();
    let logs: Vec<f64> = logits.iter().map(|_| exponential(rng).ln()).collect();
    let winner = logs[chosen] - log_z; // ln(E_k*/Z)
    let noise = |(k, (&alpha, &log)): (usize, (&f64, &f64))| {
        let alpha = alpha - max;
        if k == chosen { -winner - alpha } else { -log_add_exp(log - alpha, winner) - alpha }
    };
    logits.iter().zip(&logs).enumerate().map(noise).collect()
}
