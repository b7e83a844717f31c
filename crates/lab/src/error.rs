//! What can go wrong in the laboratory.

use controller::{NotATemperature, estimators::UnknownEstimator};

/// Why an experiment cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that makes no experiment.
    #[error("{what}: found {found}; expected {accepted}")]
    Setting {
        /// What was set.
        what: &'static str,
        /// To what.
        found: String,
        /// What would be accepted.
        accepted: &'static str,
    },
    /// All candidates have the same loss: there is no gradient to stray from.
    #[error("every candidate has the same expected loss; expected losses that differ")]
    Flat,
    /// A name that belongs to no estimator.
    #[error(transparent)]
    Estimator(#[from] UnknownEstimator),
    /// A number that is no temperature.
    #[error(transparent)]
    Tau(#[from] NotATemperature),
    /// A picture cannot be drawn.
    #[error("cannot draw: {0}")]
    Plot(String),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
