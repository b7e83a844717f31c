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
        let zeros = |group| {
            let zeros = arch.logits(group).detach().zeros_like()?;
            Ok(Moments { first: zeros.clone(), second: zeros })
        };
        Ok(Self {
            settings,
            steps: 0,
            moments: (0..arch.len()).map(zeros).collect::<candle_core::Result<_>>()?,
        })
    }

    /// Moves all logits; `gradients` has one `(E, K)` matrix per group.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn step(&mut self, arch: &mut ArchParams, gradients: &[Tensor]) -> Result<(), Error> {
        self.steps += 1;
        let ArchConfig { lr, beta1, beta2, eps, weight_decay, .. } = self.settings;
        let step = AdamStep { lr, beta1, beta2, eps, weight_decay, step: self.steps };
        for (group, (gradient, moments)) in gradients.iter().zip(&mut self.moments).enumerate() {
            let logits = arch.logits(group).detach();
            let (logits, first, second) =
                update::adam(&logits, gradient, &moments.first, &moments.second, step)?;
            *moments = Moments { first, second };
            arch.set_logits(group, &logits)?;
        }
        Ok(())
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
