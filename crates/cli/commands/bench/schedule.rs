//! Which candidates the timed steps run.

use std::sync::{Arc, Mutex, PoisonError};

use clap::ValueEnum;
use rand_chacha::ChaCha8Rng;
use strait::Tensor;
use strait::controller::{Demand, Estimator, Gates, Paths};

/// How sampled paths are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Schedule {
    /// As a search draws them
    Random,
    /// Step `t` runs candidate `(t + e) mod K` on edge `e`: every candidate equally often, so that every run costs the same
    Latin,
}

/// An estimator whose choices are known: written down, and perhaps prescribed.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) estimator: Box<dyn Estimator>,
    pub(super) schedule: Schedule,
    /// Relaxations that make one step.
    pub(super) per_step: usize,
    pub(super) seen: Seen,
}

/// The paths of every relaxation, in order. Clones are the same list.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Arc<Mutex<Vec<Paths>>>);

impl Seen {
    /// Takes what has been seen since the last time.
    pub(super) fn take(&self) -> Vec<Paths> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Estimator for Observed {
    fn demand(&self) -> Demand {
        self.estimator.demand()
    }

    fn relax(&self, logits: &Tensor, tau: &Tensor, rng: &mut ChaCha8Rng) -> strait::TensorResult<Gates> {
        let drawn = self.estimator.relax(logits, tau, rng)?;
        let mut seen = self.seen.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gates = match (self.schedule, drawn.paths()) {
            (Schedule::Latin, Paths::Single(_) | Paths::Pair(_)) => {
                prescribed(&drawn, seen.len() / self.per_step)?
            }
            _ => drawn,
        };
        seen.push(gates.paths().clone());
        Ok(gates)
    }

    fn credit(&self, losses: &[f64]) -> Vec<f64> {
        self.estimator.credit(losses)
    }
}

/// The same derivatives at other choices: those of `step`.
fn prescribed(drawn: &Gates, step: usize) -> strait::TensorResult<Gates> {
    let (edges, candidates) = drawn.weights().dims2()?;
    let chosen: Vec<usize> = (0..edges).map(|edge| (step + edge) % candidates).collect();
    let mut hard = vec![0.0; edges * candidates];
    chosen.iter().enumerate().for_each(|(edge, &k)| hard[edge * candidates + k] = 1.0);
    let weights = drawn.weights();
    let hard = Tensor::from_vec(hard, (edges, candidates), weights.device())?.to_dtype(weights.dtype())?;
    Ok(Gates::single((hard + (weights - weights.detach())?)?, chosen))
}

/// Steps rounded up to whole cycles, after which every candidate of `candidates` ran equally often.
pub(super) fn whole_cycles(steps: usize, candidates: usize) -> usize {
    steps.next_multiple_of(candidates.max(1))
}
