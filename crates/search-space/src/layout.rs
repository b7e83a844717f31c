//! A space laid out for one shape of data: every block, edge and site, in the order in which a network runs them.
//!
//! `Space::layout` makes it; `network` builds a supernet from it, or, with a genotype, one child.

use crate::{OpSpec, Shape, Site};

/// What a layout is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayoutRequest {
    /// Shape of one example of the data; a space that fixes its input refuses another.
    pub input: Shape,
    /// Number of classes, at least 2.
    pub classes: usize,
    /// Search (the supernet's settings of norm and bias) or training (the child's).
    pub phase: Phase,
    /// Channels of the first stage; `None` takes the space's.
    pub channels: Option<usize>,
    /// Cells per stage where a space has stages, in all where it counts so; `None` takes the space's.
    pub cells: Option<usize>,
}

/// Which settings of norm and bias a network is built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The supernet.
    Search,
    /// A derived network, trained from scratch.
    Train,
}

/// A network's plan: shapes agree at every edge and at every stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// Name of the space.
    pub space: String,
    /// Shape of one example.
    pub input: Shape,
    /// Size of the logits.
    pub classes: usize,
    /// The first operation, on the data; `None`: the cells read the data themselves.
    pub stem: Option<(OpSpec, Site)>,
    /// Cells and fixed blocks in order.
    pub blocks: Vec<Block>,
    /// From the last map to the logits.
    pub head: Head,
    /// A second head that helps training (DARTS); only in [`Phase::Train`].
    pub auxiliary: Option<Auxiliary>,
    /// Every group of edges that share a logit matrix.
    pub groups: Vec<ChoiceGroup>,
}

/// One step of the macro skeleton. A block's input is the previous block's output (the stem's for the first).
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// A cell with its choices.
    Cell(Cell),
    /// A fixed operation between stages, for example a residual block of stride 2.
    Fixed {
        /// The operation.
        op: OpSpec,
        /// Where it stands.
        site: Site,
    },
}

/// One cell of the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Index of the cell kind in the space.
    pub kind: usize,
    /// Name of the cell kind.
    pub name: String,
    /// Index among the network's cells, from 0.
    pub index: usize,
    /// One entry per input. Two inputs: first the output of the block before the previous one, then that of the
    /// previous one (the stem stands in for what does not exist). One input: the output of the previous block.
    pub inputs: Vec<CellInput>,
    /// Edges by target node, then source node. Nodes `0..inputs` are the inputs, then come the intermediate ones.
    pub edges: Vec<Edge>,
    /// Intermediate nodes.
    pub nodes: usize,
    /// The nodes whose maps are concatenated along the channels to make the cell's output; one node: that map.
    pub output: Vec<usize>,
    /// The cell's output shape.
    pub shape: Shape,
    /// Whether the cell halves the extent.
    pub reduction: bool,
}

/// One input of a cell.
#[derive(Clone, Debug, PartialEq)]
pub struct CellInput {
    /// Which output feeds it: 1 for the previous block, 2 for the one before.
    pub back: usize,
    /// What is applied first, if anything (DARTS: a 1×1 convolution, or a factorized reduce after a reduction).
    pub preprocess: Option<(OpSpec, Site)>,
    /// Shape after preprocessing.
    pub shape: Shape,
}

/// One edge of a cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Edge {
    /// Source node.
    pub from: usize,
    /// Target node, above `from`.
    pub to: usize,
    /// Where its operation stands: with partial channels, on the first of `partial` equal parts of the edge's channels.
    pub site: Site,
    /// Into how many parts the edge's channels are cut, of which one goes through the operation; 1: all do
    /// ([`Layout::partial`]).
    pub partial: usize,
    /// How strongly the edge counts at its node: 1, but for a child that keeps its supernet's edge normalization
    /// ([`Layout::with_strengths`]).
    pub strength: f64,
    /// The candidates, in the order of the logits' columns.
    pub candidates: Vec<OpSpec>,
    /// Index into [`Layout::groups`]; 0 in a child, which has none.
    pub group: usize,
    /// Row of the group's logit matrix; 0 in a child.
    pub row: usize,
}

/// Edges that share one `(E, K)` logit matrix: the same candidates, and the same cell kind or the same cell.
#[derive(Clone, Debug, PartialEq)]
pub struct ChoiceGroup {
    /// Unique and stable: `normal`, `normal.1` for the second candidate list of a kind, `layer@3` for one cell.
    pub name: String,
    /// The cell kind's name.
    pub kind: String,
    /// The cell's index where every cell has logits of its own.
    pub cell: Option<usize>,
    /// Labels of the candidates, K of them.
    pub candidates: Vec<OpSpec>,
    /// `(from, to)` of each row, E of them.
    pub edges: Vec<(usize, usize)>,
}

/// From the last map to the logits: `[batch norm, ReLU] or [convolution], global average pool, [dropout], linear`.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Shape of the last block's output.
    pub input: Shape,
    /// A fixed operation in front of the pool (`norm_relu`, or `conv_norm` as in mobile networks).
    pub before_pool: Option<(OpSpec, Site)>,
    /// Probability of dropping a pooled feature in training, in [0, 1).
    pub dropout: f64,
    /// Features that enter the linear layer.
    pub features: usize,
}

/// DARTS's auxiliary head, read from the output of one block.
#[derive(Clone, Debug, PartialEq)]
pub struct Auxiliary {
    /// The block whose output it reads.
    pub after: usize,
    /// The operation (`auxiliary_head`) and its site: input the block's shape, `c_out` the classes, flat output.
    pub op: OpSpec,
    /// Where it stands.
    pub site: Site,
    /// Weight of its loss.
    pub weight: f64,
}
