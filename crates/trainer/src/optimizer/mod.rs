//! How gradients become steps; state that is saved and restored.

mod adam;
mod sgd;
#[cfg(test)]
mod tests;

pub use adam::{Adam, Moments};
pub use sgd::{NotFinite, Sgd};
