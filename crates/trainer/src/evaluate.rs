//! What the supernet is worth, and what is lost when its choices become discrete.

use std::collections::BTreeMap;

use candle_core::Tensor;
use controller::{ArchParams, EdgeParams, Paths};
use data::{Batch, BatchPlan, Batches, Normalize, SearchData, Subset, Tail, batches};
use network::{Network, Purpose, Routes, Supernet, inherit};
use ops::{
    BatchStats, Catalog, Draw, Forward, Mode, ParamStore, RunningStats, StatId, Statistics, kernels::loss,
};
use search_space::{Genotype, Rule};
use serde::Serialize;

use crate::{
    Error, Score, Seed, Stream,
    derive::{self, Choices},
    score::Tally,
};

/// The discretization gap: the same examples of the architecture's part, four ways to choose.
///
/// Batch-norm statistics under sampled paths are those of other paths, so they are computed anew for each of the four,
/// on batches of the weights' part: all of the sample's for choices that stay, one for every batch's own draw (as in
/// Dong & Yang, 2020, whose searches normalize by the batch: `track_running_stats=False`). Under per-edge argmax the last two are equal to the bit, which is checked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Gap {
    /// Every candidate, weighted by its probability.
    pub mixture: Score,
    /// One candidate an edge, drawn anew for every batch, with statistics of one batch under the same draw.
    pub sampled: Score,
    /// The likeliest candidate of every edge, `none` included.
    pub argmax: Score,
    /// The derived child with the supernet's weights.
    pub derived: Score,
    /// Examples they were measured on.
    pub examples: usize,
}

/// The state of a search that is measured; nothing of it changes.
pub(crate) struct Subject<'a> {
    pub(crate) supernet: &'a Supernet,
    pub(crate) params: &'a ParamStore,
    pub(crate) arch: &'a ArchParams,
    pub(crate) edges: Option<&'a EdgeParams>,
    pub(crate) catalog: &'a Catalog,
    pub(crate) seed: Seed,
    /// Distinguishes the draws of one evaluation from another's.
    pub(crate) epoch: usize,
    /// Steps of the epoch that are done, for messages.
    pub(crate) step: usize,
}

/// Which examples are looked at.
#[derive(Clone)]
pub(crate) struct Sample {
    weights: Subset,
    architecture: Subset,
    batch: usize,
    normalize: Normalize,
    seed: Seed,
}

/// The gap under way: a batch at a time, so that whoever waits may stop between two.
pub(crate) struct Measurement {
    sample: Sample,
    rule: Rule,
    pi: Vec<Vec<Vec<f64>>>,
    child: (Network, ParamStore),
    scores: Vec<Score>,
    scoring: Scoring,
    passes: usize,
}

/// The ways to choose, in the order in which they are measured.
const WAYS: [Way; 4] = [Way::Mixture, Way::Sampled, Way::Argmax, Way::Derived];

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Mixture,
    Sampled,
    Argmax,
    Derived,
}

/// A network's score under way: first the statistics, from the weights' part, then the loss, on the architecture's.
struct Scoring {
    weights: Batches,
    held: Batches,
    moments: Moments,
    /// Those to be scored, their statistics known; `None` until then.
    ready: Option<ParamStore>,
    tally: Tally,
    pass: u64,
}

/// Sums of the batches' moments, layer by layer, and how many there are of each.
#[derive(Default)]
struct Moments(BTreeMap<StatId, (Tensor, Tensor, f64)>);

/// A network with its choices made: batch in, logits out; the number counts passes.
type Run<'a> = dyn Fn(&Tensor, u64, &mut Forward<'_>) -> Result<Tensor, Error> + 'a;

impl Sample {
    /// Evenly spread examples: `n_batches` batches of both parts, or all there are.
    pub(crate) fn new(
        data: &SearchData,
        n_batches: usize,
        batch: usize,
        normalize: &Normalize,
        seed: Seed,
    ) -> Self {
        let n = n_batches.saturating_mul(batch);
        let (weights, architecture) = (data.weights().thinned(n), data.architecture().thinned(n));
        Self { weights, architecture, batch, normalize: normalize.clone(), seed }
    }

    /// Those from which statistics are made. Shuffled: a batch of one class has not the moments of the data.
    fn statistics(&self, params: &ParamStore) -> Result<Batches, Error> {
        let order = BatchPlan::shuffled(self.batch, self.seed.of(Stream::Evaluation), 0);
        let plan = BatchPlan { tail: tail(self.weights.len(), self.batch, 1), ..order };
        loader(&self.weights, plan, &self.normalize, params)
    }

