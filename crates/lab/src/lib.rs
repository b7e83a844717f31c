//! How far the relaxations stray.
//!
//! A gradient through a discrete choice is a compromise: at a warm temperature it points elsewhere (bias), at a cold one it
//! shakes (variance). This crate measures the compromise where the truth is known: one choice among `K` candidates whose
//! loss is a function of the gates, so that `∂/∂α Σ_k π_k L(k)` has a closed form.
//!
//! The one design decision: **it runs the estimators that a search runs**, through the same trait and with the same answers,
//! and knows nothing of how they work. Where the gradients come from a network, its owner draws them, and [`Draws`] sums them up
//! as here. What theory expects ([`laws`]) stands beside what came out, never in its place.
//!
//! ```
//! use strait_lab::{Account, Curve, Experiment, Loss};
//!
//! let experiment = Experiment {
//!     logits: Experiment::LOGITS.to_vec(),
//!     loss: Loss::new(Curve::Quadratic, 4),
//!     estimators: vec!["gumbel-st".into(), "reinforce".into()],
//!     taus: Experiment::temperatures(0.1, 10.0, 5)?,
//!     draws: 1_000,
//!     seed: 0,
//! };
//! let account = Account::of(&experiment)?;
//! assert_eq!(account.points.len(), 10);
//! println!("{}", account.to_text());
//! # Ok::<(), strait_lab::Error>(())
//! ```

pub mod laws;
pub mod plot;

mod account;
mod error;
mod loss;
mod measure;
#[cfg(test)]
mod tests;

pub use account::Account;
pub use error::Error;
pub use loss::{Curve, Loss};
pub use measure::{Draws, Experiment, Point, Truth, gradients};
pub use plot::Quantity;
