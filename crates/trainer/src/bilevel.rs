//! One step of the two nested problems: gradients of the weights, gradients of the logits.

use candle_core::{Result as TensorResult, Tensor};
use controller::{ArchParams, Demand, EdgeParams, Estimator, Gates, Paths};
use data::Batch;
use network::{Answers, Purpose, Routes, Slopes, Supernet, Trace};
use ops::{
    Backward, BatchStats, Draw, Forward, Gradients, Mode, ParamStore, Statistics,
    kernels::{
        Later,
        loss::{self, PendingLoss},
        ranks::Rank,
        sum, update,
    },
};
use rand_chacha::ChaCha8Rng;

use crate::{Error, enumerate::Choices, optimizer::Sgd, score::Tally};

/// How far the unrolled step looks to both sides: `ε = 0.01 / ‖v‖` (Liu et al., 2019, §2.3).
pub(crate) const REACH: f64 = 0.01;

/// One choice for all edges, and the graph by which gradients return to the logits and the temperatures.
pub(crate) struct Relaxed {
    gates: Vec<Gates>,
    paths: Vec<Paths>,
    taus: Vec<Tensor>,
}

impl Relaxed {
    /// Relaxes every group in order, with noise from `rng`; `taus` has a scalar or a column `(E, 1)` per group.
    pub(crate) fn new(
        arch: &ArchParams,
        estimator: &dyn Estimator,
        taus: &[Tensor],
        rng: &mut ChaCha8Rng,
    ) -> TensorResult<Self> {
        let relax = |(group, tau)| estimator.relax(arch.logits(group), tau, rng);
        let gates: Vec<Gates> = taus.iter().enumerate().map(relax).collect::<TensorResult<_>>()?;
        let paths = gates.iter().map(|gates| gates.paths().clone()).collect();
        Ok(Self { gates, paths, taus: taus.to_vec() })
    }

    /// As many as the estimator compares the losses of, one after the other from the same `rng`.
    pub(crate) fn samples(
        arch: &ArchParams,
        estimator: &dyn Estimator,
        taus: &[Tensor],
        rng: &mut ChaCha8Rng,
    ) -> TensorResult<Vec<Self>> {
        let n = if let Demand::Losses(n) = estimator.demand() { n } else { 1 };
        (0..n).map(|_| Self::new(arch, estimator, taus, rng)).collect()
    }

    /// What the network runs, one entry per group.
    pub(crate) fn paths(&self) -> &[Paths] {
        &self.paths
    }

    /// `∂L/∂α` of every group, `(E, K)`, and behind them `∂L/∂τ` of every group.
    fn pull(&self, arch: &ArchParams, answers: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        let (mut alphas, mut taus) = (Vec::new(), Vec::new());
        for (group, (gates, answer)) in self.gates.iter().zip(answers).enumerate() {
            let (alpha, tau) = arch.gradient(group, gates, answer, &self.taus[group])?;
            alphas.push(alpha);
            taus.push(tau);
        }
        Ok([alphas, taus].concat())
    }
}

/// A batch and the choices with which it runs.
pub(crate) struct Task<'a> {
    pub(crate) supernet: &'a Supernet,
    pub(crate) batch: &'a Batch,
    /// One; or as many as the estimator compares the losses of.
    pub(crate) relaxed: &'a [Relaxed],
    /// Which edges count, where they are normalized.
    pub(crate) edges: Option<&'a EdgeParams>,
    pub(crate) draw: Draw,
    /// Epoch and step, for messages.
    pub(crate) at: (usize, usize),
    /// Which step it is, for messages.
    pub(crate) name: &'static str,
    /// Which of several devices this is, where they learn together: what is found then is the mean over all of them.
    pub(crate) rank: Option<&'a Rank>,
}

/// What a pass through the network and back found; a device may still be computing its numbers.
pub(crate) struct Walked {
    loss: PendingLoss,
    /// For the relaxation, where the purpose was to ask.
    slopes: Slopes,
    /// `∂L/∂w` of the weights that took part.
    pub(crate) gradients: Gradients,
    /// The moments that the batch norms saw.
    pub(crate) statistics: Statistics,
}

impl Walked {
    /// What [`Later::settle`] makes known.
    pub(crate) fn numbers(&mut self) -> impl Iterator<Item = &mut Later> {
        self.loss.numbers().into_iter().chain(self.slopes.numbers())
    }
}

