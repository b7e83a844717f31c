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

#[cfg(test)]
mod tests {
    use search_space::{Extent, Shape};

    use super::*;
    use crate::{Error, Examples, InMemory, Values};

    fn series(train: Vec<f32>, test: Vec<f32>) -> Result<InMemory, Error> {
        let shape = Shape { extent: Extent::Series { length: 2 }, channels: 2 };
        let part =
            |values: Vec<f32>| Examples { labels: vec![0; values.len() / 4], values: Values::Floats(values) };
        InMemory::new("series", shape, vec!["only".into()], part(train), part(test))
    }

    #[test]
    fn moments_are_those_of_each_channel_of_the_training_part() -> Result<(), Error> {
        let data = series(vec![1.0, 7.0, 2.0, 7.0, 3.0, 7.0, 6.0, 7.0], vec![100.0; 4])?;
        let normalize = Normalize::of(&data);
        assert_eq!(normalize.mean, [3.0, 7.0]);
        assert_eq!(normalize.deviation, [3.5f32.sqrt(), 1.0]); // (4 + 1 + 0 + 9) / 4; a constant gets 1
        Ok(())
    }

    #[test]
    fn a_large_offset_costs_no_digits() -> Result<(), Error> {
        let data = series(vec![1e6, 1e7, 1e6 + 1.0, 1e7, 1e6, 1e7, 1e6 + 1.0, 1e7], vec![])?;
        assert_eq!(Normalize::of(&data).deviation, [0.5, 1.0]);
        Ok(())
    }

    #[test]
    fn applying_subtracts_and_divides_channel_by_channel() {
        let mut example = [1.0, 2.0, 3.0, 4.0];
        Normalize { mean: vec![1.0, 2.0], deviation: vec![2.0, 0.5] }.apply(&mut example);
        assert_eq!(example, [0.0, 0.0, 1.0, 4.0]);
    }
}
