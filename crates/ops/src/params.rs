//! Weights, running statistics, gradients: all in the order of construction, so that no sum depends on a hash.

use std::collections::BTreeSet;

use candle_core::{DType, Device, Result, Tensor};

use crate::kernels::{sum, update};

const MEAN: &str = ".running_mean";
const VAR: &str = ".running_var";

/// Index of a weight in its [`ParamStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WeightId(pub(crate) usize);

/// Index of a batch norm's pair of running statistics in its [`ParamStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatId(pub(crate) usize);

/// A network's weights, and beside them its running statistics, which no optimizer sees.
///
/// Values are shared, immutable tensors: a clone is cheap, and a step makes new tensors. That is how an unrolled step
/// evaluates perturbed weights and returns to the exact old ones.
#[derive(Clone, Debug)]
pub struct ParamStore {
    weights: Vec<(String, Tensor)>,
    stats: Vec<(String, RunningStats)>,
    dtype: DType,
    maps: DType,
    device: Device,
}

/// A batch norm's running statistics, each `(C,)`.
#[derive(Clone, Debug)]
pub struct RunningStats {
    /// Running mean, from 0.
    pub mean: Tensor,
    /// Running unbiased variance, from 1.
    pub var: Tensor,
}

/// The moments of one batch at one batch norm, each `(C,)`.
#[derive(Clone, Debug)]
pub struct BatchStats {
    /// Mean over the batch and space.
    pub mean: Tensor,
    /// Unbiased variance over the batch and space.
    pub var: Tensor,
    /// Weight of this batch in the running statistics.
    pub momentum: f64,
}

/// Moments reported by the batch norms of one pass, in the order in which they ran.
#[derive(Debug, Default)]
pub struct Statistics(Vec<(StatId, BatchStats)>);

/// Gradients of the weights of one pass; a weight that took no part has none.
#[derive(Clone, Debug)]
pub struct Gradients {
    of: Vec<Option<Tensor>>,
    factor: f64,
}

impl ParamStore {
    /// A store without weights.
    #[must_use]
    pub fn new(dtype: DType, device: &Device) -> Self {
        Self { weights: Vec::new(), stats: Vec::new(), dtype, maps: dtype, device: device.clone() }
    }

    /// The same, with maps and their gradients stored as `maps` (`BF16` beside weights in `F32`).
    #[must_use]
    pub fn with_maps(self, maps: DType) -> Self {
        Self { maps, ..self }
    }

    /// The type of every weight and statistic.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// What a network stores maps and their gradients as: the type of the weights, unless [`ParamStore::with_maps`] says
    /// another. What goes into a network and comes out of it is of the weights' type always.
    #[must_use]
    pub fn maps(&self) -> DType {
        self.maps
    }

    /// Where the values live.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The current value of a weight.
    #[must_use]
    pub fn weight(&self, id: WeightId) -> &Tensor {
        &self.weights[id.0].1
    }

    /// The name of a weight.
    #[must_use]
    pub fn name(&self, id: WeightId) -> &str {
        &self.weights[id.0].0
    }

    /// The name of a batch norm.
    #[must_use]
    pub fn stats_name(&self, id: StatId) -> &str {
        &self.stats[id.0].0
    }

    /// The current running statistics of a batch norm.
    #[must_use]
    pub fn stats(&self, id: StatId) -> &RunningStats {
        &self.stats[id.0].1
    }

    /// Weights in the order of construction, by their unique names.
    pub fn weights(&self) -> impl Iterator<Item = (WeightId, &str, &Tensor)> {
        self.weights.iter().enumerate().map(|(i, (name, value))| (WeightId(i), name.as_str(), value))
    }

    /// Running statistics in the order of construction; a name is that of the batch norm.
    pub fn all_stats(&self) -> impl Iterator<Item = (StatId, &str, &RunningStats)> {
        self.stats.iter().enumerate().map(|(i, (name, value))| (StatId(i), name.as_str(), value))
    }

