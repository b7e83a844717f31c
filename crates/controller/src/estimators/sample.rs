//! What the estimators share: a draw of every edge, hard and soft, and constants that carry a derivative.

use candle_core::{DType, Device, Result, Tensor};
use rand_chacha::ChaCha8Rng;

use crate::{categorical, gates::to_finite_host, gumbel};

/// One draw for every edge, in `f64` whatever the logits' type.
pub(super) struct Sample {
    /// `y = softmax(z)`, `(E, K)`, on the graph of logits and temperature.
    pub(super) soft: Tensor,
    /// `argmax z` of every edge; the lowest index on ties.
    pub(super) chosen: Vec<usize>,
}

impl Sample {
    /// Draws with the noise given: `z = (α + g)/τ`, each row shifted so that its maximum is 0.
    ///
    /// Shifting before the division keeps `z` exact where it matters, near the maximum, at every temperature.
    pub(super) fn new(logits: &Tensor, tau: &Tensor, noise: &Tensor) -> Result<Self> {
        let perturbed = (logits.to_dtype(DType::F64)? + noise.to_dtype(DType::F64)?)?; // (E, K)
        let scores = categorical::centered(&perturbed)?.broadcast_div(&tau.to_dtype(DType::F64)?)?;
        let chosen = to_finite_host(&scores)?.iter().map(|row| argmax(row)).collect();
        Ok(Self { soft: categorical::softmax(&scores)?, chosen })
    }

    /// The hard sample `h`, `(E, K)`: a constant.
    pub(super) fn hard(&self) -> Result<Tensor> {
        one_hot(&self.chosen, self.soft.dim(1)?, self.soft.device())
    }
}

/// Draws a candidate for every edge of `(E, K)` with the probability `π = softmax(α)`, by Gumbel's maximum.
///
/// A generator in the same state chooses here what it chooses in [`Sample::new`] with Gumbel noise.
pub(super) fn draw(logits: &Tensor, rng: &mut ChaCha8Rng) -> Result<Vec<usize>> {
    let noise = gumbel(logits.dims2()?, rng, DType::F64, logits.device())?;
    let perturbed = categorical::centered(&(logits.to_dtype(DType::F64)? + noise)?)?;
    Ok(to_finite_host(&perturbed)?.iter().map(|row| argmax(row)).collect())
}

/// `one_hot(k)` of every row, `(E, K)`, in `f64`: a constant.
pub(super) fn one_hot(chosen: &[usize], candidates: usize, device: &Device) -> Result<Tensor> {
    let mut rows = vec![0.0; chosen.len() * candidates];
    for (edge, &k) in chosen.iter().enumerate() {
        rows[edge * candidates + k] = 1.0;
    }
    Tensor::from_vec(rows, (chosen.len(), candidates), device)
}

/// Zero in value, `∂x` in derivative.
pub(super) fn differential(x: &Tensor) -> Result<Tensor> {
    x - x.detach()
}

/// `ln(eᵃ + eᵇ)`.
pub(super) fn log_add_exp(a: f64, b: f64) -> f64 {
    a.max(b) + (-(a - b).abs()).exp().ln_1p()
}

/// The index of the largest entry; the lowest on ties, 0 of an empty row.
pub(crate) fn argmax(row: &[f64]) -> usize {
    (1..row.len()).fold(0, |best, k| if row[k] > row[best] { k } else { best })
}
