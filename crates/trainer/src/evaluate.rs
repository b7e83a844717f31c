//! What the supernet is worth, and what is lost when its choices become discrete.

use std::collections::BTreeMap;

use candle_core::Tensor;
use controller::{ArchParams, Paths};
use data::{Batch, BatchPlan, Normalize, SearchData, Subset, Tail, batches};
use network::{Network, Purpose, Supernet, inherit};
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
/// on batches of the weights' part. Under per-edge argmax the last two are equal to the bit, which is checked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Gap {
    /// Every candidate, weighted by its probability.
    pub mixture: Score,
    /// One candidate an edge, drawn anew for every batch.
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
    pub(crate) catalog: &'a Catalog,
    pub(crate) seed: Seed,
    /// Distinguishes the draws of one evaluation from another's.
    pub(crate) epoch: usize,
}

/// Which examples are looked at.
pub(crate) struct Sample<'a> {
    weights: Subset,
    architecture: Subset,
    batch: usize,
    normalize: &'a Normalize,
    seed: Seed,
}

/// A network with its choices made: batch in, logits out; the number counts passes.
type Run<'a> = dyn Fn(&Tensor, u64, &mut Forward<'_>) -> Result<Tensor, Error> + 'a;

impl<'a> Sample<'a> {
    /// Evenly spread examples: `n_batches` batches of both parts, or all there are.
    pub(crate) fn new(
        data: &SearchData,
        n_batches: usize,
        batch: usize,
        normalize: &'a Normalize,
        seed: Seed,
    ) -> Self {
        let n = n_batches.saturating_mul(batch);
        let (weights, architecture) = (data.weights().thinned(n), data.architecture().thinned(n));
        Self { weights, architecture, batch, normalize, seed }
    }

    pub(crate) fn examples(&self) -> usize {
        self.architecture.len()
    }
}

impl Subject<'_> {
    /// Measures all four ways; `genotype` is what the search's rule derives.
    pub(crate) fn gap(&self, sample: &Sample<'_>, rule: Rule, genotype: &Genotype) -> Result<Gap, Error> {
        let pi = self.probabilities()?;
        let mixture = vec_of(&pi, |rows| Paths::Weighted(rows.clone()));
        let mixture = self.supernet_score(sample, &|_| mixture.clone())?;
        let sampled = self.supernet_score(sample, &|pass| {
            let step = ((self.epoch as u64) << 32) | pass;
            paths(&derive::draw(&pi, &mut self.seed.rng(Stream::Evaluation, step)))
        })?;
        let likeliest = paths(&derive::argmax(&pi));
        let argmax = self.supernet_score(sample, &|_| likeliest.clone())?;
        let (child, params) = self.inherited(genotype)?;
        let derived = child_score(&child, &params, sample)?;
        if rule == Rule::Argmax && argmax != derived {
            return Err(Error::Unfaithful { argmax: argmax.loss, derived: derived.loss });
        }
        Ok(Gap { mixture, sampled, argmax, derived, examples: sample.examples() })
    }

    /// The score of the supernet under `choices`.
    pub(crate) fn score(&self, sample: &Sample<'_>, choices: &Choices) -> Result<Score, Error> {
        let paths = paths(choices);
        self.supernet_score(sample, &|_| paths.clone())
    }

    /// `π` of every group.
    pub(crate) fn probabilities(&self) -> Result<Vec<Vec<Vec<f64>>>, Error> {
        (0..self.arch.len()).map(|group| Ok(self.arch.probabilities(group)?)).collect()
    }

    /// The child with the weights and statistics of the supernet.
    pub(crate) fn inherited(&self, genotype: &Genotype) -> Result<(Network, ParamStore), Error> {
        let layout = self.supernet.layout().child(genotype)?;
        let (dtype, device) = (self.params.dtype(), self.params.device());
        let mut unused = self.seed.rng(Stream::Weights, 0); // every value is replaced
        let (child, mut params) = Network::new(layout, self.catalog, dtype, device, &mut unused)?;
        let found = inherit(&mut params, self.params)?;
        if found != params.n_weights() {
            return Err(Error::Orphans { found, expected: params.n_weights() });
        }
        Ok((child, params))
    }

    fn supernet_score(
        &self,
        sample: &Sample<'_>,
        choose: &dyn Fn(u64) -> Vec<Paths>,
    ) -> Result<Score, Error> {
        let run: &Run<'_> =
            &|x, pass, forward| Ok(self.supernet.forward(x, &choose(pass), Purpose::Evaluate, forward)?.0);
        let params = recalibrated(self.params, run, sample)?;
        held_out(&params, run, sample)
    }
}

