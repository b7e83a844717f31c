//! The seam of the bridge: how a gradient crosses a discrete choice.

use candle_core::{Result, Tensor};
use rand_chacha::ChaCha8Rng;

use crate::{Demand, Gates};

/// How logits become gates, and what the network must answer so that gradients return.
///
/// The network runs the gates' [`crate::Paths`]; in an architecture step it answers each edge's [`Demand`] with
/// `∂L/∂gates`, an `(E, K)` matrix, which candle's autograd pulls back through [`Gates::weights`] to the logits and the
/// temperature. An estimator that asks for losses gets a matrix filled with its own [`Estimator::credit`] instead: its
/// gates' sum must have the derivative of `ln P(sample)`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no estimator",
    note = "implement `Estimator`, or use one of `controller::estimators`"
)]
pub trait Estimator: std::fmt::Debug + Send + Sync {
    /// What an architecture step must compute on every edge.
    fn demand(&self) -> Demand;

    /// Relaxes one group's choices: `logits` is `(E, K)`, `tau` a scalar or a column `(E, 1)` (a tensor, so that it may
    /// be learned); all noise comes from `rng`.
    ///
    /// # Errors
    /// candle's.
    fn relax(&self, logits: &Tensor, tau: &Tensor, rng: &mut ChaCha8Rng) -> Result<Gates>;

    /// For [`Demand::Losses`]: the weight of every sample's score from all samples' losses. By default each loss minus
    /// the mean of the others, over the number of samples (leave-one-out baseline).
    fn credit(&self, losses: &[f64]) -> Vec<f64> {
        let n = losses.len() as f64;
        let total: f64 = losses.iter().sum();
        losses.iter().map(|loss| (loss - (total - loss) / (n - 1.0).max(1.0)) / n).collect()
    }
}
