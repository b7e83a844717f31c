//! REINFORCE: no derivative of the loss at all.

use std::num::NonZeroUsize;

use candle_core::{Result, Tensor};
use rand_chacha::ChaCha8Rng;

use super::sample::{differential, draw, one_hot};
use crate::{Demand, Estimator, Gates, categorical};

/// REINFORCE with a leave-one-out baseline: unbiased, at any loss, from losses alone.
///
/// ```text
/// k⁽ˢ⁾ ~ softmax(α),   s = 1 … S
/// ∂L/∂α ≈ (1/S)·Σ_s (L_s − mean of the other L) · ∂ ln π(k⁽ˢ⁾)/∂α
///
/// gate = one_hot(k)·(1 + ln π − stop_gradient(ln π))     so that the derivative of the gates' sum is ∂ ln π(k)
/// ```
///
/// A gradient costs `S` forwards of one path and no backward ([`Demand::Losses`]). Its variance grows with the number of
/// edges and does not fall with `τ`, which takes no part (`∂L/∂τ` is 0); the mean of many is a yardstick for bias. A
/// single sample has no others to compare with and goes without baseline.
///
/// # References
/// - Williams, *Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning*, 1992
/// - Kool, van Hoof & Welling, *Buy 4 REINFORCE Samples, Get a Baseline for Free!*, 2019, for the baseline,
///   <https://openreview.net/forum?id=r1lgTGL5DE>
#[derive(Clone, Copy, Debug)]
pub struct Reinforce {
    /// `S`, the samples of a gradient.
    pub samples: NonZeroUsize,
}

impl Reinforce {
    /// Samples of a gradient where nobody says otherwise (Kool et al., 2019).
    pub const SAMPLES: NonZeroUsize = NonZeroUsize::new(4).expect("4 is not 0");
}

impl Default for Reinforce {
    fn default() -> Self {
        Self { samples: Self::SAMPLES }
    }
}

impl Estimator for Reinforce {
    fn demand(&self) -> Demand {
        Demand::Losses(self.samples.get())
    }

    fn relax(&self, logits: &Tensor, _tau: &Tensor, rng: &mut ChaCha8Rng) -> Result<Gates> {
        let chosen = draw(logits, rng)?;
        let hard = one_hot(&chosen, logits.dim(1)?, logits.device())?;
        let score = differential(&categorical::log_softmax(&logits.to_dtype(hard.dtype())?)?)?; // (E, K)
        Ok(Gates::single((hard * (score + 1.0)?)?.to_dtype(logits.dtype())?, chosen))
    }
}
