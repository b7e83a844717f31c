//! The estimators, one file each, and their names.

mod darts;
mod gdas;
mod gumbel_soft;
mod gumbel_st;
mod sample;
#[cfg(test)]
mod tests;

pub use darts::Darts;
pub use gdas::Gdas;
pub use gumbel_soft::GumbelSoft;
pub use gumbel_st::GumbelSt;

pub(crate) use sample::argmax;

use crate::Estimator;

/// The names that [`by_name`] knows, the default first.
pub const NAMES: [&str; 4] = ["gumbel-st", "gdas", "gumbel-soft", "darts"];

/// A name that belongs to no estimator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown estimator `{name}`; {}", accepted(*.suggestion))]
pub struct UnknownEstimator {
    /// What was asked for.
    pub name: String,
    /// The nearest name, if one is near.
    pub suggestion: Option<&'static str>,
}

/// Makes the estimator of this name.
///
/// # Errors
/// `name` is not among [`NAMES`]; the error suggests a near one.
///
/// ```
/// use strait_controller::{Demand, estimators};
///
/// assert_eq!(estimators::by_name("gdas")?.demand(), Demand::Chosen);
/// let error = estimators::by_name("gumbel_st").unwrap_err();
/// assert_eq!(error.to_string(), "unknown estimator `gumbel_st`; did you mean `gumbel-st`?");
/// # Ok::<(), estimators::UnknownEstimator>(())
/// ```
pub fn by_name(name: &str) -> Result<Box<dyn Estimator>, UnknownEstimator> {
    Ok(match name {
        "gumbel-st" => Box::new(GumbelSt),
        "gdas" => Box::new(Gdas),
        "gumbel-soft" => Box::new(GumbelSoft),
        "darts" => Box::new(Darts),
        _ => return Err(UnknownEstimator::new(name)),
    })
}

/// Says in half a sentence what the estimator of this name does, for listings.
///
/// # Errors
/// As [`by_name`].
pub fn summary(name: &str) -> Result<&'static str, UnknownEstimator> {
    Ok(match name {
        "gumbel-st" => "one sampled candidate runs; every candidate's output is weighed in the gradient",
        "gdas" => "one sampled candidate runs and is weighed; the cheapest step, and a biased one",
        "gumbel-soft" => "all candidates run, mixed by a soft sample",
        "darts" => "all candidates run, mixed by their probabilities, without noise",
        _ => return Err(UnknownEstimator::new(name)),
    })
}

impl UnknownEstimator {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), suggestion: search_space::nearest(&name.to_lowercase(), NAMES) }
    }
}

fn accepted(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(
        || format!("expected one of {}", NAMES.join(", ")),
        |near| format!("did you mean `{near}`?"),
    )
}
