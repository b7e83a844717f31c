//! Training a derived network from scratch.

use std::time::Instant;

use candle_core::{DType, Device};
use data::{BatchPlan, Normalize, TestData, TrainData};
use network::Network;
use ops::{Catalog, ParamStore};
use search_space::{Genotype, Layout, LayoutRequest, Phase, Rank, Space};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Exam, Progress, RunDir, Score, Seed, StepReport, Stream, TrainConfig, TrainSummary,
    checkpoint::{Checkpoint, digest},
    error::FileError,
    evaluate, exam,
    feed::{Feed, Shelf},
    optimizer::Sgd,
    run_dir::Part,
    score::Tally,
};

mod step;

/// A training under way: one genotype, fresh weights, all of the training part.
///
/// SGD under a schedule, drop path that rises linearly (`drop_path · epoch / epochs`), the auxiliary head's loss where
/// the layout has one (DARTS: 0.4 of it), and what else a recipe asks for: mixtures of examples, gradients of several
/// batches in one step, and a moving average of the weights, which is then what is tested:
///
/// ```text
/// a ← d·a + (1 − d)·w        after step t, d = min(ema, (1 + t)/(10 + t)); running statistics likewise
/// ```
///
/// The test part is read once, after the last epoch. Stepping, saving and resuming are as in [`crate::Search`].
pub struct Retraining {
    config: TrainConfig,
    seed: Seed,
    normalize: Normalize,
    network: Network,
    params: ParamStore,
    /// The moving average, where one is kept.
    average: Option<ParamStore>,
    sgd: Sgd,
    at: Position,
    tally: Tally,
    shelf: Shelf,
    batches: Option<Feed>,
    clock: Instant,
    digest: String,
}

/// Where a training stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    epoch: usize,
    step: usize,
    /// Steps done in all.
    steps: u64,
}

/// What a checkpoint's header says beside version and digest.
#[derive(Serialize, Deserialize)]
struct State {
    at: Position,
}

const VERSION: u32 = 1;

impl Retraining {
    /// A training of `genotype` in `space`, at the width and depth of the settings, before its first step.
    ///
    /// # Errors
    /// The genotype is of another space, the space does not fit the data, or a setting is out of range.
    pub fn new(
        space: &Space,
        genotype: &Genotype,
        catalog: &Catalog,
        data: &TrainData,
        config: TrainConfig,
        device: &Device,
    ) -> Result<Self, Error> {
        let info = data.subset().info();
        let request = LayoutRequest {
            input: info.shape,
            classes: info.classes.len(),
            phase: Phase::Train,
            channels: config.channels,
            cells: config.cells,
        };
        let layout = space.layout(&request, catalog)?.child(genotype)?;
        Self::from_layout(layout, catalog, data, config, device)
    }

    /// A training of a child layout made by other means.
    ///
    /// # Errors
    /// The layout still has choices, or a setting is out of range.
    pub fn from_layout(
        layout: Layout,
        catalog: &Catalog,
        data: &TrainData,
        config: TrainConfig,
        device: &Device,
    ) -> Result<Self, Error> {
        let config = TrainConfig::from_yaml(&config.to_yaml(), "training configuration")?; // a program's is checked, too
        let seed = Seed(config.seed);
        let digest = digest(&[&config.to_yaml(), &format!("{layout:?}"), &format!("{:?}", data.subset())]);
        if config.cutmix > 0.0 && data.subset().info().shape.extent.rank() == Rank::Flat {
            return Err(Error::Setting {
                origin: "training".into(),
                key: "cutmix".into(),
                found: config.cutmix.to_string(),
                accepted: "expected 0 for flat examples, from which no box can be cut".into(),
            });
        }
        let mut rng = seed.rng(Stream::Weights, 1);
        let (network, params) = Network::new(layout, catalog, DType::F32, device, &mut rng)?;
        Ok(Self {
            average: (config.ema > 0.0).then(|| params.clone()),
            sgd: Sgd::new(config.weights),
            normalize: data.subset().normalize(),
            seed,
            network,
            params,
            at: Position::default(),
            tally: Tally::default(),
            shelf: Shelf::default(),
            batches: None,
            clock: Instant::now(),
            digest,
            config,
        })
    }

    /// The same training with maps stored as `maps`: `DType::BF16` halves them; a device takes what
    /// [`ops::kernels::gpu::Arithmetic::maps`] says. Weights and checkpoints stay as they are.
    #[must_use]
    pub fn with_maps(self, maps: DType) -> Self {
        let average = self.average.map(|average| average.with_maps(maps));
        Self { params: self.params.with_maps(maps), average, ..self }
    }

    /// Steps until an epoch is over; `None` once all are. `data` is that of [`Retraining::new`].
    ///
    /// # Errors
    /// The training diverged, or the data cannot be read.
    pub fn next_epoch(&mut self, data: &TrainData) -> Result<Option<TrainSummary>, Error> {
        Progress::until_epoch(|| self.next_step(data))
    }

