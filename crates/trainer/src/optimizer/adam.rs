//! Adam, for the logits.

use candle_core::Tensor;
use controller::{ArchParams, Error};
use ops::kernels::update::{self, AdamStep};

use crate::config::ArchConfig;

/// Adam (Kingma & Ba, 2015) with weight decay in the gradient, one pair of moments per group of logits.
///
/// DARTS and GDAS use it with β₁ = 0.5: the logits' gradient changes its meaning as the weights learn.
/// Weight decay pulls logits towards 0, that is, probabilities towards uniform.
#[derive(Clone, Debug)]
pub struct Adam {
    settings: ArchConfig,
    steps: u64,
    moments: Vec<Moments>,
}

/// Running means of a group's gradient and of its square, each `(E, K)`.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Of the gradient.
    pub first: Tensor,
    /// Of its square.
    pub second: Tensor,
}

impl Adam {
    /// An optimizer of all groups of `arch`, at rest.
    ///
    /// # Errors
    /// candle's, when the moments cannot be allocated.
    pub fn new(settings: ArchConfig, arch: &ArchParams) -> candle_core::Result<Self> {
        Self::of(settings, (0..arch.len()).map(|group| arch.logits(group)))
    }

    /// An optimizer of these values, at rest.
    ///
    /// # Errors
    /// candle's, when the moments cannot be allocated.
    pub fn of<'t>(
        settings: ArchConfig,
        values: impl IntoIterator<Item = &'t Tensor>,
    ) -> candle_core::Result<Self> {
        let zeros = |value: &Tensor| {
            let zeros = value.detach().zeros_like()?;
            Ok(Moments { first: zeros.clone(), second: zeros })
        };
        let moments = values.into_iter().map(zeros).collect::<candle_core::Result<_>>()?;
        Ok(Self { settings, steps: 0, moments })
    }

    /// Moves all logits; `gradients` has one `(E, K)` matrix per group, `weight_decay` is its present value.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn step(
        &mut self,
        arch: &mut ArchParams,
        gradients: &[Tensor],
        weight_decay: f64,
    ) -> Result<(), Error> {
        let logits: Vec<Tensor> = (0..arch.len()).map(|group| arch.logits(group).detach()).collect();
        let moved = self.moved(&logits, gradients, weight_decay)?;
        moved.iter().enumerate().try_for_each(|(group, logits)| arch.set_logits(group, logits))
    }

    /// `values` after a step along their `gradients`, each of its value's shape.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn moved(
        &mut self,
        values: &[Tensor],
        gradients: &[Tensor],
        weight_decay: f64,
    ) -> candle_core::Result<Vec<Tensor>> {
        self.steps += 1;
        let ArchConfig { lr, beta1, beta2, eps, .. } = self.settings;
        let step = AdamStep { lr, beta1, beta2, eps, weight_decay, step: self.steps };
        let move_one = |((value, gradient), moments): ((&Tensor, &Tensor), &mut Moments)| {
            let (value, first, second) =
                update::adam(value, gradient, &moments.first, &moments.second, step)?;
            *moments = Moments { first, second };
            Ok(value)
        };
        values.iter().zip(gradients).zip(&mut self.moments).map(move_one).collect()
    }

    /// Steps made so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The moments of every group.
    #[must_use]
    pub fn moments(&self) -> &[Moments] {
        &self.moments
    }

    /// Puts a saved state back; `moments` has one entry per group.
    pub fn restore(&mut self, steps: u64, moments: Vec<Moments>) {
        (self.steps, self.moments) = (steps, moments);
    }
}