    fn held_out(&self, params: &ParamStore) -> Result<Batches, Error> {
        loader(&self.architecture, BatchPlan::sequential(self.batch), &self.normalize, params)
    }
}

impl Measurement {
    /// Nothing has run yet; `genotype` is what the search's `rule` derives.
    pub(crate) fn new(
        subject: &Subject<'_>,
        sample: Sample,
        rule: Rule,
        genotype: &Genotype,
    ) -> Result<Self, Error> {
        let (pi, child) = (subject.probabilities()?, subject.inherited(genotype)?);
        let scoring = Scoring::new(subject.params, &sample)?;
        Ok(Self { sample, rule, pi, child, scores: Vec::new(), scoring, passes: 0 })
    }

    /// Batches that have run.
    pub(crate) fn passes(&self) -> usize {
        self.passes
    }

    /// Runs one batch; the gap once there is none left. `subject` is that of [`Measurement::new`].
    pub(crate) fn next(&mut self, subject: &Subject<'_>) -> Result<Option<Gap>, Error> {
        self.passes += 1;
        let way = WAYS[self.scores.len()];
        let Some(score) = self.pass(subject, way)? else { return Ok(None) };
        if !score.loss.is_finite() {
            return Err(self.diverged(subject, way)?);
        }
        self.scores.push(score);
        if let Some(way) = WAYS.get(self.scores.len()) {
            let params = if *way == Way::Derived { &self.child.1 } else { subject.params };
            self.scoring = Scoring::new(params, &self.sample)?;
            return Ok(None);
        }
        let [mixture, sampled, argmax, derived] = self.scores[..] else {
            unreachable!("there is a score for each of the ways")
        };
        if self.rule == Rule::Argmax && argmax != derived {
            return Err(Error::Unfaithful { argmax: argmax.loss, derived: derived.loss });
        }
        Ok(Some(Gap { mixture, sampled, argmax, derived, examples: self.sample.architecture.len() }))
    }

    /// The first operation whose output is not finite, looked for on the first batch.
    fn diverged(&self, subject: &Subject<'_>, way: Way) -> Result<Error, Error> {
        let (params, statistics) = (subject.params, &mut Statistics::default());
        let paths = match way {
            Way::Mixture => vec_of(&self.pi, |rows| Paths::Weighted(rows.clone())),
            Way::Sampled | Way::Argmax | Way::Derived => paths(&derive::argmax(&self.pi)),
        };
        let mut place = None;
        if let Some(batch) = self.sample.held_out(params)?.next() {
            let mut pass =
                Forward { params, mode: Mode::Eval, statistics, draw: draw(self.sample.seed, HELD_OUT) };
            let strengths = subject.strengths()?;
            let routes = Routes { paths: &paths, strengths: strengths.as_deref() };
            place = subject.supernet.diagnose(&batch?.x, routes, &mut pass)?.map(Box::new);
        }
        let what = "the loss of the discretization gap".into();
        Ok(Error::Diverged { epoch: subject.epoch, step: subject.step, what, place })
    }

    fn pass(&mut self, subject: &Subject<'_>, way: Way) -> Result<Option<Score>, Error> {
        let Self { sample, pi, child: (child, child_params), scoring, .. } = self;
        let strengths = subject.strengths()?;
        let run = |choose: &dyn Fn(u64) -> Vec<Paths>, x: &Tensor, pass, forward: &mut Forward<'_>| {
            let routes = Routes { paths: &choose(pass), strengths: strengths.as_deref() };
            Ok(subject.supernet.forward(x, routes, Purpose::Evaluate, forward)?.0)
        };
        let drawn = |pass| {
            let step = ((subject.epoch as u64) << 32) | pass;
            paths(&derive::draw(pi, &mut subject.seed.rng(Stream::Evaluation, step)))
        };
        match way {
            Way::Mixture => {
                let mixture = vec_of(pi, |rows| Paths::Weighted(rows.clone()));
                scoring.next(subject.params, &|x, n, f| run(&|_| mixture.clone(), x, n, f), sample.seed)
            }
            Way::Sampled => scoring.next_paired(subject.params, &|x, n, f| run(&drawn, x, n, f), sample),
            Way::Argmax => {
                let likeliest = paths(&derive::argmax(pi));
                scoring.next(subject.params, &|x, n, f| run(&|_| likeliest.clone(), x, n, f), sample.seed)
            }
            Way::Derived => scoring.next(child_params, &|x, _, f| logits(child, x, f), sample.seed),
        }
    }
}

