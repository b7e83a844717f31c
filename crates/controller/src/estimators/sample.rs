//! What the Gumbel estimators share: the scores of a draw, its soft sample, its hard sample.

use candle_core::{DType, Result, Tensor};

use crate::{categorical, gates::to_finite_host};

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
        let (edges, candidates) = self.soft.dims2()?;
        let mut rows = vec![0.0; edges * candidates];
        for (edge, &k) in self.chosen.iter().enumerate() {
            rows[edge * candidates + k] = 1.0;
        }
        Tensor::from_vec(rows, (edges, candidates), self.soft.device())
    }

    /// Zero in value, `∂y` in derivative.
    pub(super) fn derivative(&self) -> Result<Tensor> {
        &self.soft - self.soft.detach()
    }
}

/// The index of the largest entry; the lowest on ties, 0 of an empty row.
pub(crate) fn argmax(row: &[f64]) -> usize {
    (1..row.len()).fold(0, |best, k| if row[k] > row[best] { k } else { best })
}
