//! What a relaxation hands to the network, and how the network's answer returns to the logits.

use candle_core::{Result, Tensor};

/// What an estimator needs of every edge in an architecture step. A weight step always runs [`Paths`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Only the chosen candidate: `∂L/∂gate` is taken as 0 elsewhere (`gdas`).
    Chosen,
    /// `⟨∂L/∂f, o_k(x)⟩` of every candidate, though only the chosen one carries the signal (`gumbel-st`).
    Outputs,
    /// The weighted sum of all candidates, forward and backward (`darts`, `gumbel-soft`).
    Mixture,
    /// Only the losses of this many independent samples (`reinforce`, `exact`).
    Losses(usize),
}

/// What the network runs on the edges of one group, one entry per row of the logits.
#[derive(Clone, Debug, PartialEq)]
pub enum Paths {
    /// The index of the one candidate that runs, its gate exactly 1.
    Single(Vec<usize>),
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

    /// Every candidate runs with its weight; `weights` is `(E, K)`. Copies the values to the host.
    ///
    /// # Errors
    /// candle's, when `weights` is no matrix of floats.
    pub fn weighted(weights: Tensor) -> Result<Self> {
        let rows = weights.to_dtype(candle_core::DType::F64)?.to_vec2()?;
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
}
