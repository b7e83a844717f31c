//! What a forward pass keeps for the walk back.

use candle_core::Tensor;
use controller::Demand;
use ops::{Draw, Mode, Saved, Summand};

use crate::bypass::Bypass;

/// What a pass is for; nothing else is computed or kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A weight step: gradients of the weights that took part, none of the gates.
    Weights,
    /// An architecture step: what the estimator demands of each edge, no gradient of a weight.
    Architecture(Demand),
    /// Both at once: gradients of the weights that took part and of the gates ([`Demand::Joint`]).
    Joint,
    /// No gradient.
    Evaluate,
}

impl Purpose {
    /// Whether an edge's outputs are compared with the gradient that arrives at them.
    pub(crate) fn weighs_outputs(self) -> bool {
        matches!(self, Self::Joint | Self::Architecture(Demand::Chosen | Demand::Outputs | Demand::Mixture))
    }

    /// Whether candidates that did not run in the forward run in the walk back.
    pub(crate) fn probes(self) -> bool {
        self == Self::Architecture(Demand::Outputs)
    }
}

/// What one forward pass kept, in the order in which it ran.
///
/// It belongs to the network and to the weights that made it.
pub struct Trace {
    pub(crate) purpose: Purpose,
    pub(crate) mode: Mode,
    pub(crate) draw: Draw,
    pub(crate) stem: Option<Saved>,
    pub(crate) blocks: Vec<BlockTrace>,
    pub(crate) before_pool: Option<Saved>,
    pub(crate) classifier: Option<Saved>,
    pub(crate) auxiliary: Option<Saved>,
}

pub(crate) enum BlockTrace {
    Fixed(Option<Saved>),
    Cell(CellTrace),
}

/// One cell's part of a trace.
pub(crate) struct CellTrace {
    pub(crate) preprocess: Vec<Option<Saved>>,
    /// Every node's value, where the walk back needs it to run candidates that did not run.
    pub(crate) nodes: Vec<Tensor>,
    /// Per edge.
    pub(crate) edges: Vec<EdgeTrace>,
}

/// What one edge left behind.
pub(crate) struct EdgeTrace {
    pub(crate) ran: Choice,
    /// How strongly it counted at its node.
    pub(crate) strength: f64,
    /// Present with partial channels.
    pub(crate) bypass: Option<Bypass>,
}

/// What ran on one edge.
pub(crate) enum Choice {
    /// One candidate, its gate exactly 1; `ran` is absent where it is `none`. A probe compares it with the rival alone, where
    /// there is one, else with all others.
    Single { chosen: usize, rival: Option<usize>, ran: Option<Ran> },
    /// Every candidate with its weight.
    Mixture(Vec<(f64, Option<Ran>)>),
}

/// What one operation left behind.
pub(crate) struct Ran {
    pub(crate) saved: Option<Saved>,
    /// The output, where it will be weighed.
    pub(crate) output: Option<Summand>,
    /// The factor of every example (drop path), where there is one.
    pub(crate) factors: Option<Vec<f64>>,
}
