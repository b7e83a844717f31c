//! One step of a training: batches mixed, passed forward and back, and averaged over.

use candle_core::Tensor;
use data::{Batch, BatchPlan, TrainData};
use network::{Logits, Purpose};
use ops::{
    Backward, Draw, Forward, Gradients, Mode, ParamStore, RunningStats, Statistics,
    kernels::{
        Later,
        loss::{self, PendingLoss},
        sum,
    },
};

use super::{Position, Retraining};
use crate::{
    Error, Stream,
    mix::{Mixed, mix},
};

/// A pass forward and back whose loss a device may still be computing.
struct Pass {
    x: Tensor,
    draw: Draw,
    examples: usize,
    main: MixedLoss,
    side: Option<MixedLoss>,
    statistics: Statistics,
}

/// The loss against labels, and against a mixture's others by their share.
struct MixedLoss {
    own: PendingLoss,
    other: Option<PendingLoss>,
    share: f64,
    grad: Tensor,
}

impl Retraining {
    /// One step of the optimizer, on the mean gradient of the next batches. Waits for a device once.
    pub(super) fn step(&mut self, data: &TrainData, plan: BatchPlan) -> Result<f64, Error> {
        if self.batches.is_none() {
            self.batches = Some(self.shelf.feed(data.subset(), plan, &self.params)?);
        }
        let mut gradients = Gradients::new(&self.params);
        let mut passes = Vec::new();
        while passes.len() < self.config.accumulate {
            let Some(batch) = self.batches.as_mut().and_then(Iterator::next) else { break };
            passes.push(self.pass(&batch?, passes.len(), &mut gradients)?);
        }
        let n = passes.len() as f64;
        let gradients = if n > 1.0 { scaled(&self.params, &gradients, 1.0 / n)? } else { gradients };
        let mut moved = self.sgd.prepare(&self.params, &gradients, self.lr())?;
        Later::settle(passes.iter_mut().flat_map(Pass::numbers).chain([moved.number()]))?;
        for pass in &passes {
            self.count(pass)?;
        }
        let norm = self.sgd.commit(moved, &mut self.params, &gradients)?;
        let norm = norm.map_err(|error| self.diverged(format!("the gradient of {}", error.weight), None))?;
        if let Some(average) = &mut self.average {
            let t = self.at.steps as f64;
            follow(average, &self.params, self.config.ema.min((1.0 + t) / (10.0 + t)))?;
        }
        Ok(norm)
    }

    /// Forward and back on the `n`-th batch of a step, whose gradients add to the others'.
    fn pass(&self, batch: &Batch, n: usize, gradients: &mut Gradients) -> Result<Pass, Error> {
        let count = self.at.steps * self.config.accumulate as u64 + n as u64;
        let draw = Draw { seed: self.seed.of(Stream::WeightPass), step: count };
        let strengths = [self.config.mixup, self.config.cutmix];
        let mixed = mix(&batch.x, &batch.y, strengths, &mut self.seed.rng(Stream::Mix, count))?;
        let x = mixed.as_ref().map_or(&batch.x, |mixed| &mixed.x);
        let (params, mut statistics) = (&self.params, Statistics::default());
        let mut pass = Forward { params, mode: Mode::Train, statistics: &mut statistics, draw };
        let (Logits { main, auxiliary }, trace) =
            self.network.forward(x, self.drop_path(), Purpose::Weights, &mut pass)?;
        let loss = |logits| MixedLoss::of(&logits, &batch.y, mixed.as_ref(), self.config.label_smoothing);
        let (main, side) = (loss(main)?, auxiliary.map(loss).transpose()?);
        let weight = self.layout().auxiliary.as_ref().map_or(0.0, |auxiliary| auxiliary.weight);
        let of_side = side.as_ref().map(|side| sum::scale(&side.grad, weight)).transpose()?;
        let mut pass = Backward { params, gradients: Some(gradients) };
        self.network.backward(trace, &main.grad, of_side.as_ref(), &mut pass)?;
        Ok(Pass { x: x.clone(), draw, examples: batch.y.len(), main, side, statistics })
    }

    /// What a pass said, once it is settled: its statistics are absorbed, its loss counts.
    fn count(&mut self, pass: &Pass) -> Result<(), Error> {
        let Pass { x, draw, examples, main, side, statistics } = pass;
        let (loss, correct) = main.get()?;
        let whole = loss + side.as_ref().map_or(Ok(0.0), |side| side.get().map(|(loss, _)| loss))?;
        if !whole.is_finite() {
            let (params, statistics) = (&self.params, &mut Statistics::default());
            let mut pass = Forward { params, mode: Mode::Train, statistics, draw: *draw };
            let place = self.network.diagnose(x, &mut pass)?;
            return Err(self.diverged("the loss".into(), place));
        }
        self.params.absorb(statistics)?;
        self.tally.add(loss, correct, *examples);
        Ok(())
    }

    fn diverged(&self, what: String, place: Option<network::Place>) -> Error {
        let Position { epoch, step, .. } = self.at;
        Error::Diverged { epoch, step, what, place: place.map(Box::new) }
    }
}

impl Pass {
    /// What [`Later::settle`] makes known.
    fn numbers(&mut self) -> impl Iterator<Item = &mut Later> {
        self.main.numbers().chain(self.side.iter_mut().flat_map(MixedLoss::numbers))
    }
}

impl MixedLoss {
    fn of(logits: &Tensor, labels: &[u32], mixed: Option<&Mixed>, smoothing: f64) -> Result<Self, Error> {
        let own = loss::cross_entropy_later(logits, labels, smoothing)?;
        let Some(Mixed { others, share, .. }) = mixed else {
            return Ok(Self { grad: own.grad.clone(), own, other: None, share: 1.0 });
        };
        let other = loss::cross_entropy_later(logits, others, smoothing)?;
        let grad = sum::add_scaled(sum::scale(&own.grad, *share)?, 1.0 - share, &other.grad)?;
        Ok(Self { own, other: Some(other), share: *share, grad })
    }

    fn numbers(&mut self) -> impl Iterator<Item = &mut Later> {
        self.own.numbers().into_iter().chain(self.other.iter_mut().flat_map(PendingLoss::numbers))
    }

    /// The loss, and how many are right: those that meet the label of the larger share.
    fn get(&self) -> Result<(f64, usize), Error> {
        let (own, own_correct) = self.own.get()?;
        let Some(other) = &self.other else { return Ok((own, own_correct)) };
        let (other, other_correct) = other.get()?;
        let loss = self.share * own + (1.0 - self.share) * other;
        Ok((loss, if self.share >= 0.5 { own_correct } else { other_correct }))
    }
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
