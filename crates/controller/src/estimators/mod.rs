//! The estimators, one file each, and their names.

mod darts;
mod drnas;
mod exact;
mod gdas;
mod gumbel_rao;
mod gumbel_soft;
mod gumbel_st;
mod proxyless;
mod reinforce;
mod reinmax;
mod sample;
mod snas;
mod st;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;

pub use darts::Darts;
pub use drnas::Drnas;
pub use exact::Exact;
pub use gdas::Gdas;
pub use gumbel_rao::GumbelRao;
pub use gumbel_soft::GumbelSoft;
pub use gumbel_st::GumbelSt;
pub use proxyless::Proxyless;
pub use reinforce::Reinforce;
pub use reinmax::ReinMax;
pub use snas::Snas;
pub use st::St;

pub(crate) use sample::argmax;

use crate::Estimator;

/// The names that [`by_name`] knows, the default first.
pub const NAMES: [&str; 12] = [
    "gumbel-st",
    "gdas",
    "gumbel-soft",
    "darts",
    "st",
    "gumbel-rao",
    "reinmax",
    "drnas",
    "snas",
    "proxyless",
    "reinforce",
    "exact",
];

/// A name that belongs to no estimator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown estimator `{name}`; {}", self.advice())]
pub struct UnknownEstimator {
    /// What was asked for.
    pub name: String,
    /// The nearest name, if one is near.
    pub suggestion: Option<&'static str>,
}

/// Makes the estimator of this name. Three take a number behind a colon: `gumbel-rao:100` and `reinforce:16` say how many
/// draws make a gradient, `exact:1000` up to how many architectures are enumerated as a whole.
///
/// # Errors
/// `name` is not among [`NAMES`], or its number is none; the error suggests a near one.
///
/// ```
/// use strait_controller::{Demand, estimators};
///
/// assert_eq!(estimators::by_name("gdas")?.demand(), Demand::Chosen);
/// assert_eq!(estimators::by_name("reinforce:16")?.demand(), Demand::Losses(16));
/// let error = estimators::by_name("gumbel_st").unwrap_err();
/// assert_eq!(error.to_string(), "unknown estimator `gumbel_st`; did you mean `gumbel-st`?");
/// # Ok::<(), estimators::UnknownEstimator>(())
/// ```
pub fn by_name(name: &str) -> Result<Box<dyn Estimator>, UnknownEstimator> {
    let unknown = || UnknownEstimator::new(name);
    let (word, number) = match name.split_once(':') {
        None => (name, None),
        Some((word, number)) => (word, Some(number.parse::<NonZeroUsize>().map_err(|_| unknown())?)),
    };
    Ok(match (word, number) {
        ("gumbel-rao", draws) => Box::new(GumbelRao { draws: draws.unwrap_or(GumbelRao::DRAWS) }),
        ("reinforce", samples) => Box::new(Reinforce { samples: samples.unwrap_or(Reinforce::SAMPLES) }),
        ("exact", limit) => Box::new(Exact { limit: limit.map_or(Exact::LIMIT, NonZeroUsize::get) }),
        ("gumbel-st", None) => Box::new(GumbelSt),
        ("gdas", None) => Box::new(Gdas),
        ("gumbel-soft", None) => Box::new(GumbelSoft),
        ("darts", None) => Box::new(Darts),
        ("st", None) => Box::new(St),
        ("reinmax", None) => Box::new(ReinMax),
        ("drnas", None) => Box::new(Drnas),
        ("snas", None) => Box::new(Snas),
        ("proxyless", None) => Box::new(Proxyless),
        _ => return Err(unknown()),
    })
}

/// Says in half a sentence what the estimator of this name does, for listings.
///
/// # Errors
/// As [`by_name`].
pub fn summary(name: &str) -> Result<&'static str, UnknownEstimator> {
    Ok(match name.split(':').next().unwrap_or_default() {
        "gumbel-st" => "one sampled candidate runs; every candidate's output is weighed in the gradient",
        "gdas" => "one sampled candidate runs and is weighed; the cheapest step, and a biased one",
        "gumbel-soft" => "all candidates run, mixed by a soft sample",
        "darts" => "all candidates run, mixed by their probabilities, without noise",
        "st" => "as gumbel-st, with the derivative of the probabilities, without noise",
        "gumbel-rao" => {
            "as gumbel-st, its derivative averaged over 10 noises (gumbel-rao:N) that choose the same"
        }
        "reinmax" => "as st, of second order: exact for a quadratic loss at temperature 1",
        "drnas" => "all candidates run, mixed by a draw from a Dirichlet distribution",
        "snas" => "as gumbel-soft, with one loss for weights and choices",
        "proxyless" => "two sampled candidates are compared, one of them runs",
        "reinforce" => "losses of 4 samples (reinforce:N), no derivative; unbiased, and noisy",
        "exact" => "losses of all architectures up to 125 (exact:N), else of one edge after the other",
        _ => return Err(UnknownEstimator::new(name)),
    })
}

impl UnknownEstimator {
    fn new(name: &str) -> Self {
        let word = name.split(':').next().unwrap_or_default();
        Self { name: name.to_owned(), suggestion: search_space::nearest(&word.to_lowercase(), NAMES) }
    }

    fn advice(&self) -> String {
        match self.suggestion {
            Some(near) if self.name.starts_with(near) => {
                format!(
                    "expected `{near}`; gumbel-rao, reinforce and exact take a number above 0, as in `exact:125`"
                )
            }
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("expected one of {}", NAMES.join(", ")),
        }
    }
}
