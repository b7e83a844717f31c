//! What can go wrong with a relaxed choice.

/// Why architecture parameters cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A logit is infinite or not a number: the search diverged there.
    #[error(
        "group `{group}`, edge {} → {}, candidate `{candidate}`: logit {value}; expected a finite number",
        edge.0, edge.1
    )]
    NotFinite {
        /// Name of the group of edges.
        group: String,
        /// The edge, `(from, to)`.
        edge: (usize, usize),
        /// The candidate's label.
        candidate: String,
        /// What was found.
        value: f64,
    },
    /// New logits of another shape, `(E, K)`.
    #[error("group `{group}`: logits of shape {found:?}; expected {expected:?}")]
    Shape {
        /// Name of the group of edges.
        group: String,
        /// The shape that was handed in.
        found: Vec<usize>,
        /// The group's `[E, K]`.
        expected: [usize; 2],
    },
    /// Gates that do not depend on the logits whose gradient is asked.
    #[error(
        "group `{group}`: gates of other logits; expected gates relaxed from this group since its last step"
    )]
    Stranger {
        /// Name of the group of edges.
        group: String,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