impl Task<'_> {
    /// A pass for the weights' sake, and with [`Purpose::Joint`] also for the logits'.
    pub(crate) fn weights(&self, params: &ParamStore, purpose: Purpose) -> Result<Walked, Error> {
        let mut gradients = Gradients::new(params);
        let mut statistics = Statistics::default();
        let (loss, slopes) = self.run(params, purpose, &mut statistics, Some(&mut gradients))?;
        let (gradients, statistics) = self.of_all(params, gradients, statistics)?;
        Ok(Walked { loss, slopes, gradients, statistics })
    }

    /// The loss of a pass of this task's with `params`.
    pub(crate) fn tally_of(&self, params: &ParamStore, walked: &Walked) -> Result<Tally, Error> {
        self.settled(params, self.relaxed[0].paths(), &walked.loss)
    }

    /// What a joint pass of this task's found for the logits, as [`Task::logits`] gives it.
    pub(crate) fn slopes_of(&self, arch: &ArchParams, walked: &Walked) -> Result<Vec<Tensor>, Error> {
        self.pull(arch, &walked.slopes.answers(self.supernet.layout())?)
    }

    /// The loss, `∂L/∂α` of every group, `(E, K)`, behind them `∂L/∂τ` of every group, and behind those, where edges are
    /// normalized, `∂L/∂b` of their logits, `(E,)` of every group; no gradient of a weight is computed, no statistic moves.
    pub(crate) fn logits(
        &self,
        params: &ParamStore,
        arch: &ArchParams,
        estimator: &dyn Estimator,
    ) -> Result<(Tally, Vec<Tensor>), Error> {
        let demand = match estimator.demand() {
            Demand::Losses(_) => return self.credited(params, arch, estimator),
            Demand::Enumeration(limit) => return self.enumerated(params, arch, limit),
            Demand::Joint => Demand::Mixture,
            demand => demand,
        };
        let purpose = Purpose::Architecture(demand);
        let (tally, answers) = self.answers(params, purpose)?;
        Ok((tally, self.pull(arch, &answers)?))
    }

    /// One pass for the logits' sake. Waits for a device, once.
    fn answers(&self, params: &ParamStore, purpose: Purpose) -> Result<(Tally, Answers), Error> {
        let (mut loss, mut slopes) = self.run(params, purpose, &mut Statistics::default(), None)?;
        Later::settle(loss.numbers().into_iter().chain(slopes.numbers()))?;
        let tally = self.settled(params, self.relaxed[0].paths(), &loss)?;
        Ok((tally, slopes.answers(self.supernet.layout())?))
    }

    /// What [`Task::logits`] gives, of one pass.
    fn pull(&self, arch: &ArchParams, answers: &Answers) -> Result<Vec<Tensor>, Error> {
        let mut pulled = self.relaxed[0].pull(arch, &answers.gates)?;
        if let Some(edges) = self.edges {
            pulled.extend(edges.gradient(&answers.strengths)?);
        }
        self.slopes_of_all(pulled)
    }

    /// The means over all ranks; here and below, what is given where there are none.
    fn slopes_of_all(&self, slopes: Vec<Tensor>) -> Result<Vec<Tensor>, Error> {
        let Some(rank) = self.rank else { return Ok(slopes) };
        Ok(rank.mean(&slopes.iter().collect::<Vec<_>>())?)
    }

    fn of_all(
        &self,
        params: &ParamStore,
        gradients: Gradients,
        statistics: Statistics,
    ) -> Result<(Gradients, Statistics), Error> {
        let Some(rank) = self.rank else { return Ok((gradients, statistics)) };
        let moments = statistics.iter().flat_map(|(_, batch)| [&batch.mean, &batch.var]);
        let found: Vec<&Tensor> = gradients.iter().map(|(_, gradient)| gradient).chain(moments).collect();
        let mut means = rank.mean(&found)?.into_iter();
        let mut next = || means.next().expect("there is a mean of every tensor");
        let (mut joint, mut reported) = (Gradients::new(params), Statistics::default());
        gradients.iter().try_for_each(|(id, _)| joint.add(id, next()))?;
        for (id, batch) in statistics.iter() {
            let (mean, var) = (next(), next());
            reported.report(id, BatchStats { mean, var, momentum: batch.momentum });
        }
        Ok((joint, reported))
    }

    /// Adds `∂L/∂b` to gradients that were made of losses alone. The edges' strengths are no choice: their gradient is that of
    /// the first sample's path, walked back.
    fn with_edges(&self, params: &ParamStore, mut gradients: Vec<Tensor>) -> Result<Vec<Tensor>, Error> {
        if let Some(edges) = self.edges {
            let (_, answers) = self.answers(params, Purpose::Architecture(Demand::Chosen))?;
            gradients.extend(self.slopes_of_all(edges.gradient(&answers.strengths)?)?);
        }
        Ok(gradients)
    }

    /// The loss alone.
    pub(crate) fn tally(&self, params: &ParamStore) -> Result<Tally, Error> {
        self.loss(params, self.relaxed[0].paths())
    }

    fn loss(&self, params: &ParamStore, paths: &[Paths]) -> Result<Tally, Error> {
        let (mut loss, _) = self.forward(params, paths, Purpose::Evaluate, &mut Statistics::default())?;
        Later::settle(loss.numbers())?;
        self.settled(params, paths, &loss)
    }

    /// Every sample's score, weighted by the credit of its loss.
    fn credited(
        &self,
        params: &ParamStore,
        arch: &ArchParams,
        estimator: &dyn Estimator,
    ) -> Result<(Tally, Vec<Tensor>), Error> {
        let (mut all, mut losses) = (Tally::default(), Vec::new());
        for sample in self.relaxed {
            let tally = self.loss(params, sample.paths())?;
            losses.push(tally.mean_loss());
            all.merge(tally);
        }
        let mut sum: Option<Vec<Tensor>> = None;
        for (sample, credit) in self.relaxed.iter().zip(estimator.credit(&losses)) {
            let fill =
                |gates: &Gates| Tensor::full(credit, gates.weights().shape(), gates.weights().device());
            let answers: Vec<Tensor> = sample.gates.iter().map(fill).collect::<TensorResult<_>>()?;
            let pulled = sample.pull(arch, &answers)?;
            sum = Some(match sum {
                None => pulled,
                Some(sum) => sum.iter().zip(&pulled).map(|(a, b)| a + b).collect::<TensorResult<_>>()?,
            });
        }
        Ok((all, self.with_edges(params, sum.unwrap_or_default())?))
    }

    /// `E[L | k]` of every edge and candidate, pulled back: over all architectures where there are at most `limit`,
    /// otherwise over one edge at a time.
    fn enumerated(
        &self,
        params: &ParamStore,
        arch: &ArchParams,
        limit: usize,
    ) -> Result<(Tally, Vec<Tensor>), Error> {
        let sample = &self.relaxed[0];
        let choices = Choices::of(arch, sample.paths())?;
        let tally = self.loss(params, sample.paths())?;
        let losses = |chosen: &[usize]| Ok(self.loss(params, &choices.paths(chosen))?.mean_loss());
        let expected = if choices.count() <= limit {
            choices.all(losses)?
        } else {
            choices.edge_by_edge(tally.mean_loss(), losses)?
        };
        Ok((tally, self.with_edges(params, sample.pull(arch, &choices.matrices(expected)?)?)?))
    }

    fn run(
        &self,
        params: &ParamStore,
        purpose: Purpose,
        statistics: &mut Statistics,
        gradients: Option<&mut Gradients>,
    ) -> Result<(PendingLoss, Slopes), Error> {
        let (loss, trace) = self.forward(params, self.relaxed[0].paths(), purpose, statistics)?;
        let slopes = self.supernet.backward(trace, &loss.grad, &mut Backward { params, gradients })?;
        Ok((loss, slopes))
    }

    fn forward(
        &self,
        params: &ParamStore,
        paths: &[Paths],
        purpose: Purpose,
        statistics: &mut Statistics,
    ) -> Result<(PendingLoss, Trace), Error> {
        let Batch { x, y, .. } = self.batch;
        let strengths = self.edges.map(EdgeParams::strengths).transpose()?;
        let routes = Routes { paths, strengths: strengths.as_deref() };
        let mut pass = Forward { params, mode: Mode::Train, statistics, draw: self.draw };
        let (logits, trace) = self.supernet.forward(x, routes, purpose, &mut pass)?;
        Ok((loss::cross_entropy_later(&logits, y, 0.0)?, trace))
    }

    fn settled(&self, params: &ParamStore, paths: &[Paths], loss: &PendingLoss) -> Result<Tally, Error> {
        let (loss, correct) = loss.get()?;
        if !loss.is_finite() {
            let strengths = self.edges.map(EdgeParams::strengths).transpose()?;
            return Err(self.diverged(params, Routes { paths, strengths: strengths.as_deref() })?);
        }
        let mut tally = Tally::default();
        tally.add(loss, correct, self.batch.y.len());
        if let Some(rank) = self.rank {
            let sums = rank.sum_numbers(&tally.sums())?;
            tally = Tally { loss: sums[0], correct: sums[1], examples: sums[2] };
        }
        Ok(tally)
    }

    fn diverged(&self, params: &ParamStore, routes: Routes<'_>) -> Result<Error, Error> {
        let statistics = &mut Statistics::default();
        let mut pass = Forward { params, mode: Mode::Train, statistics, draw: self.draw };
        let place = self.supernet.diagnose(&self.batch.x, routes, &mut pass)?;
        let (epoch, step) = self.at;
        let (what, place) = (format!("the loss of the {} step", self.name), place.map(Box::new));
        Ok(Error::Diverged { epoch, step, what, place })
    }
}

