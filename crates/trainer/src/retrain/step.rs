//! One step of a training: batches mixed, passed forward and back, and averaged over.

use candle_core::Tensor;
use data::{Batch, BatchPlan, TrainData};
use network::{Logits, Purpose};
use ops::{
    Backward, Draw, Forward, Gradients, Mode, ParamStore, RunningStats, Statistics,
    kernels::{
        loss::{self, LossHead},
        sum,
    },
};

use super::{Position, Retraining};
use crate::{
    Error, Stream,
    mix::{Mixed, mix},
};

impl Retraining {
    /// One step of the optimizer, on the mean gradient of the next batches.
    pub(super) fn step(&mut self, data: &TrainData, plan: BatchPlan) -> Result<f64, Error> {
        if self.batches.is_none() {
            self.batches = Some(self.shelf.feed(data.subset(), plan, &self.params)?);
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
