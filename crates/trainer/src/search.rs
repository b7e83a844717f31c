//! The search: weights on one split, logits on another, one bilevel step after the other.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use controller::{
    ArchParams, Demand, Estimator, Paths, Tau,
    estimators::{self, Darts, Proxyless},
};
use data::{Batch, BatchPlan, Batches, Normalize, SearchData, batches};
use network::{Network, Supernet};
use ops::{Catalog, Draw, Gradients, ParamStore, Statistics};
use search_space::{Genotype, Layout, LayoutRequest, Phase, Rule, Space};
use serde::{Deserialize, Serialize};

use crate::{
    ArchConfig, Collapse, Course, Decision, EpochSummary, Error, Gap, GroupSummary, Order, Progress, RunDir,
    SearchConfig, Seed, StepReport, Stream,
    bilevel::{self, Losses, Relaxed, Task},
    checkpoint::{Checkpoint, digest},
    config::{Pace, WatchConfig},
    derive,
    error::FileError,
    evaluate::{self, Measurement, Sample, Subject},
    optimizer::{Adam, Moments, Sgd},
    regularize::Terms,
    run_dir::Part,
    score::Tally,
    storage::file,
    tau::{self, Temperature},
    watch::{GradientNoise, dominant},
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
    temperature: Temperature,
    steps: usize,
    /// The sharpness when it was first measured.
    first_sharpness: Option<f64>,
    /// The logits of the last epoch without the sign to stop on.
    before: Vec<Tensor>,
    stopped: bool,
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
    stopped: bool,
}

