//! What an epoch measures of the architecture's gradient, on a held batch with frozen weights.

use std::{ops::Range, time::Instant};

use candle_core::{DType, Device, Result as TensorResult, Tensor};
use controller::{
    ArchParams, Estimator, Tau,
    estimators::{self, Darts},
};
use data::{Batch, SearchData};

use super::Search;
use crate::{
    Error, Stream,
    bilevel::{Relaxed, Task},
    config::WatchConfig,
    tau::Temperature,
    watch::{GradientNoise, PowerIteration},
};

/// Measurements under way: some gradients a call, so that whoever waits may stop between two.
pub(super) struct Watching {
    batch: Batch,
    gradients: Vec<Vec<Tensor>>,
    reference: Option<Vec<Tensor>>,
    curvature: Option<PowerIteration>,
    /// Calls so far.
    pub(super) passes: usize,
    /// Time so far.
    pub(super) seconds: f64,
}

impl Search<'_> {
    /// Gradients `∂L/∂α` that `estimator` draws at the temperature `tau` of every edge, each flat over groups, edges and
    /// candidates: on one batch of the architecture's part, with the weights and logits that the search has now. Nothing moves.
    /// The same number draws the same noise.
    ///
    /// # Errors
    /// The loss is not finite, or the data cannot be read.
    pub fn gradients(
        &self,
        data: &SearchData,
        estimator: &dyn Estimator,
        tau: Tau,
        draws: Range<u32>,
    ) -> Result<Vec<Vec<f64>>, Error> {
        let batch = self.held_batch(data)?;
        let taus: Vec<Vec<f64>> =
            self.layout().groups.iter().map(|group| vec![tau.get(); group.edges.len()]).collect();
        let flat = |draw: u32| -> Result<Vec<f64>, Error> {
            let gradient = self.held_gradient(estimator, &taus, &batch, u64::from(draw))?;
            let alphas = gradient.iter().take(self.arch.len()); // behind them is what else is learned
            Ok(alphas.map(|alpha| alpha.flatten_all()?.to_vec1()).collect::<TensorResult<Vec<_>>>()?.concat())
        };
        draws.map(flat).collect()
    }

    /// Measures what one call may cost, where the settings ask for anything: how many calls there have been, or `None`
    /// once nothing is left.
    pub(super) fn watch(&mut self, data: &SearchData) -> Result<Option<usize>, Error> {
        let started = Instant::now();
        let mut watching = match self.watching.take() {
            Some(watching) => watching,
            None => match self.watching(data)? {
                Some(watching) => watching,
                None => return Ok(None),
            },
        };
        let more = self.measure_gradient(&mut watching)?;
        watching.passes += usize::from(more);
        watching.seconds += started.elapsed().as_secs_f64();
        let passes = watching.passes;
        self.watching = Some(watching);
        Ok(more.then_some(passes))
    }

    /// Noise and sharpness, where they were measured.
    pub(super) fn watched(
        &self,
        watching: Option<&Watching>,
    ) -> Result<(Option<GradientNoise>, Option<f64>), Error> {
        let Some(Watching { gradients, reference, curvature, .. }) = watching else {
            return Ok((None, None));
        };
        let sharpness = curvature.as_ref().and_then(PowerIteration::eigenvalue).map(f64::abs);
        if gradients.is_empty() {
            return Ok((None, sharpness));
        }
        Ok((Some(GradientNoise::of(&self.arch, gradients, reference.as_deref())?), sharpness))
    }

    /// Before the first call.
    fn watching(&self, data: &SearchData) -> Result<Option<Watching>, Error> {
        let after = self.at.epoch.saturating_sub(self.config.warmup());
        let sharp = self.config.watch.sharpness_every().is_some_and(|every| after.is_multiple_of(every));
        if self.warming_up() || (self.config.watch.draws == 0 && !sharp) {
            return Ok(None);
        }
        Ok(Some(Watching {
            batch: self.held_batch(data)?,
            gradients: Vec::new(),
            reference: None,
            curvature: sharp.then(|| self.curvature()).transpose()?,
            passes: 0,
            seconds: 0.0,
        }))
    }

    /// One more draw, the reference, or one more step of the power iteration; whether there was any left.
    fn measure_gradient(&self, watching: &mut Watching) -> Result<bool, Error> {
        let WatchConfig { draws, reference, .. } = &self.config.watch;
        let Watching { batch, gradients, reference: found, curvature, .. } = watching;
        if gradients.len() < *draws {
            let draw = gradients.len() as u64;
            gradients.push(self.held_gradient(self.estimator.as_ref(), &self.taus(), batch, draw)?);
            return Ok(true);
        }
        if let Some(name) = reference.as_ref().filter(|_| *draws > 0 && found.is_none()) {
            let estimator = estimators::by_name(name)?;
            *found = Some(self.held_gradient(estimator.as_ref(), &self.taus(), batch, 1 << 31)?);
            return Ok(true);
        }
        if let Some(iteration) = curvature.as_mut().filter(|iteration| iteration.eigenvalue().is_none()) {
            iteration.step(|v| self.curvature_along(v, batch))?;
            return Ok(true);
        }
        Ok(false)
    }

    /// One `∂L/∂α`, with the noise of the present epoch's draw `index`.
    fn held_gradient(
        &self,
        estimator: &dyn Estimator,
        taus: &[Vec<f64>],
        batch: &Batch,
        index: u64,
    ) -> Result<Vec<Tensor>, Error> {
        let step = (self.at.epoch as u64) << 32 | index;
        let relaxed = self.relaxed_by(estimator, taus, Stream::Watch, step)?;
        Ok(self.measured(batch, &relaxed).logits(&self.params, &self.arch, estimator)?.1)
    }

    /// A pass that the first of several devices makes alone.
    fn measured<'a>(&'a self, batch: &'a Batch, relaxed: &'a [Relaxed]) -> Task<'a> {
        let task = self.task(batch, relaxed, Stream::Watch, self.at.epoch as u64, "measured");
        Task { rank: None, ..task }
    }

    /// The iteration for the dominant eigenvalue of `∇²_α` of the mixture's loss.
    fn curvature(&self) -> Result<PowerIteration, Error> {
        let rng = &mut self.seed.rng(Stream::Watch, u64::MAX);
        let start = ArchParams::new(&self.layout().groups, DType::F64, &Device::Cpu, rng)?;
        let start: Vec<Tensor> = (0..start.len()).map(|group| start.logits(group).detach()).collect();
        Ok(PowerIteration::new(&start, 8)?)
    }

    /// `∇²_α · v`, by central differences.
    fn curvature_along(&self, v: &[Tensor], batch: &Batch) -> Result<Vec<Tensor>, Error> {
        const REACH: f64 = 1e-2;
        let wide = self.params.clone().with_maps(self.params.dtype()); // narrow maps would drown the difference
        let gradient = |arch: &ArchParams| -> Result<Vec<Tensor>, Error> {
            let taus = Temperature::columns(&self.taus())?;
            let relaxed = Relaxed::samples(arch, &Darts, &taus, &mut self.seed.rng(Stream::Watch, 0))?;
            Ok(self.measured(batch, &relaxed).logits(&wide, arch, &Darts)?.1)
        };
        let plus = gradient(&self.arch.shifted(v, REACH)?)?;
        let minus = gradient(&self.arch.shifted(v, -REACH)?)?;
        let difference = |(plus, minus): (&Tensor, &Tensor)| Ok(((plus - minus)? * (0.5 / REACH))?);
        plus.iter().zip(&minus).take(v.len()).map(difference).collect()
    }
}
