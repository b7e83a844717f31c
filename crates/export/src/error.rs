//! What can go wrong on the way out.

/// Why a genotype was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The genotype cannot be said in this notation.
    #[error(transparent)]
    Genotype(#[from] search_space::GenotypeError),
    /// An edge to a node that is not later than its source.
    #[error("cell `{kind}`: edge {from} → {to} runs backward; a node may read only earlier nodes")]
    Backward {
        /// Name of the cell kind.
        kind: String,
        /// Source node.
        from: usize,
        /// Target node.
        to: usize,
    },
    /// More edges than a picture can show.
    #[error("cell `{kind}`: {edges} edges; at most {most} can be drawn")]
    TooLarge {
        /// Name of the cell kind.
        kind: String,
        /// Edges, those to the output included.
        edges: usize,
        /// The limit.
        most: usize,
    },
    /// A file of weights was asked for where there are none.
    #[error("no weights; expected a trained network")]
    NoWeights,
    /// An operation of the network runs in strait only.
    #[error("{0}; expected a network without it, or safetensors, which strait itself runs")]
    Untold(String),
    /// A tensor that the network computes with is not among its values.
    #[error("tensor `{0}`: missing; expected every value of the network")]
    Missing(String),
    /// Two tensors of one name.
    #[error("tensor `{0}`: named twice; names must differ")]
    Twice(String),
    /// A tensor whose type files of weights do not hold.
    #[error("tensor `{name}`: {found:?}; expected F32 or F64")]
    Type {
        /// The tensor's name.
        name: String,
        /// Its type.
        found: candle_core::DType,
    },
    /// A tensor could not be read.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A file of weights whose header is not what we write.
    #[error("header: {0}; expected that of a network written by strait")]
    Header(String),
    /// The space in a header is faulty.
    #[error(transparent)]
    Space(#[from] search_space::SpaceErrors),
    /// The space in a header does not fit its data.
    #[error(transparent)]
    Layout(#[from] search_space::LayoutError),
    /// The network of a header could not be built.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// A file of tensors could not be read or made.
    #[error(transparent)]
    Container(#[from] ::safetensors::SafeTensorError),
    /// A drawing could not be made into pixels.
    #[error("drawing: {0}")]
    Drawing(String),
    /// The writer failed.
    #[error(transparent)]
    Write(#[from] std::io::Error),
}

impl Error {
    /// What a library says of a drawing.
    pub(crate) fn drawing(error: impl std::fmt::Display) -> Self {
        Self::Drawing(error.to_string())
    }
}
