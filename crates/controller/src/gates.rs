//! What a relaxation hands to the network, and how the network's answer returns to the logits.

use candle_core::{DType, Result, Tensor, backprop::GradStore};

/// What an estimator needs of every edge in an architecture step. A weight step always runs [`Paths`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Only the chosen candidate: `∂L/∂gate` is taken as 0 elsewhere (`gdas`).
    Chosen,
    /// `⟨∂L/∂f, o_k(x)⟩` of every candidate that [`Paths`] compares, though only the chosen one carries the signal
    /// (`gumbel-st` and its kin compare all, `proxyless` two).
    Outputs,
    /// The weighted sum of all candidates, forward and backward (`darts`, `gumbel-soft`, `drnas`).
    Mixture,
    /// As [`Demand::Mixture`], but in the weight step itself: one loss moves weights and logits (`snas`).
    Joint,
    /// Only the losses of this many independent samples (`reinforce`).
    Losses(usize),
    /// `∂L/∂gate_k = E[L | k]`, from losses alone: of all architectures where there are at most this many; otherwise of
    /// every candidate of one edge at a time, the other edges as they were drawn (`exact`).
    Enumeration(usize),
}

impl Demand {
    /// Whether every candidate runs with its weight, rather than one an edge.
    #[must_use]
    pub fn mixes(self) -> bool {
        matches!(self, Self::Mixture | Self::Joint)
    }
}

/// What the network runs on the edges of one group, one entry per row of the logits.
#[derive(Clone, Debug, PartialEq)]
pub enum Paths {
    /// The index of the one candidate that runs, its gate exactly 1.
    Single(Vec<usize>),
    /// The first candidate runs, its gate exactly 1; an answer to [`Demand::Outputs`] compares it with the second alone.
    Pair(Vec<[usize; 2]>),
    /// The weight of every candidate.
    Weighted(Vec<Vec<f64>>),
}

/// A relaxed choice for every edge of one group, still on the graph of its logits and its temperature.
#[derive(Clone, Debug)]
pub struct Gates {
    weights: Tensor,
    paths: Paths,
}

impl Gates {
    /// One candidate per edge runs: `chosen[e]` of row `e`; `weights` is `(E, K)`, one-hot in value, and its
    /// derivative is the estimator's.
    #[must_use]
    pub fn single(weights: Tensor, chosen: Vec<usize>) -> Self {
        Self { weights, paths: Paths::Single(chosen) }
    }

    /// One candidate per edge runs, the first of its pair, and is compared with the second; `weights` is `(E, K)`, as in
    /// [`Gates::single`].
    #[must_use]
    pub fn pair(weights: Tensor, pairs: Vec<[usize; 2]>) -> Self {
        Self { weights, paths: Paths::Pair(pairs) }
    }

    /// Every candidate runs with its weight; `weights` is `(E, K)`. Copies the values to the host.
    ///
    /// # Errors
    /// candle's, when `weights` is no matrix of floats; a weight is not finite.
    pub fn weighted(weights: Tensor) -> Result<Self> {
        let rows = to_finite_host(&weights)?;
        Ok(Self { weights, paths: Paths::Weighted(rows) })
    }

    /// The gates' values and graph, `(E, K)`.
    #[must_use]
    pub fn weights(&self) -> &Tensor {
        &self.weights
    }

    /// What the network runs.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Carries the network's answer `∂L/∂gates`, `(E, K)`, back through the relaxation: the gradients of every
    /// variable the gates were made of.
    ///
    /// # Errors
    /// candle's, when `grad` has another shape than the gates.
    pub fn pullback(&self, grad: &Tensor) -> Result<GradStore> {
        let upstream = grad.detach().to_device(self.weights.device())?.to_dtype(self.weights.dtype())?;
        (&self.weights * upstream)?.sum_all()?.backward()
    }
}

/// Copies an `(E, K)` matrix to the host and refuses what is not finite, naming the row and the column.
pub(crate) fn to_finite_host(matrix: &Tensor) -> Result<Vec<Vec<f64>>> {
    let rows = to_host(matrix)?;
    for (edge, row) in rows.iter().enumerate() {
        if let Some(candidate) = row.iter().position(|value| !value.is_finite()) {
            let value = row[candidate];
            candle_core::bail!("edge {edge}, candidate {candidate}: {value}; expected a finite number");
        }
    }
    Ok(rows)
}

/// Copies an `(E, K)` matrix to the host: a host sync.
pub(crate) fn to_host(matrix: &Tensor) -> Result<Vec<Vec<f64>>> {
    matrix.to_dtype(DType::F64)?.to_vec2()
}