/// The two losses, as functions of the weights at fixed logits.
pub(crate) trait Bilevel {
    /// `∂L_train/∂w`.
    fn train_weights(&self, w: &ParamStore) -> Result<Gradients, Error>;
    /// `∂L_train/∂α`, and what else is learned beside it.
    fn train_logits(&self, w: &ParamStore) -> Result<Vec<Tensor>, Error>;
    /// `∂L_val/∂α` and `∂L_val/∂w`.
    fn validation(&self, w: &ParamStore) -> Result<(Vec<Tensor>, Gradients), Error>;
}

/// The architecture's gradient through one step of the weights (DARTS's second order):
///
/// ```text
/// w' = w − ξ·(μ·b + ∂L_train/∂w + λ·w)            b: the velocity, 0 before the first step
/// v  = ∂L_val/∂w at w',   ε = reach / ‖v‖
/// ∂/∂α L_val(w', α) ≈ ∂L_val/∂α − ξ · (∂L_train/∂α at w + ε·v  −  ∂L_train/∂α at w − ε·v) / (2·ε)
/// ```
///
/// The parentheses of the last line have cost several implementations their second order. `w` itself is never
/// touched: perturbed weights are new tensors, so nothing has to be restored, and no statistic moves.
///
/// Between the two points no ReLU should turn. In a large network single turns do not matter; in one of four channels and
/// four examples the error at DARTS's ε exceeded the gradient itself, and was 1e-9 of it at a thousandth of that ε.
pub(crate) fn unrolled(
    problem: &dyn Bilevel,
    w: &ParamStore,
    sgd: &Sgd,
    lr: f64,
    reach: f64,
) -> Result<Vec<Tensor>, Error> {
    let ahead = sgd.look_ahead(w, &problem.train_weights(w)?, lr)?;
    let (direct, v) = problem.validation(&ahead)?;
    let squared = update::norm_squared_of_many(&v.iter().map(|(_, v)| v).collect::<Vec<_>>())?;
    if squared == 0.0 {
        return Ok(direct);
    }
    let epsilon = reach / squared.sqrt();
    let plus = problem.train_logits(&shifted(w, epsilon, &v)?)?;
    let minus = problem.train_logits(&shifted(w, -epsilon, &v)?)?;
    let correct = |((direct, plus), minus): ((&Tensor, &Tensor), &Tensor)| {
        Ok((direct - ((plus - minus)? * (lr / (2.0 * epsilon)))?)?)
    };
    direct.iter().zip(&plus).zip(&minus).map(correct).collect()
}

