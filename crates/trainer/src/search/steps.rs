//! One bilevel step: the weights on their part, the logits on theirs.

use candle_core::Tensor;
use controller::{Estimator, Paths, Tau, estimators::Proxyless};
use data::{Batch, SearchData};
use network::Purpose;
use ops::{
    Draw,
    kernels::{Later, ranks::Rank, update::Moved},
};

use super::{Position, Search};
use crate::{
    ArchConfig, Course, Error, Stream,
    bilevel::{self, Losses, Relaxed, Task, Walked},
    regularize::Terms,
    score::Tally,
    tau::{self, Temperature},
};

/// A step of the weights that is computed and not made.
struct Prepared {
    tally: Tally,
    walked: Walked,
    moved: Moved,
}

impl Search<'_> {
    pub(super) fn weight_step(&mut self, batch: &Batch) -> Result<f64, Error> {
        let step = self.at.weight_steps;
        let relaxed = self.relaxed(Stream::WeightNoise, step)?;
        let task = self.task(batch, &relaxed, Stream::WeightPass, step, "weight");
        let Prepared { tally, walked, moved } = self.prepare(&task, Purpose::Weights)?;
        self.move_weights(tally, moved, &walked)
    }

    pub(super) fn arch_step(&mut self, data: &SearchData, train: &Batch) -> Result<(), Error> {
        let batch = self.arch_batch(data)?;
        let (step, estimator) = (self.at.arch_steps, self.estimator.as_ref());
        let relaxed = self.relaxed(Stream::ArchitectureNoise, step)?;
        let validation = self.task(&batch, &relaxed, Stream::ArchitecturePass, step, "architecture");
        let (tally, gradients) = if self.config.unrolled {
            let relaxed = self.relaxed(Stream::WeightNoise, self.at.weight_steps)?;
            let train = self.task(train, &relaxed, Stream::WeightPass, self.at.weight_steps, "unrolled");
            let tally = validation.tally(&self.params)?;
            let problem = Losses { train, validation, arch: &self.arch, estimator };
            // A difference of two gradients would drown in the rounding of narrow maps.
            let wide = self.params.clone().with_maps(self.params.dtype());
            (tally, bilevel::unrolled(&problem, &wide, &self.sgd, self.lr(), bilevel::REACH)?)
        } else {
            validation.logits(&self.params, &self.arch, estimator)?
        };
        self.move_logits(tally, &gradients, relaxed[0].paths())
    }

    /// One loss, one pass: the step of an estimator that has no second problem.
    pub(super) fn joint_step(&mut self, batch: &Batch) -> Result<f64, Error> {
        let step = self.at.weight_steps;
        let relaxed = self.relaxed(Stream::WeightNoise, step)?;
        let task = self.task(batch, &relaxed, Stream::WeightPass, step, "joint");
        let Prepared { tally, walked, moved } = self.prepare(&task, Purpose::Joint)?;
        let slopes = task.slopes_of(&self.arch, &walked)?;
        let norm = self.move_weights(tally, moved, &walked)?;
        self.move_logits(tally, &slopes, relaxed[0].paths())?;
        Ok(norm)
    }

    /// A pass, and the step of the weights that it leads to, not yet made. Waits for a device, once.
    fn prepare(&self, task: &Task<'_>, purpose: Purpose) -> Result<Prepared, Error> {
        let mut walked = task.weights(&self.params, purpose)?;
        let mut moved = self.sgd.prepare(&self.params, &walked.gradients, self.lr())?;
        Later::settle(walked.numbers().chain([moved.number()]))?;
        let tally = task.tally_of(&self.params, &walked)?;
        Ok(Prepared { tally, walked, moved })
    }

    fn move_weights(&mut self, tally: Tally, moved: Moved, walked: &Walked) -> Result<f64, Error> {
        let norm = self.sgd.commit(moved, &mut self.params, &walked.gradients)?;
        let norm = norm.map_err(|error| self.diverged(&error.weight))?;
        self.params.absorb(&walked.statistics)?;
        self.weights.merge(tally);
        self.at.weight_steps += 1;
        Ok(norm)
    }

    /// Adam on the logits. Where candidates were compared in pairs, the others keep their probabilities.
    fn move_logits(&mut self, tally: Tally, gradients: &[Tensor], paths: &[Paths]) -> Result<(), Error> {
        let Position { epoch, step, .. } = self.at;
        let failed = |source| Error::Logits { epoch, step, source };
        let before: Vec<Tensor> =
            (0..self.arch.len()).map(|group| self.arch.logits(group).detach()).collect();
        let (alphas, rest) = gradients.split_at(before.len());
        let (slopes, by_edge) = rest.split_at(before.len());
        let (mut alphas, mut slopes) = (alphas.to_vec(), tau::to_rows(slopes)?);
        self.terms().add(&self.arch, &self.taus(), &mut alphas, &mut slopes)?;
        self.temperature.learn(&slopes);
        let decay = self.course(self.config.arch.weight_decay);
        self.adam.step(&mut self.arch, &alphas, decay).map_err(failed)?;
        self.arch.check_finite().map_err(failed)?;
        if let Some((edges, adam)) = &mut self.edges {
            let moved = adam.moved(edges.logits(), by_edge, decay)?;
            edges.set_logits(moved).map_err(failed)?;
        }
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
        let ArchConfig { entropy_bonus, beta_decay, dirichlet_kl, .. } = self.config.arch;
        Terms {
            bonus: self.course(entropy_bonus),
            decay: self.course(beta_decay),
            divergence: self.course(dirichlet_kl),
        }
    }

    /// The value in the present epoch of a number that moves with those in which α does.
    fn course(&self, course: Course) -> f64 {
        let warmup = self.config.warmup();
        course.arriving(self.at.epoch.saturating_sub(warmup), self.config.epochs - warmup)
    }

    fn relaxed(&self, stream: Stream, step: u64) -> Result<Vec<Relaxed>, Error> {
        self.relaxed_by(self.estimator.as_ref(), &self.taus(), stream, step)
    }

    pub(super) fn relaxed_by(
        &self,
        estimator: &dyn Estimator,
        taus: &[Vec<f64>],
        stream: Stream,
        step: u64,
    ) -> Result<Vec<Relaxed>, Error> {
        let Position { epoch, step: at, .. } = self.at;
        if let Some((group, row, value)) = not_a_temperature(taus) {
            let (group, edge) = (self.arch.name(group).to_owned(), self.arch.group(group).edges[row]);
            return Err(Error::Temperature { epoch, step: at, group, edge, value });
        }
        let columns = Temperature::columns(taus)?;
        Ok(Relaxed::samples(&self.arch, estimator, &columns, &mut self.seed.rng(stream, step))?)
    }

    pub(super) fn task<'a>(
        &'a self,
        batch: &'a Batch,
        relaxed: &'a [Relaxed],
        stream: Stream,
        step: u64,
        name: &'static str,
    ) -> Task<'a> {
        // What operations draw for their examples is not the same for all ranks' examples.
        let seed = self.seed.of(stream).wrapping_add(self.rank.as_ref().map_or(0, Rank::index) as u64);
        let (edges, at) = (self.edge_params(), (self.at.epoch, self.at.step));
        let draw = Draw { seed, step };
        Task { supernet: &self.supernet, batch, relaxed, edges, draw, at, name, rank: self.rank.as_ref() }
    }

    fn diverged(&self, weight: &str) -> Error {
        let Position { epoch, step, .. } = self.at;
        Error::Diverged { epoch, step, what: format!("the gradient of {weight}"), place: None }
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
