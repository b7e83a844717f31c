//! ProxylessNAS: two paths compared, one run.

use candle_core::{DType, Result, Tensor};
use rand_chacha::ChaCha8Rng;

use super::sample::{argmax, differential, draw, log_add_exp, one_hot};
use crate::{Demand, Estimator, Gates, categorical, gates::to_finite_host, gumbel};

/// ProxylessNAS in its mode `two`: two candidates are sampled, one of them runs, the other is weighed against it.
///
/// ```text
/// {a, b} ~ π = softmax(α), without replacement;   p = softmax of (α_a, α_b);   k ~ p
/// gate = one_hot(k) in value,   ∂gate_i/∂α_j = p_i (δ_ij − p_j) for i, j in {a, b}, else 0
/// ```
///
/// Two outputs and one backward, whatever `K` is ([`Demand::Outputs`] on [`crate::Paths::Pair`]). Only two logits of an edge
/// have a gradient; after the optimizer's step [`Proxyless::settle`] moves both so that no third candidate's
/// probability changes. A lone candidate runs alone. `τ` takes no part: `∂L/∂τ` is 0.
///
/// # References
/// - Cai, Zhu & Han, *ProxylessNAS: Direct Neural Architecture Search on Target Task and Hardware*, 2019, §3.2 and its
///   code's `rescale_updated_arch_param`, <https://arxiv.org/abs/1812.00332>
#[derive(Clone, Copy, Debug, Default)]
pub struct Proxyless;

impl Proxyless {
    /// What a step of an optimizer may change: the difference within each pair. Logits outside the pair stay as they were
    /// `before`; the pair is shifted so that `exp α_a + exp α_b` is what it was. Both `(E, K)`, one pair a row.
    ///
    /// # Errors
    /// candle's, when shapes do not fit.
    pub fn settle(before: &Tensor, after: &Tensor, pairs: &[[usize; 2]]) -> Result<Tensor> {
        let (old, new) = (to_finite_host(before)?, to_finite_host(after)?);
        let settled = old.into_iter().zip(&new).zip(pairs).flat_map(|((mut row, new), &[a, b])| {
            let shift = log_add_exp(row[a], row[b]) - log_add_exp(new[a], new[b]);
            (row[a], row[b]) = (new[a] + shift, new[b] + shift);
            row
        });
        Tensor::from_vec(settled.collect(), before.shape(), before.device())?.to_dtype(before.dtype())
    }
}

impl Estimator for Proxyless {
    fn demand(&self) -> Demand {
        Demand::Outputs
    }

    fn relax(&self, logits: &Tensor, _tau: &Tensor, rng: &mut ChaCha8Rng) -> Result<Gates> {
        let (edges, candidates) = logits.dims2()?;
        let (device, exact) = (logits.device(), logits.to_dtype(DType::F64)?);
        if candidates < 2 {
            let chosen = draw(logits, rng)?;
            let gates =
                (one_hot(&chosen, candidates, device)? + differential(&categorical::softmax(&exact)?)?)?;
            return Ok(Gates::single(gates.to_dtype(logits.dtype())?, chosen));
        }
        let noise = gumbel((edges, candidates), rng, DType::F64, device)?;
        let perturbed = categorical::centered(&(&exact + noise)?)?;
        let pairs: Vec<[usize; 2]> = to_finite_host(&perturbed)?.iter().map(|row| two_largest(row)).collect();
        let [first, second] = [0, 1].map(|i| pairs.iter().map(|pair| pair[i]).collect::<Vec<_>>());
        let (first, second) = (one_hot(&first, candidates, device)?, one_hot(&second, candidates, device)?);
        let of = |hot: &Tensor| (&exact * hot)?.sum_keepdim(1); // (E, 1)
        let pair = Tensor::cat(&[of(&first)?, of(&second)?], 1)?; // (E, 2)
        let winners = draw(&pair.detach(), rng)?;
        let p = categorical::softmax(&pair)?;
        let soft =
            (first.broadcast_mul(&p.narrow(1, 0, 1)?)? + second.broadcast_mul(&p.narrow(1, 1, 1)?)?)?; // (E, K)
        let ordered: Vec<[usize; 2]> =
            pairs.iter().zip(winners).map(|(&[a, b], won)| if won == 0 { [a, b] } else { [b, a] }).collect();
        let chosen: Vec<usize> = ordered.iter().map(|pair| pair[0]).collect();
        let gates = (one_hot(&chosen, candidates, device)? + differential(&soft)?)?;
        Ok(Gates::pair(gates.to_dtype(logits.dtype())?, ordered))
    }
}

/// The indices of the two largest entries of at least two; the lower on ties.
fn two_largest(row: &[f64]) -> [usize; 2] {
    let first = argmax(row);
    let rest: Vec<f64> =
        row.iter().enumerate().map(|(k, &x)| if k == first { f64::NEG_INFINITY } else { x }).collect();
    let second = argmax(&rest);
    [first, if second == first { usize::from(first == 0) } else { second }]
}