/// `w + by·v`, where `v` has a value.
fn shifted(w: &ParamStore, by: f64, v: &Gradients) -> TensorResult<ParamStore> {
    let mut shifted = w.clone();
    for (id, v) in v.iter() {
        shifted.set_weight(id, sum::add_scaled(w.weight(id).clone(), by, v)?)?;
    }
    Ok(shifted)
}

/// The supernet's two losses: one task on each split.
pub(crate) struct Losses<'a> {
    pub(crate) train: Task<'a>,
    pub(crate) validation: Task<'a>,
    pub(crate) arch: &'a ArchParams,
    pub(crate) estimator: &'a dyn Estimator,
}

impl Bilevel for Losses<'_> {
    fn train_weights(&self, w: &ParamStore) -> Result<Gradients, Error> {
        gradients(&self.train, w)
    }

    fn train_logits(&self, w: &ParamStore) -> Result<Vec<Tensor>, Error> {
        Ok(self.train.logits(w, self.arch, self.estimator)?.1)
    }

    fn validation(&self, w: &ParamStore) -> Result<(Vec<Tensor>, Gradients), Error> {
        let (_, logits) = self.validation.logits(w, self.arch, self.estimator)?;
        Ok((logits, gradients(&self.validation, w)?))
    }
}

fn gradients(task: &Task<'_>, w: &ParamStore) -> Result<Gradients, Error> {
    let mut walked = task.weights(w, Purpose::Weights)?;
    Later::settle(walked.numbers())?;
    task.tally_of(w, &walked)?;
    Ok(walked.gradients)
}

#[cfg(test)]
mod tests;
