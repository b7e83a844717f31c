//! The search: weights on one split, logits on another, one bilevel step after the other.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use controller::{
    ArchParams, Demand, Estimator, Paths, Tau,
    estimators::{self, Proxyless},
};
use data::{Batch, BatchPlan, Batches, Normalize, SearchData, batches};
use network::{Network, Supernet};
use ops::{Catalog, Draw, Gradients, ParamStore, Statistics};
use search_space::{Genotype, Layout, LayoutRequest, Phase, Rule, Space};
use serde::{Deserialize, Serialize};

use crate::{
    Decision, EpochSummary, Error, Gap, GroupSummary, Order, Progress, RunDir, SearchConfig, Seed,
    StepReport, Stream,
    bilevel::{self, Losses, Relaxed, Task},
    checkpoint::{Checkpoint, digest},
    derive,
    error::FileError,
    evaluate::{self, Measurement, Sample, Subject},
    optimizer::{Adam, Moments, Sgd},
    run_dir::Part,
    score::Tally,
    storage::file,
};

/// A search under way.
///
/// [`Search::next_step`] makes one bilevel step, [`Search::next_epoch`] as many as an epoch has. The caller decides what
/// to print, when to save, when to stop. A weight step leaves every logit's bytes alone, an architecture step every
/// weight's and every running statistic's.
///
/// Logits are `f64`, on the host, wherever the weights are: a few hundred numbers, small steps of which `f32` would
/// round away beside large values.
///
/// After an error the search is undefined; go on from a checkpoint.
pub struct Search<'c> {
    config: SearchConfig,
    rule: Rule,
    catalog: &'c Catalog,
    seed: Seed,
    normalize: Normalize,
    estimator: Box<dyn Estimator>,
    supernet: Supernet,
    params: ParamStore,
    sgd: Sgd,
    arch: ArchParams,
    adam: Adam,
    at: Position,
    weights: Tally,
    architecture: Tally,
    weight_batches: Option<Batches>,
    arch_batches: Option<Batches>,
    measurement: Option<Measurement>,
    clock: Instant,
    gap_seconds: f64,
    digest: String,
}

/// Where a search stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    /// Epochs done.
    epoch: usize,
    /// Steps of the present epoch done.
    step: usize,
    /// Weight steps done in all.
    weight_steps: u64,
    /// Architecture steps done in all.
    arch_steps: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u32,
    digest: String,
    at: Position,
    adam_steps: u64,
}

const VERSION: u32 = 1;

impl<'c> Search<'c> {
    /// A search of `space` on `data`, before its first step.
    ///
    /// # Errors
    /// The space does not fit the data, or a setting is out of range.
    pub fn new(
        space: &Space,
        catalog: &'c Catalog,
        data: &SearchData,
        config: SearchConfig,
        device: &Device,
    ) -> Result<Self, Error> {
        let info = data.info();
        let request = LayoutRequest {
            input: info.shape,
            classes: info.classes.len(),
            phase: Phase::Search,
            channels: None,
            cells: None,
        };
        let rule = config.rule.unwrap_or(space.rule());
        Self::from_layout(space.layout(&request, catalog)?, rule, catalog, data, config, device)
    }

    /// A search of a layout made by other means; `rule` says what summaries derive.
    ///
    /// # Errors
    /// As [`Search::new`].
    pub fn from_layout(
        layout: Layout,
        rule: Rule,
        catalog: &'c Catalog,
        data: &SearchData,
        config: SearchConfig,
        device: &Device,
    ) -> Result<Self, Error> {
        let config = SearchConfig::from_yaml(&config.to_yaml(), "search configuration")?; // a program's is checked, too
        let seed = Seed(config.seed);
        let digest = digest(&[&config.to_yaml(), &format!("{layout:?}"), &format!("{data:?}")]);
        let arch =
            ArchParams::new(&layout.groups, DType::F64, &Device::Cpu, &mut seed.rng(Stream::Logits, 0))?;
        let (supernet, params) =
            Supernet::new(layout, catalog, DType::F32, device, &mut seed.rng(Stream::Weights, 0))?;
        Ok(Self {
            estimator: estimators::by_name(&config.estimator)?,
            sgd: Sgd::new(config.weights),
            adam: Adam::new(config.arch, &arch)?,
            normalize: data.weights().normalize(),
            rule,
            catalog,
            seed,
            supernet,
            params,
            arch,
            at: Position::default(),
            weights: Tally::default(),
            architecture: Tally::default(),
            weight_batches: None,
            arch_batches: None,
            measurement: None,
            clock: Instant::now(),
            gap_seconds: 0.0,
            digest,
            config,
        })
    }

