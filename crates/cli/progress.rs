//! The loop around whatever learns: bars, checkpoints, interruption.

use std::fmt::{self, Display};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use strait::data::{SearchData, TrainData};
use strait::trainer::{
    self, EpochSummary, Progress, Retraining, RunDir, Score, Search, StepReport, TrainSummary,
};

use crate::{console::Console, events::Events, failure::Failure, interrupt::Watch};

const BAR: &str = "{prefix} {bar:30.cyan/dim} {pos}/{len} {eta:>4} left  {msg}";

/// Something that learns step by step and can be saved between any two.
pub(crate) trait Learner {
    /// What an epoch comes to.
    type Summary: Display;
    /// One step.
    fn step(&mut self) -> Result<Progress<Self::Summary>, trainer::Error>;
    /// Writes the state to the run.
    fn save(&self, run: &RunDir) -> Result<(), trainer::Error>;
    /// Writes an epoch's line to the run, and its event.
    fn record(&self, drive: &Drive<'_>, summary: &Self::Summary) -> Result<(), trainer::Error>;
}

/// A search and its data.
pub(crate) struct Searching<'a, 'c>(pub(crate) &'a mut Search<'c>, pub(crate) &'a SearchData);

/// A child's training and its data.
pub(crate) struct Training<'a>(pub(crate) &'a mut Retraining, pub(crate) &'a TrainData);

/// Where and how something learns.
pub(crate) struct Drive<'a> {
    /// The run that keeps it.
    pub(crate) run: &'a RunDir,
    /// Where its progress is shown.
    pub(crate) console: &'a Console,
    /// Between two checkpoints inside an epoch.
    pub(crate) minutes: f64,
    /// How to go on after an interruption.
    pub(crate) again: String,
    /// TensorBoard's file, where one is written.
    pub(crate) events: Option<Events>,
}

impl Drive<'_> {
    /// Learns to the end and returns the last epoch's summary, if an epoch was left to do.
    ///
    /// A checkpoint is written after every epoch and, inside one, every few minutes; a signal ends the loop after the
    /// current step, with one more.
    pub(crate) fn to_the_end<L: Learner>(&self, mut learner: L) -> Result<Option<L::Summary>, Failure> {
        let (watch, mut meter, mut last) = (Watch::new(), Meter::new(self.console), None);
        let every = Duration::from_secs_f64(60.0 * self.minutes);
        let mut saved = Instant::now();
        loop {
            let mut inside = true;
            match learner.step()? {
                Progress::Step(report) => meter.step(&report),
                Progress::Measuring { passes } => meter.measuring(passes),
                Progress::Epoch(summary) => {
                    learner.record(self, &summary)?;
                    learner.save(self.run)?;
                    saved = Instant::now();
                    meter.epoch(&summary);
                    last = Some(summary);
                    inside = false;
                }
                Progress::Finished => return Ok(last),
            }
            if inside && (watch.asked() || saved.elapsed() >= every) {
                learner.save(self.run)?;
                saved = Instant::now();
            }
            if watch.asked() {
                meter.clear();
                return Err(
                    Failure::interrupted("interrupted; everything up to here is saved").hint(&self.again)
                );
            }
        }
    }
}

impl Learner for Searching<'_, '_> {
    type Summary = EpochSummary;

    fn step(&mut self) -> Result<Progress<EpochSummary>, trainer::Error> {
        self.0.next_step(self.1)
    }

    fn save(&self, run: &RunDir) -> Result<(), trainer::Error> {
        self.0.save(run)
    }

    fn record(&self, drive: &Drive<'_>, summary: &EpochSummary) -> Result<(), trainer::Error> {
        let EpochSummary { epoch, weights: Score { loss, accuracy }, tau, entropy, genotype, noise, .. } =
            summary;
        let noise_to_signal = noise.as_ref().map(|noise| noise.noise_to_signal);
        let cosine = noise.as_ref().and_then(|noise| noise.cosine);
        tracing::info!(
            epoch,
            loss,
            accuracy,
            tau,
            entropy,
            noise_to_signal,
            cosine,
            genotype,
            "epoch searched"
        );
        drive.run.record(summary)?;
        drive.events.iter().for_each(|events| events.searched(summary));
        Ok(())
    }
}

impl Learner for Training<'_> {
    type Summary = TrainSummary;

    fn step(&mut self) -> Result<Progress<TrainSummary>, trainer::Error> {
        self.0.next_step(self.1)
    }

    fn save(&self, run: &RunDir) -> Result<(), trainer::Error> {
        self.0.save(run)
    }

    fn record(&self, drive: &Drive<'_>, summary: &TrainSummary) -> Result<(), trainer::Error> {
        let Score { loss, accuracy } = summary.score;
        tracing::info!(epoch = summary.epoch, loss, accuracy, "epoch trained");
        drive.run.record_training(summary)?;
        drive.events.iter().for_each(|events| events.trained(summary));
        Ok(())
    }
}

/// One bar per epoch on a terminal, one line per epoch everywhere.
struct Meter<'a> {
    console: &'a Console,
    bar: Option<ProgressBar>,
}

impl<'a> Meter<'a> {
    fn new(console: &'a Console) -> Self {
        Self { console, bar: None }
    }

    fn step(&mut self, report: &StepReport) {
        let bar = self.bar.get_or_insert_with(|| {
            let bar = self.console.bar(report.steps as u64);
            bar.set_style(ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(format!("epoch {}/{}", report.epoch + 1, report.epochs));
            bar.set_position(report.step as u64 - 1); // a resumed epoch does not start at its first step
            bar.reset_eta();
            bar
        });
        bar.set_position(report.step as u64);
        bar.set_message(Measured(report).to_string());
    }

    fn measuring(&mut self, passes: usize) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("measuring what the epoch came to, pass {passes}"));
        }
    }

    fn epoch(&mut self, summary: &impl Display) {
        self.clear();
        self.console.note(&summary.to_string());
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// The numbers beside a bar.
struct Measured<'a>(&'a StepReport);

impl Display for Measured<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StepReport { score, tau, entropy, .. } = self.0;
        write!(f, "{score}")?;
        tau.map_or(Ok(()), |tau| write!(f, ", τ {tau:.3}"))?;
        entropy.map_or(Ok(()), |entropy| write!(f, ", entropy {entropy:.3}"))
    }
}
