//! Training a derived network from scratch.

use std::time::Instant;

use candle_core::{DType, Device};
use data::{BatchPlan, Batches, Normalize, TestData, TrainData, batches};
use network::{Logits, Network, Purpose};
use ops::{
    Backward, Catalog, Draw, Forward, Gradients, Mode, ParamStore, Statistics,
    kernels::{
        loss::{self, LossHead},
        sum,
    },
};
use search_space::{Genotype, Layout, LayoutRequest, Phase, Space};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Progress, RunDir, Score, Seed, StepReport, Stream, TrainConfig, TrainSummary,
    checkpoint::{Checkpoint, digest},
    error::FileError,
    evaluate,
    optimizer::Sgd,
    run_dir::Part,
    score::Tally,
    storage::file,
};

/// A training under way: one genotype, fresh weights, all of the training part.
///
/// SGD under a cosine, drop path that rises linearly (`drop_path · epoch / epochs`), and the auxiliary head's loss where
/// the layout has one (DARTS: 0.4 of it). The test part is read once, after the last epoch. Stepping, saving and
/// resuming are as in [`crate::Search`].
pub struct Retraining {
    config: TrainConfig,
    seed: Seed,
    normalize: Normalize,
    network: Network,
    params: ParamStore,
    sgd: Sgd,
    at: Position,
    tally: Tally,
    batches: Option<Batches>,
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

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u32,
    digest: String,
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
        let mut rng = seed.rng(Stream::Weights, 1);
        let (network, params) = Network::new(layout, catalog, DType::F32, device, &mut rng)?;
        Ok(Self {
            sgd: Sgd::new(config.weights),
            normalize: data.subset().normalize(),
            seed,
            network,
            params,
            at: Position::default(),
            tally: Tally::default(),
            batches: None,
            clock: Instant::now(),
            digest,
            config,
        })
    }

    /// Steps until an epoch is over; `None` once all are. `data` is that of [`Retraining::new`].
    ///
    /// # Errors
    /// The training diverged, or the data cannot be read.
    pub fn next_epoch(&mut self, data: &TrainData) -> Result<Option<TrainSummary>, Error> {
        loop {
            match self.next_step(data)? {
                Progress::Step(_) | Progress::Measuring { .. } => {}
                Progress::Epoch(summary) => return Ok(Some(summary)),
                Progress::Finished => return Ok(None),
            }
        }
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
        let steps = plan.steps(data.subset().len());
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

    /// Loss and accuracy on the test part.
    ///
    /// # Errors
    /// [`Error::Unfinished`] before the last epoch is done: a test part that is looked at along the way is none.
    pub fn test(&self, data: &TestData) -> Result<Score, Error> {
        let (epochs, expected) = (self.at.epoch, self.config.epochs);
        if epochs < expected {
            return Err(Error::Unfinished { epochs, expected });
        }
        evaluate::test(&self.network, &self.params, data.subset(), self.config.batch, &self.normalize)
    }

    /// Writes a checkpoint; at any step.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, run: &RunDir) -> Result<(), Error> {
        let header = Header { version: VERSION, digest: self.digest.clone(), at: self.at };
        let mut checkpoint = Checkpoint::new(&header);
        checkpoint.put_weights(&self.params, &self.sgd);
        let Tally { loss, correct, examples } = self.tally;
        checkpoint.put_numbers("sums", &[loss, correct, examples])?;
        run.save(Part::Training, &checkpoint)
    }

    /// Goes back to the run's checkpoint, if it has one, and cuts its lines to the epochs that the checkpoint knows.
    ///
    /// # Errors
    /// The checkpoint is torn, or of another genotype, other settings or other data.
    pub fn resume(&mut self, run: &RunDir) -> Result<bool, Error> {
        let Some(checkpoint) = run.load(Part::Training)? else {
            run.keep_epochs(Part::Training, 0)?;
            return Ok(false);
        };
        self.restore(&checkpoint).map_err(|kind| file(&run.checkpoint_path(Part::Training), kind))?;
        run.keep_epochs(Part::Training, self.at.epoch)?;
        Ok(true)
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), FileError> {
        let Header { version, digest, at } = checkpoint.header()?;
        if version != VERSION {
            return Err(FileError::Malformed(format!("a checkpoint of version {VERSION}, but {version}")));
        }
        if digest != self.digest {
            return Err(FileError::Mismatch("genotype, settings or data differ".into()));
        }
        let [loss, correct, examples] = checkpoint.numbers("sums")?;
        checkpoint.restore_weights(&mut self.params, &mut self.sgd)?;
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

    /// Its weights and statistics.
    #[must_use]
    pub fn params(&self) -> &ParamStore {
        &self.params
    }

    /// The network and its weights, without what only training needs.
    #[must_use]
    pub fn into_network(self) -> (Network, ParamStore) {
        (self.network, self.params)
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
        self.config.weights.schedule().leaving(self.at.epoch, self.config.epochs)
    }

    fn drop_path(&self) -> f64 {
        self.config.drop_path * self.at.epoch as f64 / self.config.epochs as f64
    }

    fn plan(&self, data: &TrainData) -> BatchPlan {
        let seed = self.seed.of(Stream::WeightBatches);
        BatchPlan {
            tail: evaluate::tail(data.subset().len(), self.config.batch),
            normalize: Some(self.normalize.clone()),
            augment: Some(self.config.augment),
            first_step: self.at.step,
            ..BatchPlan::shuffled(self.config.batch, seed, self.at.epoch as u64)
        }
    }

    fn step(&mut self, data: &TrainData, plan: BatchPlan) -> Result<f64, Error> {
        let stream = match &mut self.batches {
            Some(stream) => stream,
            none => none.insert(batches(data.subset(), plan, self.params.dtype(), self.params.device())?),
        };
        let batch = stream.next().expect("an epoch has as many batches as its plan has steps")?;
        let draw = Draw { seed: self.seed.of(Stream::WeightPass), step: self.at.steps };
        let (params, mut statistics) = (&self.params, Statistics::default());
        let mut pass = Forward { params, mode: Mode::Train, statistics: &mut statistics, draw };
        let (Logits { main, auxiliary }, trace) =
            self.network.forward(&batch.x, self.drop_path(), Purpose::Weights, &mut pass)?;
        let smoothing = self.config.label_smoothing;
        let LossHead { loss, correct, grad } = loss::cross_entropy(&main, &batch.y, smoothing)?;
        let side = auxiliary.map(|logits| loss::cross_entropy(&logits, &batch.y, smoothing)).transpose()?;
        let whole = loss + side.as_ref().map_or(0.0, |side| side.loss);
        if !whole.is_finite() {
            let statistics = &mut Statistics::default();
            let place = self
                .network
                .diagnose(&batch.x, &mut Forward { params, mode: Mode::Train, statistics, draw })?;
            return Err(self.diverged("the loss".into(), place));
        }
        let weight = self.layout().auxiliary.as_ref().map_or(0.0, |auxiliary| auxiliary.weight);
        let side = side.map(|side| sum::scale(&side.grad, weight)).transpose()?;
        let mut gradients = Gradients::new(params);
        let mut pass = Backward { params, gradients: Some(&mut gradients) };
        self.network.backward(trace, &grad, side.as_ref(), &mut pass)?;
        let lr = self.lr();
        let norm = self.sgd.step(&mut self.params, &gradients, lr)?;
        let norm = norm.map_err(|error| self.diverged(format!("the gradient of {}", error.weight), None))?;
        self.params.absorb(&statistics)?;
        self.tally.add(loss, correct, batch.y.len());
        Ok(norm)
    }

    fn diverged(&self, what: String, place: Option<network::Place>) -> Error {
        let Position { epoch, step, .. } = self.at;
        Error::Diverged { epoch, step, what, place: place.map(Box::new) }
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
