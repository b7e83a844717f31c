//! Chance as a function: of the run's seed, of what the numbers are for, and of the step.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The seed of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seed(pub u64);

/// What random numbers are for. A new use gets a new number and disturbs no old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Stream {
    /// Initial weights.
    Weights = 0,
    /// Initial logits.
    Logits = 1,
    /// Order and augmentation of the batches of weight steps.
    WeightBatches = 2,
    /// Order and augmentation of the batches of architecture steps.
    ArchitectureBatches = 3,
    /// Noise of the relaxation in weight steps.
    WeightNoise = 4,
    /// Noise of the relaxation in architecture steps.
    ArchitectureNoise = 5,
    /// Operations that draw (noise, dropout, drop path) in weight steps.
    WeightPass = 6,
    /// Operations that draw in architecture steps.
    ArchitecturePass = 7,
    /// Architectures drawn by an evaluation.
    Evaluation = 8,
    /// Architectures drawn by a derivation.
    Derivation = 9,
    /// Which examples go to the weights.
    Split = 10,
    /// Mixtures of training examples.
    Mix = 11,
    /// What is measured of the architecture's gradient.
    Watch = 12,
    /// Initial logits of the edges' strengths.
    EdgeLogits = 13,
}

impl Seed {
    /// The generator of `stream` at `step`; asked twice, it draws the same numbers.
    ///
    /// Nothing about chance is checkpointed, and a new use of it (a new stream) disturbs no old one.
    ///
    /// ```
    /// use rand::RngCore;
    /// use strait_trainer::{Seed, Stream};
    ///
    /// let draw = |step| Seed(7).rng(Stream::WeightNoise, step).next_u64();
    /// assert_eq!(draw(3), draw(3));
    /// assert_ne!(draw(3), draw(4));
    /// ```
    #[must_use]
    pub fn rng(self, stream: Stream, step: u64) -> ChaCha8Rng {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.0.to_le_bytes());
        key[8..16].copy_from_slice(&(stream as u64).to_le_bytes());
        key[16..24].copy_from_slice(&step.to_le_bytes());
        ChaCha8Rng::from_seed(key)
    }

    /// A seed for those who count steps themselves: `data`'s batches, `ops`' draws.
    #[must_use]
    pub fn of(self, stream: Stream) -> u64 {
        self.rng(stream, u64::MAX).next_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_seeds_do_not_share_numbers() {
        let first = |seed, stream| Seed(seed).rng(stream, 0).next_u64();
        assert_ne!(first(0, Stream::Weights), first(0, Stream::Logits));
        assert_ne!(first(0, Stream::Weights), first(1, Stream::Weights));
        assert_ne!(Seed(0).of(Stream::WeightBatches), Seed(0).of(Stream::ArchitectureBatches));
    }
}
