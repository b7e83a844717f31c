//! What a search and a training say of themselves.

use std::fmt;

use serde::Serialize;

use crate::{Collapse, Error, Gap, GradientNoise, Score};

/// What one call of `next_step` did.
#[derive(Clone, Debug)]
pub enum Progress<S> {
    /// A step.
    Step(StepReport),
    /// One more pass of the measurements that end an epoch.
    Measuring {
        /// Passes that they have made.
        passes: usize,
    },
    /// Nothing but summing up an epoch whose steps are all done.
    Epoch(S),
    /// Nothing: all epochs are done.
    Finished,
}

/// One step of an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// From 0.
    pub epoch: usize,
    /// Epochs in all.
    pub epochs: usize,
    /// Steps of this epoch that are done, from 1.
    pub step: usize,
    /// Steps of an epoch.
    pub steps: usize,
    /// Mean over the epoch's weight batches so far.
    pub score: Score,
    /// Norm of the weights' gradient before clipping.
    pub norm: f64,
    /// Temperature; `None` in a training.
    pub tau: Option<f64>,
    /// Mean entropy of the choices in nats; `None` in a training.
    pub entropy: Option<f64>,
}

/// One epoch of a search. Serialized it is a line of `epochs.jsonl`, without times, so that equal runs are equal files.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EpochSummary {
    /// From 0.
    pub epoch: usize,
    /// Whether the weights trained alone.
    pub warmup: bool,
    /// Temperature; the mean over edges where each has its own.
    pub tau: f64,
    /// Learning rate of the weights.
    pub lr: f64,
    /// Mean over the batches of the weight steps, while the weights moved.
    pub weights: Score,
    /// Mean over the batches of the architecture steps; `None` while there are none.
    pub architecture: Option<Score>,
    /// Mean entropy over all edges, in nats.
    pub entropy: f64,
    /// The share of edges whose likeliest candidate has no weights: 1 is the well-known collapse.
    pub parameter_free: f64,
    /// Noise of the architecture's gradient; `None` in warm-up, or where it is not measured.
    pub noise: Option<GradientNoise>,
    /// Signs of collapse.
    pub collapse: Collapse,
    /// What a person should know, in plain words.
    pub warnings: Vec<String>,
    /// Whether the search ends here, on the sign it was asked to stop on.
    pub stopped: bool,
    /// The logits, group by group.
    pub groups: Vec<GroupSummary>,
    /// What is lost when choices become discrete; `None` in warm-up, where nothing has been chosen yet.
    pub gap: Option<Gap>,
    /// What the rule would decide now, in one line.
    pub genotype: String,
    /// Indices of the cells of that child through which nothing flows.
    pub disconnected: Vec<usize>,
    /// Time of the epoch in this process, in seconds.
    #[serde(skip)]
    pub seconds: f64,
    /// The part of it that measured the gap.
    #[serde(skip)]
    pub gap_seconds: f64,
    /// The part of it that measured noise and sharpness.
    #[serde(skip)]
    pub watch_seconds: f64,
}

/// One group of edges.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupSummary {
    /// The group's name.
    pub name: String,
    /// Entropy of every edge, in nats.
    pub entropy: Vec<f64>,
    /// The largest probability of every edge less the second largest.
    pub margin: Vec<f64>,
    /// Temperature of every edge.
    pub tau: Vec<f64>,
    /// `α`, E rows of K.
    pub logits: Vec<Vec<f64>>,
    /// `β`, how strongly every edge counts at its node, where edges are normalized.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<Vec<f64>>,
}

/// One epoch of a training. Serialized it is a line of `train.jsonl`, without times.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainSummary {
    /// From 0.
    pub epoch: usize,
    /// Learning rate.
    pub lr: f64,
    /// Probability of losing an edge's output.
    pub drop_path: f64,
    /// Mean over the training batches, while the weights moved.
    pub score: Score,
    /// Time of the epoch in this process, in seconds.
    #[serde(skip)]
    pub seconds: f64,
}

impl<S> Progress<S> {
    /// Calls `step` until it sums an epoch up; `None` where all are done.
    pub(crate) fn until_epoch(mut step: impl FnMut() -> Result<Self, Error>) -> Result<Option<S>, Error> {
        loop {
            match step()? {
                Self::Step(_) | Self::Measuring { .. } => {}
                Self::Epoch(summary) => return Ok(Some(summary)),
                Self::Finished => return Ok(None),
            }
        }
    }
}

impl fmt::Display for EpochSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}: {}", self.epoch + 1, self.weights)?;
        if let Some(architecture) = &self.architecture {
            write!(f, "; architecture {architecture}")?;
        }
        write!(f, "; τ {:.3}, entropy {:.3}", self.tau, self.entropy)?;
        if let Some(Gap { mixture, argmax, derived, .. }) = &self.gap {
            write!(
                f,
                "; mixture {:.4}, argmax {:.4}, derived {:.4}",
                mixture.accuracy, argmax.accuracy, derived.accuracy
            )?;
        }
        let measured = |noise| write!(f, "; {noise}, measured in {:.1} s", self.watch_seconds);
        self.noise.as_ref().map_or(Ok(()), measured)?;
        if self.warmup { f.write_str(" (warm-up)") } else { Ok(()) }
    }
}

impl fmt::Display for TrainSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}: {}, learning rate {:.5}", self.epoch + 1, self.score, self.lr)
    }
}
