//! Training a derived network from scratch.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use data::{Batch, BatchPlan, Batches, Normalize, TestData, TrainData, batches};
use network::{Logits, Network, Purpose};
use ops::{
    Backward, Catalog, Draw, Forward, Gradients, Mode, ParamStore, RunningStats, Statistics,
    kernels::{
        loss::{self, LossHead},
        sum,
    },
};
use search_space::{Genotype, Layout, LayoutRequest, Phase, Rank, Space};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Exam, Progress, RunDir, Score, Seed, StepReport, Stream, TrainConfig, TrainSummary,
    checkpoint::{Checkpoint, digest},
    error::FileError,
    evaluate, exam,
    mix::{Mixed, mix},
    optimizer::Sgd,
    run_dir::Part,
    score::Tally,
    storage::file,
};

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
        let header = Header { version: VERSION, digest: self.digest.clone(), at: self.at };
        let mut checkpoint = Checkpoint::new(&header);
        checkpoint.put_weights(&self.params, &self.sgd);
        for (name, tensor) in self.average.iter().flat_map(ParamStore::tensors) {
            checkpoint.put(format!("average.{name}"), tensor);
        }
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
            tail: evaluate::tail(data.subset().len(), self.config.batch),
            normalize: Some(self.normalize.clone()),
            augment: Some(self.config.augment),
            first_step: self.at.step * self.config.accumulate,
            ..BatchPlan::shuffled(self.config.batch, seed, self.at.epoch as u64)
        }
    }

    /// One step of the optimizer, on the mean gradient of the next batches.
    fn step(&mut self, data: &TrainData, plan: BatchPlan) -> Result<f64, Error> {
        if self.batches.is_none() {
            self.batches = Some(batches(data.subset(), plan, self.params.dtype(), self.params.device())?);
        }
        let mut gradients = Gradients::new(&self.params);
        let mut n = 0;
        while n < self.config.accumulate {
            let Some(batch) = self.batches.as_mut().and_then(Iterator::next) else { break };
            self.pass(&batch?, n, &mut gradients)?;
            n += 1;
        }
        let gradients = if n > 1 { scaled(&self.params, &gradients, 1.0 / n as f64)? } else { gradients };
        let lr = self.lr();
        let norm = self.sgd.step(&mut self.params, &gradients, lr)?;
        let norm = norm.map_err(|error| self.diverged(format!("the gradient of {}", error.weight), None))?;
        if let Some(average) = &mut self.average {
            let t = self.at.steps as f64;
            follow(average, &self.params, self.config.ema.min((1.0 + t) / (10.0 + t)))?;
        }
        Ok(norm)
    }

    /// Forward and back on the `n`-th batch of a step, whose gradients add to the others'.
    fn pass(&mut self, batch: &Batch, n: usize, gradients: &mut Gradients) -> Result<(), Error> {
        let count = self.at.steps * self.config.accumulate as u64 + n as u64;
        let draw = Draw { seed: self.seed.of(Stream::WeightPass), step: count };
        let strengths = [self.config.mixup, self.config.cutmix];
        let mixed = mix(&batch.x, &batch.y, strengths, &mut self.seed.rng(Stream::Mix, count))?;
        let x = mixed.as_ref().map_or(&batch.x, |mixed| &mixed.x);
        let (params, mut statistics) = (&self.params, Statistics::default());
        let mut pass = Forward { params, mode: Mode::Train, statistics: &mut statistics, draw };
        let (Logits { main, auxiliary }, trace) =
            self.network.forward(x, self.drop_path(), Purpose::Weights, &mut pass)?;
        let smoothing = self.config.label_smoothing;
        let main = loss_of(&main, &batch.y, mixed.as_ref(), smoothing)?;
        let side =
            auxiliary.map(|logits| loss_of(&logits, &batch.y, mixed.as_ref(), smoothing)).transpose()?;
        let whole = main.loss + side.as_ref().map_or(0.0, |side| side.loss);
        if !whole.is_finite() {
            let statistics = &mut Statistics::default();
            let place =
                self.network.diagnose(x, &mut Forward { params, mode: Mode::Train, statistics, draw })?;
            return Err(self.diverged("the loss".into(), place));
        }
        let weight = self.layout().auxiliary.as_ref().map_or(0.0, |auxiliary| auxiliary.weight);
        let side = side.map(|side| sum::scale(&side.grad, weight)).transpose()?;
        let mut pass = Backward { params, gradients: Some(gradients) };
        self.network.backward(trace, &main.grad, side.as_ref(), &mut pass)?;
        self.params.absorb(&statistics)?;
        self.tally.add(main.loss, main.correct, batch.y.len());
        Ok(())
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

/// The loss of logits against labels, or against both labels of a mixture by their shares; right is who meets the
/// label of the larger share.
fn loss_of(
    logits: &Tensor,
    labels: &[u32],
    mixed: Option<&Mixed>,
    smoothing: f64,
) -> Result<LossHead, Error> {
    let own = loss::cross_entropy(logits, labels, smoothing)?;
    let Some(Mixed { others, share, .. }) = mixed else { return Ok(own) };
    let other = loss::cross_entropy(logits, others, smoothing)?;
    let grad = sum::add_scaled(sum::scale(&own.grad, *share)?, 1.0 - share, &other.grad)?;
    let correct = if *share >= 0.5 { own.correct } else { other.correct };
    Ok(LossHead { loss: share * own.loss + (1.0 - share) * other.loss, correct, grad })
}

/// Every gradient, times `factor`.
fn scaled(params: &ParamStore, gradients: &Gradients, factor: f64) -> Result<Gradients, Error> {
    let mut all = Gradients::new(params);
    for (id, gradient) in gradients.iter() {
        all.add(id, sum::scale(gradient, factor)?)?;
    }
    Ok(all)
}

/// Moves `average` towards `params`: `a ← d·a + (1 − d)·w`, running statistics likewise.
fn follow(average: &mut ParamStore, params: &ParamStore, decay: f64) -> Result<(), Error> {
    let towards = |old: &Tensor, new: &Tensor| sum::add_scaled(sum::scale(old, decay)?, 1.0 - decay, new);
    for (id, _, new) in params.weights() {
        average.set_weight(id, towards(average.weight(id), new)?)?;
    }
    for (id, _, new) in params.all_stats() {
        let old = average.stats(id);
        let stats = RunningStats { mean: towards(&old.mean, &new.mean)?, var: towards(&old.var, &new.var)? };
        average.set_stats(id, stats)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use data::{Augment, DataOptions, DataSpec, open};
    use ops::Catalog;
    use search_space::Genotype;

    use super::*;

    fn digits() -> Result<TrainData, data::Error> {
        TrainData::of(open(&DataSpec::Digits, &DataOptions::default())?)
    }

    /// A child of one 1×1 convolution after another, two channels wide.
    fn training(data: &TrainData, config: TrainConfig) -> Result<Retraining, Error> {
        let catalog = Catalog::standard();
        let space = Space::shipped("digits", &catalog).expect("it is shipped").expect("it is valid");
        let text = "|nor_conv_1x1~0|+|skip_connect~0|none~1|+|none~0|skip_connect~1|none~2|";
        let genotype = Genotype::from_nb201(text, &space).expect("a genotype of the space");
        let config = TrainConfig { channels: Some(2), epochs: 1, batch: 500, ..config };
        Retraining::new(&space, &genotype, &catalog, data, config, &Device::Cpu)
    }

    fn bytes(training: &Retraining) -> Vec<f32> {
        let flat = |(_, tensor): (String, &Tensor)| tensor.flatten_all().and_then(|x| x.to_vec1::<f32>());
        training.params().tensors().flat_map(|one| flat(one).expect("numbers")).collect()
    }

    #[test]
    fn several_batches_make_one_step() -> Result<(), Box<dyn std::error::Error>> {
        let data = digits()?;
        let mut training = training(&data, TrainConfig { accumulate: 3, ..TrainConfig::default() })?;
        let mut steps = 0;
        while let Progress::Step(report) = training.next_step(&data)? {
            steps = report.steps;
            assert_eq!(report.step as u64, training.at.steps);
        }
        assert_eq!((steps, training.at.steps), (3, 3)); // 3,823 examples: eight batches, of which the last step has two
        Ok(())
    }

    #[test]
    fn the_average_is_what_counts_and_lags_behind() -> Result<(), Box<dyn std::error::Error>> {
        let data = digits()?;
        let (mut plain, mut averaged) = (
            training(&data, TrainConfig::default())?,
            training(&data, TrainConfig { ema: 0.5, ..TrainConfig::default() })?,
        );
        let start = bytes(&plain);
        plain.next_step(&data)?;
        averaged.next_step(&data)?;
        // After the first step d = min(0.5, 1/10).
        for ((a, w), s) in bytes(&averaged).iter().zip(bytes(&plain)).zip(start) {
            assert!((f64::from(*a) - (0.1 * f64::from(s) + 0.9 * f64::from(w))).abs() < 1e-6);
        }
        Ok(())
    }

    #[test]
    fn a_recipe_of_everything_resumes_to_the_bit() -> Result<(), Box<dyn std::error::Error>> {
        let data = digits()?;
        let config = TrainConfig {
            mixup: 0.2,
            cutmix: 1.0,
            ema: 0.9,
            accumulate: 2,
            label_smoothing: 0.1,
            drop_path: 0.2,
            augment: Augment { crop_padding: 1, cutout: 2, ..Augment::default() },
            ..TrainConfig::default()
        };
        let dir = tempfile::tempdir()?;
        let run = RunDir::create(&dir.path().join("run"), crate::Overwrite::Refuse)?;
        run.write_train(&config, "")?;
        let mut whole = training(&data, config.clone())?;
        whole.next_step(&data)?;
        whole.save(&run)?;
        let mut resumed = training(&data, config)?;
        assert!(resumed.resume(&run)?);
        while whole.next_epoch(&data)?.is_some() {}
        while resumed.next_epoch(&data)?.is_some() {}
        assert_eq!(bytes(&whole), bytes(&resumed));
        Ok(())
    }

    #[test]
    fn the_learning_rate_warms_up_and_then_follows_its_schedule() {
        let config = TrainConfig { epochs: 12, warmup_epochs: 2, ..TrainConfig::default() };
        let lr = config.weights.lr;
        let found = [config.lr(0), config.lr(1), config.lr(2), config.lr(7)];
        // A third, two thirds, all of it; then half a wave over ten epochs.
        for (found, expected) in found.into_iter().zip([lr / 3.0, lr * 2.0 / 3.0, lr, lr / 2.0]) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
    }
}
