//! Where weights come from: names by scope, values drawn on the host.

use std::fmt::Display;

use candle_core::{Device, Result, Shape, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::params::{ParamStore, RunningStats, StatId, WeightId};

/// Makes the weights of one operation in a [`ParamStore`], under a dotted name.
///
/// Initial values follow PyTorch's defaults: convolutions and linear layers `U(±1/√fan_in)`, weights and biases
/// alike; a batch norm's scale 1, its shift 0. They are drawn in `f64`, in the order of construction, and then cast:
/// the same seed gives the same network in either precision, and candle's generator, which the CPU cannot seed,
/// plays no part.
///
/// ```
/// use candle_core::{DType, Device};
/// use ops::{ParamBuilder, ParamStore};
/// use rand::SeedableRng;
/// use rand_chacha::ChaCha8Rng;
///
/// let mut store = ParamStore::new(DType::F32, &Device::Cpu);
/// let mut rng = ChaCha8Rng::seed_from_u64(0);
/// let mut params = ParamBuilder::new(&mut store, &mut rng);
/// params.scope("cells.0").scope("conv").uniform("weight", (3, 3, 16, 16), 144)?;
/// assert!(store.find("cells.0.conv.weight").is_some());
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug)]
pub struct ParamBuilder<'a> {
    store: &'a mut ParamStore,
    rng: &'a mut ChaCha8Rng,
    scope: String,
}

impl<'a> ParamBuilder<'a> {
    /// A builder at the root: its names have no prefix.
    pub fn new(store: &'a mut ParamStore, rng: &'a mut ChaCha8Rng) -> Self {
        Self { store, rng, scope: String::new() }
    }

    /// The same builder one scope further in; `name` may hold dots.
    pub fn scope(&mut self, name: impl Display) -> ParamBuilder<'_> {
        let scope = self.qualified(name);
        ParamBuilder { store: self.store, rng: self.rng, scope }
    }

    /// A weight of `shape` from `U(±1/√fan_in)`.
    ///
    /// # Errors
    /// The name is taken.
    pub fn uniform(&mut self, name: &str, shape: impl Into<Shape>, fan_in: usize) -> Result<WeightId> {
        let shape = shape.into();
        let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
        let draw = || bound * (2.0 * self.rng.random::<f64>() - 1.0);
        let values: Vec<f64> = std::iter::repeat_with(draw).take(shape.elem_count()).collect();
        self.push(name, Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    /// A weight of `shape` filled with `value`.
    ///
    /// # Errors
    /// The name is taken.
    pub fn constant(&mut self, name: &str, shape: impl Into<Shape>, value: f64) -> Result<WeightId> {
        self.push(name, Tensor::full(value, shape, &Device::Cpu)?)
    }

    /// Running statistics over `channels`, mean 0 and variance 1, named as this scope.
    ///
    /// # Errors
    /// The name is taken.
    pub fn running_stats(&mut self, channels: usize) -> Result<StatId> {
        if self.store.find_stats(&self.scope).is_some() {
            candle_core::bail!("two batch norms are named {}", self.scope);
        }
        let (dtype, device) = (self.store.dtype(), self.store.device().clone());
        let mean = Tensor::zeros(channels, dtype, &device)?;
        let var = Tensor::ones(channels, dtype, &device)?;
        Ok(self.store.push_stats(self.scope.clone(), RunningStats { mean, var }))
    }

    /// The key of the random numbers of the operation built in this scope: a hash (FNV-1a) of its name, so that
    /// another operation more or less disturbs nobody's draws.
    #[must_use]
    pub fn stream(&self) -> u64 {
        self.scope.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }

    fn push(&mut self, name: &str, value: Tensor) -> Result<WeightId> {
        let name = self.qualified(name);
        if self.store.find(&name).is_some() {
            candle_core::bail!("two weights are named {name}");
        }
        let value = value.to_dtype(self.store.dtype())?.to_device(self.store.device())?;
        Ok(self.store.push_weight(name, value))
    }

    fn qualified(&self, name: impl Display) -> String {
        if self.scope.is_empty() { name.to_string() } else { format!("{}.{name}", self.scope) }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;
    use rand::SeedableRng;

    use super::*;

    fn build(dtype: DType) -> Result<ParamStore> {
        let mut store = ParamStore::new(dtype, &Device::Cpu);
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        ParamBuilder::new(&mut store, &mut rng).scope("a").uniform("weight", 4000, 16)?;
        Ok(store)
    }

    #[test]
    fn initial_weights_fill_one_over_the_root_of_the_fan_in() -> Result<()> {
        let store = build(DType::F64)?;
        let values = store.weights().next().expect("one weight").2.to_vec1::<f64>()?;
        let (low, high) = values.iter().fold((0.0f64, 0.0f64), |(l, h), &v| (l.min(v), h.max(v)));
        assert!((-0.25..-0.249).contains(&low) && (0.249..0.25).contains(&high));
        let variance = values.iter().map(|v| v * v).sum::<f64>() / 4000.0;
        assert!((variance - 0.0625 / 3.0).abs() < 0.001, "{variance}"); // 3σ, n = 4000
        Ok(())
    }

    #[test]
    fn both_precisions_start_from_the_same_draws() -> Result<()> {
        let (single, double) = (build(DType::F32)?, build(DType::F64)?);
        let (_, _, single) = single.weights().next().expect("one weight");
        let (_, _, double) = double.weights().next().expect("one weight");
        assert_eq!(single.to_vec1::<f32>()?, double.to_dtype(DType::F32)?.to_vec1::<f32>()?);
        Ok(())
    }

    #[test]
    fn a_name_is_given_once() -> Result<()> {
        let mut store = build(DType::F32)?;
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut params = ParamBuilder::new(&mut store, &mut rng);
        let error = params.constant("a.weight", 1, 0.0).expect_err("a name was given twice");
        assert!(error.to_string().contains("two weights are named a.weight"));
        Ok(())
    }
}
