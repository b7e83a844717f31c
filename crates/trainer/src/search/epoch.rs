//! The end of an epoch: what it was worth, and whether to go on.

use std::{ops::ControlFlow, time::Instant};

use data::SearchData;
use search_space::{Genotype, Rule};

use super::{Position, Search, held::Watching};
use crate::{
    Collapse, Decision, EpochSummary, Error, Gap, GroupSummary, Progress, derive,
    evaluate::{Measurement, Sample, Subject},
    score::Tally,
};

impl Search<'_> {
    /// Another pass of what an epoch measures at its end, first of the gradient, then of the gap; then the summary. A
    /// search that resumes here measures from the start.
    pub(super) fn finish_epoch(&mut self, data: &SearchData) -> Result<Progress<EpochSummary>, Error> {
        if let Some(passes) = self.watch(data)? {
            return Ok(Progress::Measuring { passes });
        }
        let rule = self.cheap_rule();
        let decision = self.derive(rule, data)?;
        let gap = match self.measure(data, rule, &decision.genotype)? {
            ControlFlow::Continue(passes) => {
                let passes = passes + self.watching.as_ref().map_or(0, |watching| watching.passes);
                return Ok(Progress::Measuring { passes });
            }
            ControlFlow::Break(gap) => gap,
        };
        let watching = self.watching.take();
        let summary = self.summary(watching.as_ref(), decision, gap)?;
        let sharpness = self.first_sharpness;
        self.conclude(&summary, sharpness)?;
        self.each_other(|other| other.conclude(&summary, sharpness))?;
        Ok(Progress::Epoch(summary))
    }

    /// Goes on to the next epoch, with what the summary says of this one and the sharpness that was measured first. After
    /// the summary, which says how warm the epoch was.
    fn conclude(&mut self, summary: &EpochSummary, first_sharpness: Option<f64>) -> Result<(), Error> {
        self.first_sharpness = first_sharpness;
        self.temperature.hear(summary.noise.as_ref().map(|noise| noise.noise_to_signal));
        self.remember(summary.stopped)?;
        self.at.epoch += 1;
        self.at.step = 0;
        (self.weights, self.architecture) = (Tally::default(), Tally::default());
        self.weight_batches = None;
        Ok(())
    }

    /// Runs one batch: how many there have been, or the gap at their end; while only the weights learn there is none.
    fn measure(
        &mut self,
        data: &SearchData,
        rule: Rule,
        genotype: &Genotype,
    ) -> Result<ControlFlow<Option<Gap>, usize>, Error> {
        if self.at.epoch + 1 < self.config.warmup() {
            return Ok(ControlFlow::Break(None));
        }
        let started = Instant::now();
        let mut measurement = match self.measurement.take() {
            Some(measurement) => measurement,
            None => Measurement::new(&self.subject(), self.epoch_sample(data), rule, genotype)?,
        };
        let gap = measurement.next(&self.subject())?;
        self.gap_seconds += started.elapsed().as_secs_f64();
        if gap.is_some() {
            return Ok(ControlFlow::Break(gap));
        }
        let passes = measurement.passes();
        self.measurement = Some(measurement);
        Ok(ControlFlow::Continue(passes))
    }

    fn summary(
        &mut self,
        watching: Option<&Watching>,
        Decision { genotype, disconnected }: Decision,
        gap: Option<Gap>,
    ) -> Result<EpochSummary, Error> {
        let (noise, sharpness) = self.watched(watching)?;
        self.first_sharpness = self.first_sharpness.or(sharpness);
        let choices = derive::argmax(&self.subject().probabilities()?);
        let collapse = Collapse::of(self.layout(), &choices, self.catalog, sharpness);
        let entropy = self.entropy()?;
        let stop = self.config.watch.stop_on.filter(|_| !self.warming_up());
        let stopped = stop.is_some_and(|stop| collapse.is(stop, entropy, self.first_sharpness));
        let warnings = if self.warming_up() { Vec::new() } else { collapse.warnings(self.first_sharpness) };
        for warning in &warnings {
            tracing::warn!(epoch = self.at.epoch, "{warning}");
        }
        Ok(EpochSummary {
            epoch: self.at.epoch,
            warmup: self.warming_up(),
            tau: self.tau(),
            lr: self.lr(),
            weights: self.weights.score().unwrap_or_default(),
            architecture: self.architecture.score(),
            entropy,
            parameter_free: derive::parameter_free(self.layout(), &choices, self.catalog),
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
            watch_seconds: watching.map_or(0.0, |watching| watching.seconds),
        })
    }

    /// Keeps the logits of an epoch without the sign to stop on; puts those of the last such epoch back where it came.
    fn remember(&mut self, stopped: bool) -> Result<(), Error> {
        self.stopped = stopped;
        let (epoch, step) = (self.at.epoch, self.at.step);
        let misfit = |source| Error::Logits { epoch, step, source };
        if let Some((edges, _)) = &mut self.edges {
            if stopped {
                edges.set_logits(self.edges_before.clone()).map_err(misfit)?;
            } else {
                self.edges_before = edges.logits().to_vec();
            }
        }
        for group in 0..self.arch.len() {
            if stopped {
                self.arch.set_logits(group, &self.before[group]).map_err(misfit)?;
            } else {
                self.before[group] = self.arch.logits(group).detach();
            }
        }
        Ok(())
    }

    /// The rule of summaries: sampling every epoch would cost more than the epoch.
    pub(super) fn cheap_rule(&self) -> Rule {
        match self.rule {
            Rule::Sampled { .. } => Rule::Argmax,
            rule => rule,
        }
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        let Self { supernet, params, arch, catalog, seed, .. } = self;
        let (edges, Position { epoch, step, .. }) = (self.edge_params(), self.at);
        Subject { supernet, params, arch, edges, catalog, seed: *seed, epoch, step }
    }

    /// What the present epoch's gap is measured on.
    fn epoch_sample(&self, data: &SearchData) -> Sample {
        let last = self.at.epoch + 1 == self.config.epochs;
        self.sample(data, if last { self.config.last_gap_batches } else { self.config.gap_batches })
    }

    pub(super) fn sample(&self, data: &SearchData, n_batches: usize) -> Sample {
        Sample::new(data, n_batches, self.config.batch, &self.normalize, self.seed)
    }

    fn groups(&self) -> Result<Vec<GroupSummary>, Error> {
        let (taus, strengths) = (self.taus(), self.subject().strengths()?);
        let group = |group: usize| {
            let logits = self.arch.logits(group).to_vec2()?; // host sync, of a copy on the host
            let name = self.arch.name(group).to_owned();
            let (entropy, margin) = (self.arch.entropy(group)?, self.arch.margins(group)?);
            let strength = strengths.as_ref().map(|strengths| strengths[group].clone());
            Ok(GroupSummary { name, entropy, margin, tau: taus[group].clone(), logits, strength })
        };
        (0..self.arch.len()).map(group).collect()
    }

    /// Mean over all edges, in nats.
    pub(super) fn entropy(&self) -> Result<f64, Error> {
        let mut all = Vec::new();
        for group in 0..self.arch.len() {
            all.extend(self.arch.entropy(group)?);
        }
        Ok(all.iter().sum::<f64>() / all.len().max(1) as f64)
    }
}
