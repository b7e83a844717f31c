//! Zero mean and unit deviation, channel by channel.

use serde::{Deserialize, Serialize};

use crate::{Dataset, Part};

/// `x ← (x − mean) / deviation`, per channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalize {
    /// One per channel, in the units of [`Dataset::read`].
    pub mean: Vec<f32>,
    /// One per channel, above zero; 1 where a channel is constant.
    pub deviation: Vec<f32>,
}

impl Normalize {
    /// Mean and population deviation of the training part, accumulated in `f64`; reads it once.
    ///
    /// Sums are taken relative to the first pixel, so that a constant channel has a deviation of exactly
    /// zero (and gets 1), and large offsets cost no digits.
    #[must_use]
    pub fn of(dataset: &dyn Dataset) -> Self {
        let shape = dataset.info().shape;
        let mut values = vec![0.0f32; shape.elements()];
        let mut sums = vec![(0.0f64, 0.0f64); shape.channels]; // Σ(x − origin), Σ(x − origin)²
        let mut origin = Vec::new();
        for index in 0..dataset.len(Part::Train) {
            dataset.read(Part::Train, index, &mut values);
            if index == 0 {
                origin.extend_from_slice(&values[..shape.channels]);
            }
            for pixel in values.chunks_exact(shape.channels) {
                for ((sum, value), origin) in sums.iter_mut().zip(pixel).zip(&origin) {
                    let shifted = f64::from(*value) - f64::from(*origin);
                    sum.0 += shifted;
                    sum.1 += shifted * shifted;
                }
            }
        }
        let n = (dataset.len(Part::Train) * shape.extent.pixels()) as f64;
        let moments = sums.iter().zip(&origin).map(|(&(first, second), &origin)| {
            let shift = first / n;
            let deviation = (second / n - shift * shift).max(0.0).sqrt() as f32;
            ((f64::from(origin) + shift) as f32, if deviation > 0.0 { deviation } else { 1.0 })
        });
        let (mean, deviation) = moments.unzip();
        Self { mean, deviation }
    }

    /// Normalizes one example, channels last.
    pub fn apply(&self, example: &mut [f32]) {
        for pixel in example.chunks_exact_mut(self.mean.len().max(1)) {
            for ((value, mean), deviation) in pixel.iter_mut().zip(&self.mean).zip(&self.deviation) {
                *value = (*value - mean) / deviation;
            }
        }
    }
}