const VERSION: u32 = 2;

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
        let mut search = Self {
            estimator: estimators::by_name(&config.estimator)?,
            sgd: Sgd::new(config.weights),
            adam: Adam::new(config.arch, &arch)?,
            normalize: data.weights().normalize(),
            rule,
            catalog,
            seed,
            supernet,
            params,
            at: Position::default(),
            weights: Tally::default(),
            architecture: Tally::default(),
            weight_batches: None,
            arch_batches: None,
            measurement: None,
            temperature: Temperature::new(config.tau.clone(), &arch),
            steps: 0,
            first_sharpness: None,
            before: (0..arch.len()).map(|group| arch.logits(group).detach()).collect(),
            stopped: false,
            clock: Instant::now(),
            gap_seconds: 0.0,
            digest,
            arch,
            config,
        };
        search.steps = search.weight_plan(data).steps(data.weights().len());
        Ok(search)
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
        if self.stopped || self.at.epoch == self.config.epochs {
            return Ok(Progress::Finished);
        }
        let steps = self.steps;
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
            stopped: self.stopped,
        };
        let mut checkpoint = Checkpoint::new(&header);
        checkpoint.put_weights(&self.params, &self.sgd);
        for (group, Moments { first, second }) in self.adam.moments().iter().enumerate() {
            let name = self.arch.name(group);
            checkpoint.put(format!("logits.{name}"), self.arch.logits(group));
            checkpoint.put(format!("adam.first.{name}"), first);
            checkpoint.put(format!("adam.second.{name}"), second);
            checkpoint.put(format!("before.{name}"), &self.before[group]);
        }
        checkpoint.put_numbers("tau", &self.temperature.numbers())?;
        checkpoint.put_numbers("sharpness", &[self.first_sharpness.unwrap_or(-1.0)])?;
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
        let Header { version, digest, at, adam_steps, stopped } = checkpoint.header()?;
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
            self.before[group] = get("before")?.clone();
        }
        let n = self.temperature.numbers().len();
        self.temperature.restore(&checkpoint.number_list("tau", n)?);
        let [sharpness] = checkpoint.numbers::<1>("sharpness")?;
        self.first_sharpness = Some(sharpness).filter(|sharpness| *sharpness >= 0.0);
        self.stopped = stopped;
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

    /// The present temperature; the mean over edges where each has its own.
    #[must_use]
    pub fn tau(&self) -> f64 {
        let taus = self.taus().concat();
        match taus[..] {
            [first, ..] if taus.iter().all(|tau| *tau == first) => first,
            _ => taus.iter().sum::<f64>() / taus.len().max(1) as f64,
        }
    }

    /// The present temperature of every edge, by group and row.
    #[must_use]
    pub fn taus(&self) -> Vec<Vec<f64>> {
        let warmup = self.config.warmup();
        let (epoch, epochs) = (self.at.epoch.saturating_sub(warmup), self.config.epochs - warmup);
        let (now, all) = match self.config.tau.by {
            Pace::Epoch => (epoch, epochs),
            Pace::Step if self.warming_up() => (0, 2),
            Pace::Step => (epoch * self.steps + self.at.step.min(self.steps.max(1) - 1), epochs * self.steps),
        };
        let progress = if all < 2 { 0.0 } else { now as f64 / (all - 1) as f64 };
        self.temperature.values(progress, epochs)
    }

    /// Whether the search ended early, on the sign it was asked to stop on; what it derives is from before that.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stopped
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
        let (alphas, slopes) = gradients.split_at(before.len());
        let (mut alphas, mut slopes) = (alphas.to_vec(), tau::to_rows(slopes)?);
        self.terms().add(&self.arch, &self.taus(), &mut alphas, &mut slopes)?;
        self.temperature.learn(&slopes);
        self.adam.step(&mut self.arch, &alphas).map_err(failed)?;
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

    /// The weights of what is added to the loss, in the present epoch.
    fn terms(&self) -> Terms {
        let (warmup, ArchConfig { entropy_bonus, beta_decay, dirichlet_kl, .. }) =
            (self.config.warmup(), self.config.arch);
        let (epoch, epochs) = (self.at.epoch.saturating_sub(warmup), self.config.epochs - warmup);
        let now = |course: Course| course.arriving(epoch, epochs);
        Terms { bonus: now(entropy_bonus), decay: now(beta_decay), divergence: now(dirichlet_kl) }
    }

    fn relaxed(&self, stream: Stream, step: u64) -> Result<Vec<Relaxed>, Error> {
        self.relaxed_by(self.estimator.as_ref(), stream, step)
    }

    fn relaxed_by(
        &self,
        estimator: &dyn Estimator,
        stream: Stream,
        step: u64,
    ) -> Result<Vec<Relaxed>, Error> {
        let Position { epoch, step: at, .. } = self.at;
        let taus = self.taus();
        if let Some((group, row, value)) = not_a_temperature(&taus) {
            let (group, edge) = (self.arch.name(group).to_owned(), self.arch.group(group).edges[row]);
            return Err(Error::Temperature { epoch, step: at, group, edge, value });
        }
        let columns = Temperature::columns(&taus)?;
        Ok(Relaxed::samples(&self.arch, estimator, &columns, &mut self.seed.rng(stream, step))?)
    }

    /// The noise of the architecture's gradient, on a held batch with frozen weights.
    fn noise(&self, batch: &Batch) -> Result<Option<GradientNoise>, Error> {
        let WatchConfig { draws, reference, .. } = &self.config.watch;
        if *draws == 0 {
            return Ok(None);
        }
        let draw = |index: usize| self.held_gradient(self.estimator.as_ref(), batch, index as u64);
        let gradients = (0..*draws).map(draw).collect::<Result<Vec<_>, Error>>()?;
        let reference = match reference {
            None => None,
            Some(name) => Some(self.held_gradient(estimators::by_name(name)?.as_ref(), batch, 1 << 31)?),
        };
        Ok(Some(GradientNoise::of(&self.arch, &gradients, reference.as_deref())?))
    }

    /// One `∂L/∂α`, with the noise of the present epoch's draw `index`.
    fn held_gradient(
        &self,
        estimator: &dyn Estimator,
        batch: &Batch,
        index: u64,
    ) -> Result<Vec<Tensor>, Error> {
        let step = (self.at.epoch as u64) << 32 | index;
        let relaxed = self.relaxed_by(estimator, Stream::Watch, step)?;
        let task = self.task(batch, &relaxed, Stream::Watch, self.at.epoch as u64, "measured");
        Ok(task.logits(&self.params, &self.arch, estimator)?.1)
    }

    /// The dominant eigenvalue of `∇²_α` of the mixture's loss, by power iteration on central differences.
    fn sharpness(&self, batch: &Batch) -> Result<f64, Error> {
        const REACH: f64 = 1e-2;
        let rng = &mut self.seed.rng(Stream::Watch, u64::MAX);
        let start = ArchParams::new(&self.layout().groups, DType::F64, &Device::Cpu, rng)?;
        let start = (0..start.len()).map(|group| start.logits(group).detach()).collect();
        let gradient = |arch: &ArchParams| -> Result<Vec<Tensor>, Error> {
            let taus = Temperature::columns(&self.taus())?;
            let relaxed = Relaxed::samples(arch, &Darts, &taus, &mut self.seed.rng(Stream::Watch, 0))?;
            let task = self.task(batch, &relaxed, Stream::Watch, self.at.epoch as u64, "measured");
            Ok(task.logits(&self.params, arch, &Darts)?.1)
        };
        let eigenvalue = dominant(start, 8, |v| -> Result<Vec<Tensor>, Error> {
            let plus = gradient(&self.arch.shifted(v, REACH)?)?;
            let minus = gradient(&self.arch.shifted(v, -REACH)?)?;
            let difference = |(plus, minus): (&Tensor, &Tensor)| Ok(((plus - minus)? * (0.5 / REACH))?);
            plus.iter().zip(&minus).take(v.len()).map(difference).collect()
        });
        Ok(eigenvalue?.abs())
    }

    /// A batch of the architecture's part, the same for all that one epoch measures.
    fn held_batch(&self, data: &SearchData) -> Result<Batch, Error> {
        let plan = BatchPlan {
            normalize: Some(self.normalize.clone()),
            ..BatchPlan::shuffled(self.config.batch, self.seed.of(Stream::Watch), self.at.epoch as u64)
        };
        let batch = batches(data.architecture(), plan, self.params.dtype(), self.params.device())?.next();
        Ok(batch.expect("a part is not empty")?)
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
        let started = Instant::now();
        let (noise, sharpness) = self.watch(data)?;
        let ratio = noise.as_ref().map(|noise| noise.noise_to_signal);
        self.first_sharpness = self.first_sharpness.or(sharpness);
        let choices = derive::argmax(&self.subject().probabilities()?);
        let collapse = Collapse::of(self.layout(), &choices, sharpness);
        let entropy = self.entropy()?;
        let stop = self.config.watch.stop_on.filter(|_| !self.warming_up());
        let stopped = stop.is_some_and(|stop| collapse.is(stop, entropy, self.first_sharpness));
        let warnings = if self.warming_up() { Vec::new() } else { collapse.warnings(self.first_sharpness) };
        for warning in &warnings {
            tracing::warn!(epoch = self.at.epoch, "{warning}");
        }
        let summary = EpochSummary {
            epoch: self.at.epoch,
            warmup: self.warming_up(),
            tau: self.tau(),
            lr: self.lr(),
            weights: self.weights.score().unwrap_or_default(),
            architecture: self.architecture.score(),
            entropy,
            parameter_free: self.parameter_free()?,
            noise,
            collapse,
            warnings,
            stopped,
            groups: self.groups()?,
            gap,
            genotype: genotype.to_string(),
            disconnected,
            seconds: self.clock.elapsed().as_secs_f64(),
            gap_seconds: std::mem::take(&mut self.gap_seconds),
            watch_seconds: started.elapsed().as_secs_f64(),
        };
        self.temperature.hear(ratio); // after the summary, which says how warm the epoch was
        self.stopped = stopped;
        for group in 0..self.arch.len() {
            if stopped {
                let misfit = |source| Error::Logits { epoch: self.at.epoch, step: self.at.step, source };
                self.arch.set_logits(group, &self.before[group]).map_err(misfit)?;
            } else {
                self.before[group] = self.arch.logits(group).detach();
            }
        }
        self.at.epoch += 1;
        self.at.step = 0;
        (self.weights, self.architecture) = (Tally::default(), Tally::default());
        self.weight_batches = None;
        Ok(Progress::Epoch(summary))
    }

    /// Noise and sharpness, where the settings ask for them.
    fn watch(&self, data: &SearchData) -> Result<(Option<GradientNoise>, Option<f64>), Error> {
        let after = self.at.epoch.saturating_sub(self.config.warmup());
        let sharp = self.config.watch.sharpness_every().is_some_and(|every| after.is_multiple_of(every));
        if self.warming_up() || (self.config.watch.draws == 0 && !sharp) {
            return Ok((None, None));
        }
        let batch = self.held_batch(data)?;
        Ok((self.noise(&batch)?, sharp.then(|| self.sharpness(&batch)).transpose()?))
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
        let taus = self.taus();
        let group = |group| {
            let logits = self.arch.logits(group).to_vec2()?; // host sync, of a copy on the host
            let name = self.arch.name(group).to_owned();
            let (entropy, margin) = (self.arch.entropy(group)?, self.arch.margins(group)?);
            Ok(GroupSummary { name, entropy, margin, tau: taus[group].clone(), logits })
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

/// The first that is not finite or not above zero: its group, its row, itself.
fn not_a_temperature(taus: &[Vec<f64>]) -> Option<(usize, usize, f64)> {
    let all = taus
        .iter()
        .enumerate()
        .flat_map(|(group, rows)| rows.iter().enumerate().map(move |(row, &tau)| (group, row, tau)));
    all.into_iter().find(|(_, _, tau)| Tau::new(*tau).is_err())
}
