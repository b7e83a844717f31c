//! What the architecture's gradient is given besides the loss.

use candle_core::{Device, Tensor};
use controller::{ArchParams, estimators::Drnas};

use crate::Error;

/// The weights of the terms, as they are in one epoch.
///
/// ```text
/// L' = L − bonus·Σ_edges H(softmax(α/τ)) + decay·mean_edges logsumexp(α) + divergence·Σ KL(Dir(elu(α) + 1) ‖ Dir(1))
/// ```
///
/// The bonus pays for being undecided; where `τ` is learned it drives it up, `∂H/∂τ = Var_p(α)/τ³ ≥ 0`. The decay is that of
/// β-DARTS (Ye et al., 2022, <https://arxiv.org/abs/2203.01665>), the divergence that of DrNAS.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Terms {
    pub(crate) bonus: f64,
    pub(crate) decay: f64,
    pub(crate) divergence: f64,
}

impl Terms {
    /// Adds every term's gradient by `α`, `(E, K)` per group, and by `τ`, one per edge.
    ///
    /// # Errors
    /// candle's.
    pub(crate) fn add(
        self,
        arch: &ArchParams,
        taus: &[Vec<f64>],
        alphas: &mut [Tensor],
        slopes: &mut [Vec<f64>],
    ) -> Result<(), Error> {
        if self == Self::default() {
            return Ok(());
        }
        let edges: usize = taus.iter().map(Vec::len).sum();
        for (group, alpha) in alphas.iter_mut().enumerate() {
            let logits: Vec<Vec<f64>> = arch.logits(group).to_vec2()?; // on the host already
            let mut rows = Vec::with_capacity(logits.len());
            for (row, (logits, &tau)) in logits.iter().zip(&taus[group]).enumerate() {
                let (by_alpha, by_tau) = entropy_slopes(logits, tau);
                let pi = softmax(logits, 1.0);
                let parts = by_alpha.iter().zip(&pi);
                rows.push(
                    parts.map(|(h, p)| self.decay * p / edges as f64 - self.bonus * h).collect::<Vec<_>>(),
                );
                slopes[group][row] -= self.bonus * by_tau;
            }
            *alpha = (&*alpha + Tensor::new(rows, &Device::Cpu)?)?;
            if self.divergence != 0.0 {
                *alpha = (&*alpha + (Drnas::divergence(arch.logits(group))? * self.divergence)?)?;
            }
        }
        Ok(())
    }
}

/// `∂H/∂α` and `∂H/∂τ` of `H(p)`, `p = softmax(α/τ)`: `−p_j (ln p_j + H)/τ` and `Var_p(α)/τ³`.
fn entropy_slopes(logits: &[f64], tau: f64) -> (Vec<f64>, f64) {
    let p = softmax(logits, tau);
    let log = |p: f64| if p > 0.0 { p.ln() } else { 0.0 };
    let entropy = -p.iter().map(|&p| p * log(p)).sum::<f64>();
    let mean = p.iter().zip(logits).map(|(p, alpha)| p * alpha).sum::<f64>();
    let variance = p.iter().zip(logits).map(|(p, alpha)| p * (alpha - mean).powi(2)).sum::<f64>();
    (p.iter().map(|&p| -p * (log(p) + entropy) / tau).collect(), variance / tau.powi(3))
}

fn softmax(logits: &[f64], tau: f64) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|alpha| ((alpha - max) / tau).exp()).collect();
    let total: f64 = powers.iter().sum();
    powers.iter().map(|power| power / total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entropy(logits: &[f64], tau: f64) -> f64 {
        -softmax(logits, tau).iter().map(|p| p * p.ln()).sum::<f64>()
    }

    /// Central differences with step 1e-5.
    #[test]
    fn the_bonus_has_the_slopes_of_the_entropy() {
        let (logits, tau) = ([0.3, -1.0, 0.8], 0.7);
        let (by_alpha, by_tau) = entropy_slopes(&logits, tau);
        for (k, found) in by_alpha.into_iter().enumerate() {
            let at = |by: f64| {
                entropy(&std::array::from_fn::<f64, 3, _>(|j| logits[j] + if j == k { by } else { 0.0 }), tau)
            };
            assert!(((at(1e-5) - at(-1e-5)) / 2e-5 - found).abs() < 1e-8, "{k}");
        }
        let difference = (entropy(&logits, tau + 1e-5) - entropy(&logits, tau - 1e-5)) / 2e-5;
        assert!((difference - by_tau).abs() < 1e-8 && by_tau > 0.0);
    }

    #[test]
    fn equal_logits_have_all_the_entropy_there_is() {
        assert_eq!(entropy_slopes(&[2.0, 2.0], 0.5), (vec![0.0, 0.0], 0.0));
    }
}
