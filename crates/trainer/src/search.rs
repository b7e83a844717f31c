//! The search: weights on one split, logits on another, one bilevel step after the other.

use std::{sync::Arc, time::Instant};

use candle_core::{DType, Device, Tensor};
use controller::{ArchParams, Demand, EdgeParams, Estimator, estimators};
use data::{Normalize, SearchData};
use network::{Network, Supernet};
use ops::{Catalog, ParamStore, kernels::ranks::Rank};
use search_space::{Genotype, Layout, LayoutRequest, Phase, Rule, Space};
use serde::{Deserialize, Serialize};

use crate::{
    Decision, EpochSummary, Error, Gap, Order, Progress, SearchConfig, Seed, StepReport, Stream,
    checkpoint::digest,
    config::Pace,
    derive,
    evaluate::{self, Measurement, Subject},
    feed::{Feed, Shelf},
    optimizer::{Adam, Sgd},
    score::Tally,
    tau::Temperature,
};

mod batches;
mod epoch;
mod held;
mod ranks;
mod resume;
mod steps;

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
    estimator: Arc<dyn Estimator>,
    supernet: Supernet,
    params: ParamStore,
    sgd: Sgd,
    arch: ArchParams,
    adam: Adam,
    /// Which edges count, where they are normalized, and what moves them.
    edges: Option<(EdgeParams, Adam)>,
    at: Position,
    weights: Tally,
    architecture: Tally,
    shelf: Shelf,
    weight_batches: Option<Feed>,
    arch_batches: Option<Feed>,
    measurement: Option<Measurement>,
    watching: Option<held::Watching>,
    temperature: Temperature,
    steps: usize,
    /// The sharpness when it was first measured.
    first_sharpness: Option<f64>,
    /// The logits of the last epoch without the sign to stop on.
    before: Vec<Tensor>,
    /// The edges' logits then.
    edges_before: Vec<Tensor>,
    stopped: bool,
    clock: Instant,
    gap_seconds: f64,
    digest: String,
    /// Which of several devices this is, where there are several.
    rank: Option<Rank>,
    /// Of the first, the others.
    others: Option<ranks::Others<'c>>,
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
        let layout = layout.partial(config.partial_channels, catalog)?;
        let seed = Seed(config.seed);
        let digest = digest(&[&config.to_yaml(), &format!("{layout:?}"), &format!("{data:?}")]);
        let arch =
            ArchParams::new(&layout.groups, DType::F64, &Device::Cpu, &mut seed.rng(Stream::Logits, 0))?;
        let edges = match config.edge_normalization {
            false => None,
            true => {
                let edges = EdgeParams::new(&layout, &mut seed.rng(Stream::EdgeLogits, 0))?;
                let adam = Adam::of(config.arch, edges.logits())?;
                Some((edges, adam))
            }
        };
        let (supernet, params) =
            Supernet::new(layout, catalog, DType::F32, device, &mut seed.rng(Stream::Weights, 0))?;
        let mut search = Self {
            estimator: estimators::by_name(&config.estimator)?.into(),
            sgd: Sgd::new(config.weights),
            adam: Adam::new(config.arch, &arch)?,
            edges_before: edges.iter().flat_map(|(edges, _)| edges.logits().to_vec()).collect(),
            edges,
            normalize: data.weights().normalize(),
            rule,
            catalog,
            seed,
            supernet,
            params,
            at: Position::default(),
            weights: Tally::default(),
            architecture: Tally::default(),
            shelf: Shelf::default(),
            weight_batches: None,
            arch_batches: None,
            measurement: None,
            watching: None,
            temperature: Temperature::new(config.tau.clone(), &arch),
            steps: 0,
            first_sharpness: None,
            before: (0..arch.len()).map(|group| arch.logits(group).detach()).collect(),
            stopped: false,
            clock: Instant::now(),
            gap_seconds: 0.0,
            digest,
            rank: None,
            others: None,
            arch,
            config,
        };
        search.steps = search.weight_plan(data).steps(data.weights().len());
        Ok(search)
    }

    /// The same search with maps stored as `maps`: `DType::BF16` halves them; a device takes what
    /// [`ops::kernels::gpu::Arithmetic::maps`] says. Weights, logits and checkpoints stay as they are.
    #[must_use]
    pub fn with_maps(mut self, maps: DType) -> Self {
        self.take_maps(maps);
        self
    }

    /// The same search with an estimator of the program's own, whatever the configuration names.
    #[must_use]
    pub fn with_estimator(mut self, estimator: Box<dyn Estimator>) -> Self {
        self.take_estimator(&estimator.into());
        self
    }

    /// Steps until an epoch is over; `None` once all are. `data` is that of [`Search::new`].
    ///
    /// # Errors
    /// The search diverged, or the data cannot be read.
    pub fn next_epoch(&mut self, data: &SearchData) -> Result<Option<EpochSummary>, Error> {
        Progress::until_epoch(|| self.next_step(data))
    }

    /// Makes one step: a batch of each split, the weights' and, after the warm-up, the logits' move. When an epoch has
    /// no step left, measures its gradient and its gap instead, a little a call, and then sums the epoch up.
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
        let norm = self.step_on_all(data)?;
        if self.at.step == steps {
            self.compare_ranks()?;
        }
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

    /// One bilevel step of this device; returns the norm of the weights' gradient.
    fn step_here(&mut self, data: &SearchData) -> Result<f64, Error> {
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
        Ok(norm)
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
            Rule::Top { inputs } => derive::top(layout, &self.ranked(pi)?, inputs),
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

    /// Probabilities times their edges' strengths, by which edges are ranked (PC-DARTS).
    fn ranked(&self, mut pi: Vec<Vec<Vec<f64>>>) -> Result<Vec<Vec<Vec<f64>>>, Error> {
        for (rows, strengths) in pi.iter_mut().zip(self.subject().strengths()?.unwrap_or_default()) {
            for (row, strength) in rows.iter_mut().zip(strengths) {
                row.iter_mut().for_each(|p| *p *= strength);
            }
        }
        Ok(pi)
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

    /// Which edges count, where they are normalized.
    #[must_use]
    pub fn edge_params(&self) -> Option<&EdgeParams> {
        self.edges.as_ref().map(|(edges, _)| edges)
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
}
