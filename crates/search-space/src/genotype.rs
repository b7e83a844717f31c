//! The decision: which operation every edge of every cell kind got.

use serde::{Deserialize, Serialize};

/// A discrete architecture of a space, by labels; with its space it rebuilds a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genotype {
    /// Version of this format.
    pub version: u32,
    /// Name of the space.
    pub space: String,
    /// One entry per cell kind, or per cell where every cell chooses for itself, in the space's order.
    pub cells: Vec<CellGenotype>,
}

/// The choices of one cell kind, or of one cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellGenotype {
    /// Name of the cell kind.
    pub kind: String,
    /// The cell's index among the network's cells, where every cell chooses for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cell: Option<usize>,
    /// The edges that are kept, by target node, then source node. `none` is a legal choice under per-edge argmax.
    pub edges: Vec<Chosen>,
    /// The nodes that make the cell's output.
    pub output: Vec<usize>,
}

/// One edge's choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// Source node.
    pub from: usize,
    /// Target node.
    pub to: usize,
    /// Label of the operation: `sep_conv_3x3`.
    pub op: String,
}
