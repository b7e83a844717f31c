//! How a choice is relaxed.

mod estimator;
mod gates;
mod tau;

pub use estimator::Estimator;
pub use gates::{Demand, Gates, Paths};
pub use tau::{NotATemperature, Tau};