    /// The same search with an estimator of the program's own, whatever the configuration names.
    #[must_use]
    pub fn with_estimator(self, estimator: Box<dyn Estimator>) -> Self {
        Self { estimator, ..self }
    }

    /// Steps until an epoch is over; `None` once all are. `data` is that of [`Search::new`].
    ///
    /// # Errors
    /// The search diverged, or the data cannot be read.
    pub fn next_epoch(&mut self, data: &SearchData) -> Result<Option<EpochSummary>, Error> {
        loop {
            match self.next_step(data)? {
                Progress::Step(_) | Progress::Measuring { .. } => {}
                Progress::Epoch(summary) => return Ok(Some(summary)),
                Progress::Finished => return Ok(None),
            }
        }
    }

    /// Makes one step: a batch of each split, the weights' and, after the warm-up, the logits' move. When an epoch has
    /// no step left, measures the gap instead, a batch a call, and then sums the epoch up.
    ///
    /// # Errors
    /// As [`Search::next_epoch`].
    pub fn next_step(&mut self, data: &SearchData) -> Result<Progress<EpochSummary>, Error> {
        if self.at.epoch == self.config.epochs {
            return Ok(Progress::Finished);
        }
        let steps = self.weight_plan(data).steps(data.weights().len());
        if self.at.step == steps {
            return self.finish_epoch(data);
        }
        if self.at.step == 0 {
            self.clock = Instant::now();
        }
        let batch = self.weight_batch(data)?;
        let joint = self.estimator.demand() == Demand::Joint;
        let norm = match (self.warming_up(), self.config.order) {
            (true, _) => self.weight_step(&batch)?,
            (false, _) if joint => self.joint_step(&batch)?,
            (false, Order::WeightsFirst) => {
                let norm = self.weight_step(&batch)?;
                self.arch_step(data, &batch)?;
                norm
            }
            (false, Order::ArchFirst) => {
                self.arch_step(data, &batch)?;
                self.weight_step(&batch)?
            }
        };
        self.at.step += 1;
        Ok(Progress::Step(StepReport {
            epoch: self.at.epoch,
            epochs: self.config.epochs,
            step: self.at.step,
            steps,
            score: self.weights.score().unwrap_or_default(),
            norm,
            tau: Some(self.tau()),
            entropy: Some(self.entropy()?),
        }))
    }

    /// What `rule` decides now. [`Rule::Sampled`] draws architectures and scores each with the shared weights on
    /// `gap_batches` batches of the architecture's part; the first of the best wins. The other rules read no data.
    ///
    /// # Errors
    /// The logits are not finite, or the data cannot be read.
    pub fn derive(&self, rule: Rule, data: &SearchData) -> Result<Decision, Error> {
        self.arch.check_finite()?;
        let (layout, pi) = (self.layout(), self.subject().probabilities()?);
        let choices = match rule {
            Rule::Argmax => derive::argmax(&pi),
            Rule::Top { inputs } => derive::top(layout, &pi, inputs),
            Rule::Sampled { n } => {
                let sample = self.sample(data, self.config.gap_batches);
                let mut best = None;
                for draw in 0..n as u64 {
                    let choices = derive::draw(&pi, &mut self.seed.rng(Stream::Derivation, draw));
                    let accuracy = self.subject().score(&sample, &choices)?.accuracy;
                    if best.as_ref().is_none_or(|(most, _)| accuracy > *most) {
                        best = Some((accuracy, choices));
                    }
                }
                best.map_or_else(|| derive::argmax(&pi), |(_, choices)| choices)
            }
        };
        let genotype = derive::genotype(layout, &choices);
        let disconnected = layout.child(&genotype)?.disconnected();
        Ok(Decision { genotype, disconnected })
    }