    /// Makes one step, or sums up an epoch that has none left.
    ///
    /// # Errors
    /// As [`Retraining::next_epoch`].
    pub fn next_step(&mut self, data: &TrainData) -> Result<Progress<TrainSummary>, Error> {
        if self.at.epoch == self.config.epochs {
            return Ok(Progress::Finished);
        }
        let plan = self.plan(data);
        let steps = plan.steps(data.subset().len()).div_ceil(self.config.accumulate);
        if self.at.step == steps {
            return Ok(Progress::Epoch(self.finish_epoch()));
        }
        if self.at.step == 0 {
            self.clock = Instant::now();
        }
        let norm = self.step(data, plan)?;
        self.at.step += 1;
        self.at.steps += 1;
        Ok(Progress::Step(StepReport {
            epoch: self.at.epoch,
            epochs: self.config.epochs,
            step: self.at.step,
            steps,
            score: self.tally.score().unwrap_or_default(),
            norm,
            tau: None,
            entropy: None,
        }))
    }

    /// Starts from the weights and statistics that `parent` has under the same names, and says how many weights found
    /// theirs; the others stay fresh.
    ///
    /// # Errors
    /// A step was made already, or two tensors of one name have different shapes: the child is wider than its parent.
    pub fn inherit(&mut self, parent: &ParamStore) -> Result<usize, Error> {
        let found = network::inherit(&mut self.params, parent)?;
        if self.average.is_some() {
            self.average = Some(self.params.clone());
        }
        Ok(found)
    }

    /// Loss and accuracies on the test part, and which classes were taken for which.
    ///
    /// # Errors
    /// [`Error::Unfinished`] before the last epoch is done: a test part that is looked at along the way is none.
    pub fn examine(&self, data: &TestData) -> Result<Exam, Error> {
        let (epochs, expected) = (self.at.epoch, self.config.epochs);
        if epochs < expected {
            return Err(Error::Unfinished { epochs, expected });
        }
        exam::examine(&self.network, self.params(), data.subset(), self.config.batch, &self.normalize)
    }

    /// Loss and accuracy of [`Retraining::examine`].
    ///
    /// # Errors
    /// As there.
    pub fn test(&self, data: &TestData) -> Result<Score, Error> {
        Ok(self.examine(data)?.score)
    }

    /// Writes a checkpoint; at any step.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, run: &RunDir) -> Result<(), Error> {
        let mut checkpoint = Checkpoint::new(VERSION, &self.digest, &State { at: self.at });
        checkpoint.put_weights(&self.params, &self.sgd);
        for (name, tensor) in self.average.iter().flat_map(ParamStore::tensors) {
            checkpoint.put(format!("average.{name}"), tensor);
        }
        checkpoint.put_numbers("sums", &self.tally.sums())?;
        run.save(Part::Training, &checkpoint)
    }

    /// Goes back to the run's checkpoint, if it has one, and cuts its lines to the epochs that the checkpoint knows.
    ///
    /// # Errors
    /// The checkpoint is torn, or of another genotype, other settings or other data.
    pub fn resume(&mut self, run: &RunDir) -> Result<bool, Error> {
        run.resume(Part::Training, |checkpoint| {
            self.restore(checkpoint)?;
            Ok(self.at.epoch)
        })
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), FileError> {
        let State { at } = checkpoint.state(VERSION, &self.digest, "genotype, settings or data differ")?;
        let [loss, correct, examples] = checkpoint.numbers("sums")?;
        checkpoint.restore_weights(&mut self.params, &mut self.sgd)?;
        if let Some(average) = &mut self.average {
            for (name, tensor) in self.params.tensors() {
                let saved = checkpoint.get(&format!("average.{name}"), tensor.dims())?;
                average.load(&name, saved).map_err(|error| FileError::Mismatch(error.to_string()))?;
            }
        }
        self.tally = Tally { loss, correct, examples };
        (self.at, self.batches) = (at, None);
        Ok(())
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Its plan.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        self.network.layout()
    }

    /// Its weights and statistics: the moving average, where one is kept.
    #[must_use]
    pub fn params(&self) -> &ParamStore {
        self.average.as_ref().unwrap_or(&self.params)
    }

    /// The network and its weights, without what only training needs.
    #[must_use]
    pub fn into_network(self) -> (Network, ParamStore) {
        (self.network, self.average.unwrap_or(self.params))
    }

    /// Epochs done.
    #[must_use]
    pub fn epoch(&self) -> usize {
        self.at.epoch
    }

    /// What batches are normalized with: mean and deviation of the training part.
    #[must_use]
    pub fn normalize(&self) -> &Normalize {
        &self.normalize
    }

    fn lr(&self) -> f64 {
        self.config.lr(self.at.epoch)
    }

    fn drop_path(&self) -> f64 {
        self.config.drop_path * self.at.epoch as f64 / self.config.epochs as f64
    }

    fn plan(&self, data: &TrainData) -> BatchPlan {
        let seed = self.seed.of(Stream::WeightBatches);
        BatchPlan {
            tail: evaluate::tail(data.subset().len(), self.config.batch, 1),
            normalize: Some(self.normalize.clone()),
            augment: Some(self.config.augment),
            first_step: self.at.step * self.config.accumulate,
            ..BatchPlan::shuffled(self.config.batch, seed, self.at.epoch as u64)
        }
    }

    fn finish_epoch(&mut self) -> TrainSummary {
        let summary = TrainSummary {
            epoch: self.at.epoch,
            lr: self.lr(),
            drop_path: self.drop_path(),
            score: self.tally.score().unwrap_or_default(),
            seconds: self.clock.elapsed().as_secs_f64(),
        };
        self.at.epoch += 1;
        self.at.step = 0;
        (self.tally, self.batches) = (Tally::default(), None);
        summary
    }
}

#[cfg(test)]
mod tests;