impl Scoring {
    fn new(params: &ParamStore, sample: &Sample) -> Result<Self, Error> {
        Ok(Self {
            weights: sample.statistics(params)?,
            held: sample.held_out(params)?,
            moments: Moments::default(),
            ready: None,
            tally: Tally::default(),
            pass: 0,
        })
    }

    /// Runs one batch of a network whose choices stay the same; the score once there is none left.
    fn next(&mut self, params: &ParamStore, run: &Run<'_>, seed: Seed) -> Result<Option<Score>, Error> {
        let Some(ready) = &self.ready else {
            match self.weights.next() {
                Some(batch) => self.moments.add(params, run, &batch?, self.pass, seed)?,
                None => self.ready = Some(self.moments.replace(params)?),
            }
            self.pass += 1;
            return Ok(None);
        };
        let Some(batch) = self.held.next() else { return Ok(Some(self.tally.score().unwrap_or_default())) };
        self.pass += 1;
        evaluate(ready, run, &batch?, self.pass | HELD_OUT, seed, &mut self.tally)?;
        Ok(None)
    }

    /// Runs one batch of a network whose choices change from batch to batch, each with statistics of its own: those
    /// averaged over many architectures are those of none.
    fn next_paired(
        &mut self,
        params: &ParamStore,
        run: &Run<'_>,
        sample: &Sample,
    ) -> Result<Option<Score>, Error> {
        let Some(batch) = self.held.next() else { return Ok(Some(self.tally.score().unwrap_or_default())) };
        let statistics = match self.weights.next() {
            Some(batch) => batch?,
            None => {
                self.weights = sample.statistics(params)?;
                self.weights.next().expect("a part is not empty")?
            }
        };
        let mut moments = Moments::default();
        moments.add(params, run, &statistics, self.pass, sample.seed)?;
        evaluate(&moments.replace(params)?, run, &batch?, self.pass, sample.seed, &mut self.tally)?;
        self.pass += 1;
        Ok(None)
    }

    fn finish(&mut self, params: &ParamStore, run: &Run<'_>, seed: Seed) -> Result<Score, Error> {
        loop {
            if let Some(score) = self.next(params, run, seed)? {
                return Ok(score);
            }
        }
    }
}

impl Moments {
    fn add(
        &mut self,
        params: &ParamStore,
        run: &Run<'_>,
        batch: &Batch,
        pass: u64,
        seed: Seed,
    ) -> Result<(), Error> {
        let mut statistics = Statistics::default();
        let draw = draw(seed, pass);
        run(&batch.x, pass, &mut Forward { params, mode: Mode::Train, statistics: &mut statistics, draw })?;
        for (id, BatchStats { mean, var, .. }) in statistics.iter() {
            let sum = match self.0.remove(&id) {
                None => (mean.clone(), var.clone(), 1.0),
                Some((m, v, n)) => ((m + mean)?, (v + var)?, n + 1.0),
            };
            self.0.insert(id, sum);
        }
        Ok(())
    }

    /// `params` with the means of the moments for running statistics.
    fn replace(&self, params: &ParamStore) -> Result<ParamStore, Error> {
        let mut params = params.clone();
        for (id, (mean, var, n)) in &self.0 {
            params.set_stats(*id, RunningStats { mean: (mean / *n)?, var: (var / *n)? })?;
        }
        Ok(params)
    }
}

