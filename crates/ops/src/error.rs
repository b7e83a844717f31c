//! Why an operation could not be built.

use search_space::WordError;

/// Why an operation could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The word, its parameters or its site are refused.
    #[error(transparent)]
    Word(#[from] WordError),
    /// The weights could not be made.
    #[error("`{label}`: its weights could not be made")]
    Weights {
        /// The operation's label.
        label: String,
        /// candle's reason.
        source: candle_core::Error,
    },
}