    /// The weight of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<WeightId> {
        self.weights.iter().position(|(known, _)| known == name).map(WeightId)
    }

    /// The running statistics of the batch norm of this name.
    #[must_use]
    pub fn find_stats(&self, name: &str) -> Option<StatId> {
        self.stats.iter().position(|(known, _)| known == name).map(StatId)
    }

    /// Every value in the order of construction, weights first, under the name that [`ParamStore::load`] takes: a
    /// weight's own, or `NAME.running_mean` and `NAME.running_var` of a batch norm.
    pub fn tensors(&self) -> impl Iterator<Item = (String, &Tensor)> {
        let weights = self.weights.iter().map(|(name, value)| (name.clone(), value));
        weights.chain(self.stats.iter().flat_map(|(name, stats)| {
            [(format!("{name}{MEAN}"), &stats.mean), (format!("{name}{VAR}"), &stats.var)]
        }))
    }

    /// Replaces one value, cast to this store's type: a weight by its name, or a batch norm's `NAME.running_mean` or
    /// `NAME.running_var`.
    ///
    /// # Errors
    /// No value has this name, or the shapes differ.
    pub fn load(&mut self, name: &str, value: &Tensor) -> Result<()> {
        let value = value.to_dtype(self.dtype)?.to_device(&self.device)?.contiguous()?;
        if let Some(id) = self.find(name) {
            return self.set_weight(id, value);
        }
        let mean = name.strip_suffix(MEAN).and_then(|norm| self.find_stats(norm));
        let var = name.strip_suffix(VAR).and_then(|norm| self.find_stats(norm));
        match (mean, var) {
            (Some(id), _) => self.set_stats(id, RunningStats { mean: value, ..self.stats(id).clone() }),
            (_, Some(id)) => self.set_stats(id, RunningStats { var: value, ..self.stats(id).clone() }),
            (None, None) => candle_core::bail!("no weight and no statistic is named {name}"),
        }
    }

    /// How many tensors of weights there are.
    #[must_use]
    pub fn n_weights(&self) -> usize {
        self.weights.len()
    }

    /// How many numbers the weights hold.
    #[must_use]
    pub fn n_params(&self) -> u64 {
        self.weights.iter().map(|(_, value)| value.elem_count() as u64).sum()
    }

    /// Replaces a weight by a tensor of the same shape.
    ///
    /// # Errors
    /// The shapes differ.
    pub fn set_weight(&mut self, id: WeightId, value: Tensor) -> Result<()> {
        let (name, old) = &mut self.weights[id.0];
        if old.dims() != value.dims() {
            candle_core::bail!("weight {name}: found shape {:?}, expected {:?}", value.dims(), old.dims());
        }
        *old = value;
        Ok(())
    }

    /// Replaces running statistics by tensors of the same shape.
    ///
    /// # Errors
    /// The shapes differ.
    pub fn set_stats(&mut self, id: StatId, value: RunningStats) -> Result<()> {
        let (name, old) = &mut self.stats[id.0];
        for (found, expected) in [(&value.mean, &old.mean), (&value.var, &old.var)] {
            if found.dims() != expected.dims() {
                let (found, expected) = (found.dims(), expected.dims());
                candle_core::bail!("statistics of {name}: found shape {found:?}, expected {expected:?}");
            }
        }
        *old = value;
        Ok(())
    }

    /// Moves the running statistics towards the moments of a pass: `r ← (1 − m)·r + m·batch`.
    ///
    /// # Errors
    /// candle's.
    pub fn absorb(&mut self, statistics: &Statistics) -> Result<()> {
        // A batch norm that ran twice moves twice: each round holds every one at most once.
        let mut rest: Vec<(StatId, &BatchStats)> = statistics.iter().collect();
        while !rest.is_empty() {
            let mut seen = BTreeSet::new();
            let (round, later) = rest.into_iter().partition::<Vec<_>, _>(|(id, _)| seen.insert(*id));
            self.absorb_once(&round)?;
            rest = later;
        }
        Ok(())
    }

    fn absorb_once(&mut self, round: &[(StatId, &BatchStats)]) -> Result<()> {
        let pairs = round.iter().flat_map(|(id, batch)| {
            let old = self.stats(*id);
            [(&old.mean, &batch.mean, batch.momentum), (&old.var, &batch.var, batch.momentum)]
        });
        let moved = update::blend(&pairs.collect::<Vec<_>>())?;
        for ((id, _), moved) in round.iter().zip(moved.chunks_exact(2)) {
            self.set_stats(*id, RunningStats { mean: moved[0].clone(), var: moved[1].clone() })?;
        }
        Ok(())
    }

    pub(crate) fn push_weight(&mut self, name: String, value: Tensor) -> WeightId {
        self.weights.push((name, value));
        WeightId(self.weights.len() - 1)
    }

    pub(crate) fn push_stats(&mut self, name: String, value: RunningStats) -> StatId {
        self.stats.push((name, value));
        StatId(self.stats.len() - 1)
    }
}

impl Statistics {
    /// Adds the moments of one batch norm.
    pub fn report(&mut self, id: StatId, batch: BatchStats) {
        self.0.push((id, batch));
    }

