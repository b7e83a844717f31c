//! A search space that has been checked: whatever it can lay out is a network.

use crate::{Extent, Norm, OpSpec, Phase, Rank, Rule, Shape, fault::At};

/// What may be chosen, and around it the network that the choices make.
///
/// Always valid: it is parsed once, and every fault of the text is reported then.
#[derive(Clone, Debug, PartialEq)]
pub struct Space {
    pub(crate) yaml: String,
    pub(crate) file: String,
    pub(crate) name: String,
    pub(crate) rank: Rank,
    pub(crate) input: Option<Shape>,
    pub(crate) classes: Option<usize>,
    pub(crate) rule: Rule,
    pub(crate) norms: (Norm, Norm),
    pub(crate) kinds: Vec<CellKind>,
    pub(crate) skeleton: Skeleton,
    pub(crate) search: serde_yaml::Value,
}

/// A kind of cell: a small acyclic graph whose edges have candidates.
#[derive(Clone, Debug, PartialEq)]
pub struct CellKind {
    /// Unique in the space.
    pub name: String,
    /// 1: the previous block's output; 2: also that of the block before.
    pub inputs: usize,
    /// Intermediate nodes; node numbers go on from the inputs'.
    pub nodes: usize,
    /// By target node, then source node.
    pub edges: Vec<KindEdge>,
    /// The nodes whose maps are concatenated to make the output.
    pub output: Vec<usize>,
    /// Whether every cell has logits of its own.
    pub per_cell: bool,
    /// What fits the inputs to the cell's width, if anything does.
    pub preprocess: Option<Preprocess>,
    pub(crate) at: At,
}

/// What fits an input to its cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocess {
    /// For an input that only has another width.
    pub same: OpSpec,
    /// For one that is larger, because a reduction lies between.
    pub reduce: OpSpec,
}

/// An edge of a cell kind.
#[derive(Clone, Debug, PartialEq)]
pub struct KindEdge {
    /// Source node.
    pub from: usize,
    /// Target node, above `from`.
    pub to: usize,
    /// What may stand on it, in the order of the logits' columns.
    pub candidates: Vec<OpSpec>,
    pub(crate) places: Vec<At>,
}

/// The macro skeleton.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Skeleton {
    pub(crate) at: At,
    pub(crate) channels: usize,
    pub(crate) round_to: usize,
    pub(crate) cells: Option<usize>,
    pub(crate) train_channels: Option<usize>,
    pub(crate) train_cells: Option<usize>,
    pub(crate) stem: Option<Stem>,
    pub(crate) stages: Vec<Stage>,
    pub(crate) head: HeadPlan,
    pub(crate) auxiliary: Option<AuxiliaryPlan>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stem {
    pub(crate) block: Placed,
    pub(crate) width: Width,
    pub(crate) stride: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stage {
    pub(crate) cell: Option<usize>,
    pub(crate) repeats: usize,
    pub(crate) width: Width,
    pub(crate) entry: Entry,
    pub(crate) stride: usize,
    pub(crate) at: At,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    None,
    Cell(usize),
    Block(Placed),
}

/// How wide something is, given what comes before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Width {
    Channels(usize),
    Times(f64),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HeadPlan {
    pub(crate) block: Option<Placed>,
    pub(crate) channels: Option<usize>,
    pub(crate) dropout: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AuxiliaryPlan {
    pub(crate) block: Placed,
    pub(crate) stage: usize,
    pub(crate) weight: f64,
}

/// An operation and the place where it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Placed {
    pub(crate) op: OpSpec,
    pub(crate) at: At,
}

impl Space {
    /// The text as written.
    #[must_use]
    pub fn yaml(&self) -> &str {
        &self.yaml
    }

    /// The name, which genotypes of the space carry.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Spatial axes of the data it is for.
    #[must_use]
    pub fn rank(&self) -> Rank {
        self.rank
    }

    /// Shape of one example, where the space fixes it.
    #[must_use]
    pub fn input(&self) -> Option<Shape> {
        self.input
    }

    /// Number of classes, where the space fixes it.
    #[must_use]
    pub fn classes(&self) -> Option<usize> {
        self.classes
    }

    /// The cell kinds, in the file's order.
    #[must_use]
    pub fn kinds(&self) -> &[CellKind] {
        &self.kinds
    }

    /// The derivation rule.
    #[must_use]
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The trainer's settings under `search:`, a mapping; opaque here.
    #[must_use]
    pub fn search_settings(&self) -> &serde_yaml::Value {
        &self.search
    }

    /// Norm and bias settings of `phase`.
    #[must_use]
    pub fn norm(&self, phase: Phase) -> Norm {
        match phase {
            Phase::Search => self.norms.0,
            Phase::Train => self.norms.1,
        }
    }

    /// A shape of data the space admits: the fixed one, or one of ordinary size (pictures 32×32×3).
    #[must_use]
    pub fn sample_input(&self) -> Shape {
        let extent = match self.rank {
            Rank::Flat => Extent::Flat,
            Rank::Series => Extent::Series { length: 64 },
            Rank::Image => Extent::Image { height: 32, width: 32 },
        };
        let pictures = self.rank == Rank::Image && self.skeleton.stem.is_some();
        let channels = if pictures { 3 } else { self.skeleton.channels };
        self.input.unwrap_or(Shape { extent, channels })
    }
}