/// The score of a child on the architecture's part, its statistics computed anew.
pub(crate) fn child_score(child: &Network, params: &ParamStore, sample: &Sample<'_>) -> Result<Score, Error> {
    let run: &Run<'_> = &|x, _, forward| Ok(child.forward(x, 0.0, Purpose::Evaluate, forward)?.0.main);
    held_out(&recalibrated(params, run, sample)?, run, sample)
}

/// The child's parameters with statistics of its own.
pub(crate) fn recalibrated_child(
    child: &Network,
    params: &ParamStore,
    sample: &Sample<'_>,
) -> Result<ParamStore, Error> {
    recalibrated(
        params,
        &|x, _, forward| Ok(child.forward(x, 0.0, Purpose::Evaluate, forward)?.0.main),
        sample,
    )
}

/// Replaces running statistics by the mean of the moments of the sample's batches of the weights' part.
fn recalibrated(params: &ParamStore, run: &Run<'_>, sample: &Sample<'_>) -> Result<ParamStore, Error> {
    let mut sums: BTreeMap<StatId, (Tensor, Tensor, f64)> = BTreeMap::new();
    // Shuffled: a batch of one class has not the moments of the data.
    let order = BatchPlan::shuffled(sample.batch, sample.seed.of(Stream::Evaluation), 0);
    let plan = BatchPlan { tail: tail(sample.weights.len(), sample.batch), ..order };
    for (pass, batch) in loader(&sample.weights, plan, sample.normalize, params)?.enumerate() {
        let mut statistics = Statistics::default();
        let draw = draw(sample.seed, pass as u64);
        let mut forward = Forward { params, mode: Mode::Train, statistics: &mut statistics, draw };
        run(&batch?.x, pass as u64, &mut forward)?;
        for (id, BatchStats { mean, var, .. }) in statistics.iter() {
            let sum = match sums.remove(&id) {
                None => (mean.clone(), var.clone(), 1.0),
                Some((m, v, n)) => ((m + mean)?, (v + var)?, n + 1.0),
            };
            sums.insert(id, sum);
        }
    }
    let mut params = params.clone();
    for (id, (mean, var, n)) in sums {
        params.set_stats(id, RunningStats { mean: (mean / n)?, var: (var / n)? })?;
    }
    Ok(params)
}

fn held_out(params: &ParamStore, run: &Run<'_>, sample: &Sample<'_>) -> Result<Score, Error> {
    let plan = BatchPlan::sequential(sample.batch);
    let batches = loader(&sample.architecture, plan, sample.normalize, params)?;
    let tally = tally(params, run, batches, sample.seed)?;
    Ok(tally.score().unwrap_or_default())
}

/// Loss and accuracy with running statistics.
fn tally(
    params: &ParamStore,
    run: &Run<'_>,
    batches: impl Iterator<Item = Result<Batch, data::Error>>,
    seed: Seed,
) -> Result<Tally, Error> {
    let mut tally = Tally::default();
    for (pass, batch) in batches.enumerate() {
        let Batch { x, y, .. } = batch?;
        let pass = pass as u64 | 1 << 31; // apart from those of the statistics
        let statistics = &mut Statistics::default();
        let logits =
            run(&x, pass, &mut Forward { params, mode: Mode::Eval, statistics, draw: draw(seed, pass) })?;
        let head = loss::cross_entropy(&logits, &y, 0.0)?;
        tally.add(head.loss, head.correct, y.len());
    }
    Ok(tally)
}

/// The score of a trained network on `subset`, with its own running statistics.
pub(crate) fn test(
    network: &Network,
    params: &ParamStore,
    subset: &Subset,
    batch: usize,
    normalize: &Normalize,
) -> Result<Score, Error> {
    let run: &Run<'_> = &|x, _, forward| Ok(network.forward(x, 0.0, Purpose::Evaluate, forward)?.0.main);
    let batches = loader(subset, BatchPlan::sequential(batch), normalize, params)?;
    Ok(tally(params, run, batches, Seed::default())?.score().unwrap_or_default())
}

fn loader(
    subset: &Subset,
    plan: BatchPlan,
    normalize: &Normalize,
    params: &ParamStore,
) -> Result<data::Batches, Error> {
    let plan = BatchPlan { normalize: Some(normalize.clone()), ..plan };
    Ok(batches(subset, plan, params.dtype(), params.device())?)
}

/// A last batch of one example has no variance: it is left out wherever batches make statistics.
pub(crate) fn tail(examples: usize, batch: usize) -> Tail {
    if examples > batch && examples % batch == 1 { Tail::Drop } else { Tail::Keep }
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