    /// The discretization gap on `n_batches` batches of the architecture's part; `usize::MAX` takes all. Samples are
    /// those of the last epoch that is done: after the end this is the last summary's gap again.
    ///
    /// # Errors
    /// The data cannot be read, or child and supernet disagree.
    pub fn evaluate(&self, data: &SearchData, n_batches: usize) -> Result<Gap, Error> {
        let rule = self.cheap_rule();
        let genotype = self.derive(rule, data)?.genotype;
        let subject = Subject { epoch: self.at.epoch.saturating_sub(1), ..self.subject() };
        subject.gap(self.sample(data, n_batches), rule, &genotype)
    }

    /// The child of `genotype` with the supernet's weights, and batch-norm statistics computed anew on `gap_batches`
    /// batches of the weights' part.
    ///
    /// # Errors
    /// The genotype is of another space, or the data cannot be read.
    pub fn inherited(&self, genotype: &Genotype, data: &SearchData) -> Result<(Network, ParamStore), Error> {
        let (child, params) = self.subject().inherited(genotype)?;
        let sample = self.sample(data, self.config.gap_batches);
        let params = evaluate::recalibrated_child(&child, &params, &sample)?;
        Ok((child, params))
    }

    /// Writes a checkpoint; at any step.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, run: &RunDir) -> Result<(), Error> {
        let header = Header {
            version: VERSION,
            digest: self.digest.clone(),
            at: self.at,
            adam_steps: self.adam.steps(),
        };
        let mut checkpoint = Checkpoint::new(&header);
        checkpoint.put_weights(&self.params, &self.sgd);
        for (group, Moments { first, second }) in self.adam.moments().iter().enumerate() {
            let name = self.arch.name(group);
            checkpoint.put(format!("logits.{name}"), self.arch.logits(group));
            checkpoint.put(format!("adam.first.{name}"), first);
            checkpoint.put(format!("adam.second.{name}"), second);
        }
        let (w, a) = (self.weights, self.architecture);
        checkpoint.put_numbers("sums", &[w.loss, w.correct, w.examples, a.loss, a.correct, a.examples])?;
        run.save(Part::Search, &checkpoint)
    }

    /// Goes back to the run's checkpoint, if it has one, and cuts its lines to the epochs that the checkpoint knows.
    /// From there the search goes on as if it had never stopped, to the bit.
    ///
    /// # Errors
    /// The checkpoint is torn, or of another space, other settings or other data.
    pub fn resume(&mut self, run: &RunDir) -> Result<bool, Error> {
        let Some(checkpoint) = run.load(Part::Search)? else {
            run.keep_epochs(Part::Search, 0)?;
            return Ok(false);
        };
        self.restore(&checkpoint).map_err(|kind| file(&run.checkpoint_path(Part::Search), kind))?;
        run.keep_epochs(Part::Search, self.at.epoch)?;
        Ok(true)
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), FileError> {
        let misfit = |error: controller::Error| FileError::Mismatch(error.to_string());
        let Header { version, digest, at, adam_steps } = checkpoint.header()?;
        if version != VERSION {
            return Err(FileError::Malformed(format!("a checkpoint of version {VERSION}, but {version}")));
        }
        if digest != self.digest {
            return Err(FileError::Mismatch("space, settings or data differ".into()));
        }
        let sums = checkpoint.numbers::<6>("sums")?;
        checkpoint.restore_weights(&mut self.params, &mut self.sgd)?;
        let mut moments = Vec::new();
        for group in 0..self.arch.len() {
            let (name, dims) = (self.arch.name(group).to_owned(), self.arch.logits(group).dims().to_vec());
            let get = |kind: &str| checkpoint.get(&format!("{kind}.{name}"), &dims);
            moments.push(Moments { first: get("adam.first")?.clone(), second: get("adam.second")?.clone() });
            self.arch.set_logits(group, get("logits")?).map_err(misfit)?;
        }
        self.adam.restore(adam_steps, moments);
        let [loss, correct, examples, arch_loss, arch_correct, arch_examples] = sums;
        self.weights = Tally { loss, correct, examples };
        self.architecture = Tally { loss: arch_loss, correct: arch_correct, examples: arch_examples };
        self.at = at;
        (self.weight_batches, self.arch_batches, self.measurement) = (None, None, None);
        Ok(())
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &SearchConfig {
        &self.config
    }

    /// The rule by which summaries derive.
    #[must_use]
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The supernet's plan.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        self.supernet.layout()
    }

    /// The logits.
    #[must_use]
    pub fn arch(&self) -> &ArchParams {
        &self.arch
    }

    /// The supernet's weights and statistics.
    #[must_use]
    pub fn params(&self) -> &ParamStore {
        &self.params
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

    /// The temperature of the present epoch.
    #[must_use]
    pub fn tau(&self) -> f64 {
        let (epoch, warmup) = (self.at.epoch, self.config.warmup());
        self.config.tau.schedule().arriving(epoch.saturating_sub(warmup), self.config.epochs - warmup)
    }

    fn warming_up(&self) -> bool {
        self.at.epoch < self.config.warmup()
    }

    fn lr(&self) -> f64 {
        self.config.weights.schedule().leaving(self.at.epoch, self.config.epochs)
    }

    fn weight_step(&mut self, batch: &Batch) -> Result<f64, Error> {
        let step = self.at.weight_steps;
        let relaxed = self.relaxed(Stream::WeightNoise, step)?;
        let task = self.task(batch, &relaxed, Stream::WeightPass, step, "weight");
        let (tally, gradients, statistics) = task.weights(&self.params)?;
        self.move_weights(tally, &gradients, &statistics)
    }

    fn move_weights(
        &mut self,
        tally: Tally,
        gradients: &Gradients,
        statistics: &Statistics,
    ) -> Result<f64, Error> {
        let lr = self.lr();
        let norm =
            self.sgd.step(&mut self.params, gradients, lr)?.map_err(|error| self.diverged(&error.weight))?;
        self.params.absorb(statistics)?;
        self.weights.merge(tally);
        self.at.weight_steps += 1;
        Ok(norm)
    }

    fn arch_step(&mut self, data: &SearchData, train: &Batch) -> Result<(), Error> {
        let batch = self.arch_batch(data)?;
        let (step, estimator) = (self.at.arch_steps, self.estimator.as_ref());
        let relaxed = self.relaxed(Stream::ArchitectureNoise, step)?;
        let validation = self.task(&batch, &relaxed, Stream::ArchitecturePass, step, "architecture");
        let (tally, gradients) = if self.config.unrolled {
            let relaxed = self.relaxed(Stream::WeightNoise, self.at.weight_steps)?;
            let train = self.task(train, &relaxed, Stream::WeightPass, self.at.weight_steps, "unrolled");
            let tally = validation.tally(&self.params)?;
            let problem = Losses { train, validation, arch: &self.arch, estimator };
            (tally, bilevel::unrolled(&problem, &self.params, &self.sgd, self.lr(), bilevel::REACH)?)
        } else {
            validation.logits(&self.params, &self.arch, estimator)?
        };
        self.move_logits(tally, &gradients, relaxed[0].paths())
    }

    /// One loss, one pass: the step of an estimator that has no second problem.
    fn joint_step(&mut self, batch: &Batch) -> Result<f64, Error> {
        let step = self.at.weight_steps;
        let relaxed = self.relaxed(Stream::WeightNoise, step)?;
        let task = self.task(batch, &relaxed, Stream::WeightPass, step, "joint");
        let (tally, gradients, statistics, slopes) = task.joint(&self.params, &self.arch)?;
        let norm = self.move_weights(tally, &gradients, &statistics)?;
        self.move_logits(tally, &slopes, relaxed[0].paths())?;
        Ok(norm)
    }

    /// Adam on the logits. Where candidates were compared in pairs, the others keep their probabilities.
    fn move_logits(&mut self, tally: Tally, gradients: &[Tensor], paths: &[Paths]) -> Result<(), Error> {
        let Position { epoch, step, .. } = self.at;
        let failed = |source| Error::Logits { epoch, step, source };
        let before: Vec<Tensor> =
            (0..self.arch.len()).map(|group| self.arch.logits(group).detach()).collect();
        self.adam.step(&mut self.arch, &gradients[..before.len()]).map_err(failed)?;
        self.arch.check_finite().map_err(failed)?;
        for (group, paths) in paths.iter().enumerate() {
            if let Paths::Pair(pairs) = paths {
                let settled = Proxyless::settle(&before[group], self.arch.logits(group), pairs)?;
                self.arch.set_logits(group, &settled).map_err(failed)?;
            }
        }
        self.architecture.merge(tally);
        self.at.arch_steps += 1;
        Ok(())
    }

    fn relaxed(&self, stream: Stream, step: u64) -> Result<Vec<Relaxed>, Error> {
        let tau = Tau::new(self.tau()).expect("a schedule between two temperatures stays between them");
        let taus = vec![tau.to_tensor(DType::F64, &Device::Cpu)?; self.arch.len()];
        let rng = &mut self.seed.rng(stream, step);
        Ok(Relaxed::samples(&self.arch, self.estimator.as_ref(), &taus, rng)?)
    }

    fn task<'a>(
        &'a self,
        batch: &'a Batch,
        relaxed: &'a [Relaxed],
        stream: Stream,
        step: u64,
        name: &'static str,
    ) -> Task<'a> {
        let draw = Draw { seed: self.seed.of(stream), step };
        Task { supernet: &self.supernet, batch, relaxed, draw, at: (self.at.epoch, self.at.step), name }
    }

    fn diverged(&self, weight: &str) -> Error {
        let Position { epoch, step, .. } = self.at;
        Error::Diverged { epoch, step, what: format!("the gradient of {weight}"), place: None }
    }

    fn weight_plan(&self, data: &SearchData) -> BatchPlan {
        let plan = self.plan(Stream::WeightBatches, self.at.epoch, data.weights().len());
        BatchPlan { first_step: self.at.step, ..plan }
    }

    fn plan(&self, stream: Stream, epoch: usize, examples: usize) -> BatchPlan {
        BatchPlan {
            tail: evaluate::tail(examples, self.config.batch),
            normalize: Some(self.normalize.clone()),
            augment: Some(self.config.augment),
            ..BatchPlan::shuffled(self.config.batch, self.seed.of(stream), epoch as u64)
        }
    }

    fn weight_batch(&mut self, data: &SearchData) -> Result<Batch, Error> {
        let plan = self.weight_plan(data);
        let stream = match &mut self.weight_batches {
            Some(stream) => stream,
            none => none.insert(batches(data.weights(), plan, self.params.dtype(), self.params.device())?),
        };
        Ok(stream.next().expect("an epoch has as many batches as its plan has steps")?)
    }

    /// The next batch of the architecture's own stream: shuffled passes over its part, one after the other, whatever
    /// the weights' epochs are.
    fn arch_batch(&mut self, data: &SearchData) -> Result<Batch, Error> {
        if let Some(batch) = self.arch_batches.as_mut().and_then(Iterator::next) {
            return Ok(batch?);
        }
        let examples = data.architecture().len();
        let steps = self.plan(Stream::ArchitectureBatches, 0, examples).steps(examples) as u64;
        let (epoch, first_step) = (self.at.arch_steps / steps, (self.at.arch_steps % steps) as usize);
        let plan =
            BatchPlan { first_step, ..self.plan(Stream::ArchitectureBatches, epoch as usize, examples) };
        let stream = batches(data.architecture(), plan, self.params.dtype(), self.params.device())?;
        let batch = self.arch_batches.insert(stream).next();
        Ok(batch.expect("a part is not empty")?)
    }

    /// Another batch of the gap's measurement, or the summary. A search that resumes here measures from the start.
    fn finish_epoch(&mut self, data: &SearchData) -> Result<Progress<EpochSummary>, Error> {
        let started = Instant::now();
        let rule = self.cheap_rule();
        let Decision { genotype, disconnected } = self.derive(rule, data)?;
        let gap = if self.at.epoch + 1 < self.config.warmup() {
            None
        } else {
            let mut measurement = match self.measurement.take() {
                Some(measurement) => measurement,
                None => Measurement::new(&self.subject(), self.epoch_sample(data), rule, &genotype)?,
            };
            let gap = measurement.next(&self.subject())?;
            self.gap_seconds += started.elapsed().as_secs_f64();
            if gap.is_none() {
                let passes = measurement.passes();
                self.measurement = Some(measurement);
                return Ok(Progress::Measuring { passes });
            }
            gap
        };
        let summary = EpochSummary {
            epoch: self.at.epoch,
            warmup: self.warming_up(),
            tau: self.tau(),
            lr: self.lr(),
            weights: self.weights.score().unwrap_or_default(),
            architecture: self.architecture.score(),
            entropy: self.entropy()?,
            parameter_free: self.parameter_free()?,
            groups: self.groups()?,
            gap,
            genotype: genotype.to_string(),
            disconnected,
            seconds: self.clock.elapsed().as_secs_f64(),
            gap_seconds: std::mem::take(&mut self.gap_seconds),
        };
        self.at.epoch += 1;
        self.at.step = 0;
        (self.weights, self.architecture) = (Tally::default(), Tally::default());
        self.weight_batches = None;
        Ok(Progress::Epoch(summary))
    }

    /// The rule of summaries: sampling every epoch would cost more than the epoch.
    fn cheap_rule(&self) -> Rule {
        match self.rule {
            Rule::Sampled { .. } => Rule::Argmax,
            rule => rule,
        }
    }

    fn subject(&self) -> Subject<'_> {
        let Self { supernet, params, arch, catalog, seed, .. } = self;
        Subject { supernet, params, arch, catalog, seed: *seed, epoch: self.at.epoch }
    }

    /// What the present epoch's gap is measured on.
    fn epoch_sample(&self, data: &SearchData) -> Sample {
        let last = self.at.epoch + 1 == self.config.epochs;
        self.sample(data, if last { self.config.last_gap_batches } else { self.config.gap_batches })
    }

    fn sample(&self, data: &SearchData, n_batches: usize) -> Sample {
        Sample::new(data, n_batches, self.config.batch, &self.normalize, self.seed)
    }

    fn groups(&self) -> Result<Vec<GroupSummary>, Error> {
        let group = |group| {
            let logits = self.arch.logits(group).to_vec2()?; // host sync, of a copy on the host
            let name = self.arch.name(group).to_owned();
            Ok(GroupSummary { name, entropy: self.arch.entropy(group)?, logits })
        };
        (0..self.arch.len()).map(group).collect()
    }

    /// Mean over all edges, in nats.
    fn entropy(&self) -> Result<f64, Error> {
        let mut all = Vec::new();
        for group in 0..self.arch.len() {
            all.extend(self.arch.entropy(group)?);
        }
        Ok(all.iter().sum::<f64>() / all.len().max(1) as f64)
    }

    fn parameter_free(&self) -> Result<f64, Error> {
        let choices = derive::argmax(&self.subject().probabilities()?);
        Ok(derive::parameter_free(self.layout(), &choices, self.catalog))
    }
}