    /// The reports in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (StatId, &BatchStats)> {
        self.0.iter().map(|(id, batch)| (*id, batch))
    }
}

impl Gradients {
    /// No gradient yet, for each weight of `params`.
    #[must_use]
    pub fn new(params: &ParamStore) -> Self {
        Self { of: vec![None; params.n_weights()], factor: 1.0 }
    }

    /// From now on, what [`Gradients::add`] adds counts `factor` times: the weight, in a mixture, of the operation that walks back.
    pub fn multiply(&mut self, factor: f64) {
        self.factor = factor;
    }

    /// Adds to a weight's gradient.
    ///
    /// # Errors
    /// The shapes of two contributions differ.
    pub fn add(&mut self, id: WeightId, grad: Tensor) -> Result<()> {
        self.add_times(id, grad, self.factor)
    }

    /// As [`Gradients::add`], of what counts `factor` times, whatever [`Gradients::multiply`] was told.
    ///
    /// # Errors
    /// As there.
    pub fn add_times(&mut self, id: WeightId, grad: Tensor, factor: f64) -> Result<()> {
        let grad = if factor == 1.0 { grad } else { sum::scale(&grad, factor)? };
        let slot = &mut self.of[id.0];
        *slot = Some(match slot.take() {
            None => grad,
            Some(sum) => sum::add(&sum, &grad)?,
        });
        Ok(())
    }

    /// The gradient of a weight; `None` where the weight took no part in the pass.
    #[must_use]
    pub fn get(&self, id: WeightId) -> Option<&Tensor> {
        self.of[id.0].as_ref()
    }

    /// The gradients that exist, in the order of construction of their weights.
    pub fn iter(&self) -> impl Iterator<Item = (WeightId, &Tensor)> {
        self.of.iter().enumerate().filter_map(|(i, grad)| grad.as_ref().map(|grad| (WeightId(i), grad)))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::ParamBuilder;

    fn store(dtype: DType) -> Result<ParamStore> {
        let (mut store, mut rng) = (ParamStore::new(dtype, &Device::Cpu), ChaCha8Rng::seed_from_u64(1));
        let mut params = ParamBuilder::new(&mut store, &mut rng);
        let mut norm = params.scope("stem.bn");
        norm.constant("weight", 2, 1.0)?;
        norm.running_stats(2)?;
        Ok(store)
    }

    fn names(store: &ParamStore) -> Vec<String> {
        store.tensors().map(|(name, _)| name).collect()
    }

    #[test]
    fn every_value_loads_under_the_name_it_is_listed_by() -> Result<()> {
        let mut store = store(DType::F32)?;
        assert_eq!(names(&store), ["stem.bn.weight", "stem.bn.running_mean", "stem.bn.running_var"]);
        for (i, name) in names(&store).iter().enumerate() {
            store.load(name, &Tensor::full(i as f64, 2, &Device::Cpu)?)?;
        }
        let values = store.tensors().map(|(_, value)| value.to_vec1::<f32>()).collect::<Result<Vec<_>>>()?;
        assert_eq!(values, [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]);
        Ok(())
    }

    #[test]
    fn a_value_of_another_name_or_shape_is_refused() -> Result<()> {
        let mut store = store(DType::F32)?;
        let mut refuses = |name: &str, length: usize, message: &str| -> Result<()> {
            let value = Tensor::zeros(length, DType::F32, &Device::Cpu)?;
            let error = store.load(name, &value).expect_err("a faulty value was loaded");
            assert!(error.to_string().starts_with(message), "{error}");
            Ok(())
        };
        refuses("stem.weight", 2, "no weight and no statistic is named stem.weight")?;
        refuses("stem.bn.weight", 3, "weight stem.bn.weight: found shape [3], expected [2]")?;
        refuses("stem.bn.running_var", 3, "statistics of stem.bn: found shape [3], expected [2]")
    }

    #[test]
    fn running_statistics_move_by_their_momentum() -> Result<()> {
        let mut store = store(DType::F64)?;
        let full = |value: f64| Tensor::full(value, 2, &Device::Cpu);
        let mut statistics = Statistics::default();
        statistics.report(StatId(0), BatchStats { mean: full(2.0)?, var: full(3.0)?, momentum: 0.25 });
        store.absorb(&statistics)?;
        let moved = store.stats(StatId(0));
        assert_eq!(moved.mean.to_vec1::<f64>()?, [0.5, 0.5]); // ¾·0 + ¼·2
        assert_eq!(moved.var.to_vec1::<f64>()?, [1.5, 1.5]); // ¾·1 + ¼·3
        Ok(())
    }
}
