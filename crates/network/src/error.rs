//! What goes wrong when a network is built or run.

use std::fmt;

/// Why a network cannot be built or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation cannot be built where the layout puts it.
    #[error("{place}: cannot be built")]
    Build {
        /// Where it should stand.
        place: Place,
        /// The catalog's reason.
        source: Box<ops::Error>,
    },
    /// The number of relaxed groups is not that of the layout.
    #[error("{found} groups of gates; the layout has {expected}")]
    Groups {
        /// Groups handed in.
        found: usize,
        /// Groups of the layout.
        expected: usize,
    },
    /// A child layout still has an edge with several candidates.
    #[error("{place}: {candidates} candidates; a derived network has one an edge")]
    NotDerived {
        /// The edge.
        place: Place,
        /// How many candidates are left.
        candidates: usize,
    },
    /// A trace of an evaluation was walked back.
    #[error("nothing was kept for a backward pass; run the forward with another purpose")]
    NothingKept,
    /// An operation's output is not finite.
    #[error("{0}: the output is not finite")]
    NotFinite(Place),
    /// An operation that can be run here only was to be told of.
    #[error(
        "{0}: no other program can be told what it computes; `noise` draws anew in every pass, and an operation of one's own needs `Op::sketch`"
    )]
    NotToldOf(Place),
    /// A weight that a child was to inherit is of another shape in its supernet.
    #[error(
        "weight `{name}`: {found:?} in the supernet, {expected:?} in the child; a child inherits at the width of its search"
    )]
    Inherited {
        /// The weight's name.
        name: String,
        /// Its dimensions in the parent.
        found: Vec<usize>,
        /// Its dimensions in the child.
        expected: Vec<usize>,
    },
    /// A child with its supernet's partial channels or edge normalization was to be told of.
    #[error(
        "{0}: has partial channels or a strength of its own; expected a child that was trained from scratch"
    )]
    OfASupernet(Place),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Where in a network something happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first operation.
    Stem,
    /// A fixed block, by its index among the blocks.
    Block(usize),
    /// The preprocessing of one input of a cell.
    Input {
        /// The cell's index and kind.
        cell: (usize, String),
        /// The input's index.
        input: usize,
    },
    /// One operation of an edge.
    Edge {
        /// The cell's index and kind.
        cell: (usize, String),
        /// Source node.
        from: usize,
        /// Target node.
        to: usize,
        /// The candidate's label.
        op: String,
    },
    /// The classifier.
    Head,
    /// The auxiliary classifier.
    Auxiliary,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stem => f.write_str("stem"),
            Self::Block(index) => write!(f, "block {index}"),
            Self::Input { cell: (index, kind), input } => write!(f, "cell {index} ({kind}), input {input}"),
            Self::Edge { cell: (index, kind), from, to, op } => {
                write!(f, "cell {index} ({kind}), edge {from}→{to}, {op}")
            }
            Self::Head => f.write_str("head"),
            Self::Auxiliary => f.write_str("auxiliary head"),
        }
    }
}