impl Subject<'_> {
    /// Measures all four ways; `genotype` is what the search's rule derives.
    pub(crate) fn gap(&self, sample: Sample, rule: Rule, genotype: &Genotype) -> Result<Gap, Error> {
        let mut measurement = Measurement::new(self, sample, rule, genotype)?;
        loop {
            if let Some(gap) = measurement.next(self)? {
                return Ok(gap);
            }
        }
    }

    /// The score of the supernet under `choices`.
    pub(crate) fn score(&self, sample: &Sample, choices: &Choices) -> Result<Score, Error> {
        let (paths, strengths) = (paths(choices), self.strengths()?);
        let routes = Routes { paths: &paths, strengths: strengths.as_deref() };
        let run: &Run<'_> =
            &|x, _, forward| Ok(self.supernet.forward(x, routes, Purpose::Evaluate, forward)?.0);
        Scoring::new(self.params, sample)?.finish(self.params, run, sample.seed)
    }

    /// `π` of every group.
    pub(crate) fn probabilities(&self) -> Result<Vec<Vec<Vec<f64>>>, Error> {
        (0..self.arch.len()).map(|group| Ok(self.arch.probabilities(group)?)).collect()
    }

    /// How strongly every edge counts, where edges are normalized.
    pub(crate) fn strengths(&self) -> Result<Option<Vec<Vec<f64>>>, Error> {
        Ok(self.edges.map(EdgeParams::strengths).transpose()?)
    }

    /// The child with the weights and statistics of the supernet, and with what its edges count there.
    pub(crate) fn inherited(&self, genotype: &Genotype) -> Result<(Network, ParamStore), Error> {
        let parent = self.supernet.layout();
        let layout = match self.strengths()? {
            None => parent.child(genotype)?,
            Some(strengths) => parent.clone().with_strengths(&strengths).child(genotype)?,
        };
        let (dtype, device) = (self.params.dtype(), self.params.device());
        let mut unused = self.seed.rng(Stream::Weights, 0); // every value is replaced
        let (child, params) = Network::new(layout, self.catalog, dtype, device, &mut unused)?;
        let mut params = params.with_maps(self.params.maps());
        let found = inherit(&mut params, self.params)?;
        if found != params.n_weights() {
            return Err(Error::Orphans { found, expected: params.n_weights() });
        }
        Ok((child, params))
    }
}

/// The child's parameters with statistics of its own.
pub(crate) fn recalibrated_child(
    child: &Network,
    params: &ParamStore,
    sample: &Sample,
) -> Result<ParamStore, Error> {
    let mut moments = Moments::default();
    for (pass, batch) in sample.statistics(params)?.enumerate() {
        moments.add(params, &|x, _, forward| logits(child, x, forward), &batch?, pass as u64, sample.seed)?;
    }
    moments.replace(params)
}

/// Marks the passes whose statistics are known apart from those that make them.
const HELD_OUT: u64 = 1 << 31;

/// Adds the loss and accuracy of one batch under the running statistics of `params`.
fn evaluate(
    params: &ParamStore,
    run: &Run<'_>,
    batch: &Batch,
    pass: u64,
    seed: Seed,
    tally: &mut Tally,
) -> Result<(), Error> {
    let statistics = &mut Statistics::default();
    let draw = draw(seed, pass);
    let logits = run(&batch.x, pass, &mut Forward { params, mode: Mode::Eval, statistics, draw })?;
    let head = loss::cross_entropy(&logits, &batch.y, 0.0)?;
    tally.add(head.loss, head.correct, batch.y.len());
    Ok(())
}

fn logits(child: &Network, x: &Tensor, forward: &mut Forward<'_>) -> Result<Tensor, Error> {
    Ok(child.forward(x, 0.0, Purpose::Evaluate, forward)?.0.main)
}

fn loader(
    subset: &Subset,
    plan: BatchPlan,
    normalize: &Normalize,
    params: &ParamStore,
) -> Result<Batches, Error> {
    let plan = BatchPlan { normalize: Some(normalize.clone()), ..plan };
    Ok(batches(subset, plan, params.dtype(), params.device())?)
}

/// A last batch of one example has no variance: it is left out wherever batches make statistics, and so is one that has no
/// `parts` of the same size for as many devices, or one example for each.
pub(crate) fn tail(examples: usize, batch: usize, parts: usize) -> Tail {
    let left = examples % batch;
    let uneven = !left.is_multiple_of(parts) || left / parts == 1;
    if examples > batch && uneven { Tail::Drop } else { Tail::Keep }
}

/// Choices as the network wants them; every edge has one.
fn paths(choices: &Choices) -> Vec<Paths> {
    let row = |choice: &Option<usize>| choice.expect("argmax and draws choose on every edge");
    vec_of(choices, |rows| Paths::Single(rows.iter().map(row).collect()))
}

fn vec_of<T, U>(items: &[T], f: impl Fn(&T) -> U) -> Vec<U> {
    items.iter().map(f).collect()
}

fn draw(seed: Seed, step: u64) -> Draw {
    Draw { seed: seed.of(Stream::Evaluation), step }
}
