//! `strait bench step`: whole steps of a search.

use std::time::Instant;

use clap::Args;
use serde::Serialize;
use strait::controller::{Demand, Paths, estimators};
use strait::data::{DataSpec, SearchData};
use strait::network::{Purpose, StepMemory, arithmetic};
use strait::ops::kernels::{Isa, gpu::Arithmetic};
use strait::ops::{Catalog, Side};
use strait::space::{Layout, LayoutRequest, Phase, Space, WordError};
use strait::trainer::{Order, Progress, Search, SearchConfig};

use super::noise::Noise;
use super::roofline::Roofline;
use super::schedule::{Observed, Schedule, Seen, whole_cycles};
use crate::options::{
    Computer, Machine, Settings, data_flag, dataset, estimator_name, laid_out_for, quoted, space,
};
use crate::{answer::Answer, console::Console, failure::Failure};
use crate::{host, room};

/// Steps before the clock starts: memory is mapped, weights have a velocity.
const WARMUP: usize = 2;

const EXAMPLES: &str = "\
Examples:
  strait bench step --space nas-bench-201 --estimator gdas --schedule latin
  strait bench step --space digits --data digits --steps 100
  strait bench step --space darts --estimator darts --steps 3 --threads 2 --json";

/// `strait bench step`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Step {
    /// A space file, or the name of a shipped space
    #[arg(long, value_name = "SPACE", default_value = "nas-bench-201")]
    space: String,
    /// Data whose shape and classes the space is laid out for [default: what the space fixes, or an ordinary shape]
    #[arg(long, value_name = "DATA")]
    data: Option<DataSpec>,
    /// Estimator [default: the space's setting]
    #[arg(long, value_name = "NAME", value_parser = estimator_name)]
    estimator: Option<String>,
    /// Examples in a batch [default: the space's setting]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    batch: Option<u32>,
    /// Channels of the first stage [default: the space's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    channels: Option<u32>,
    /// Cells, as the space counts them [default: the space's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    cells: Option<u32>,
    /// Steps that are timed, after two that are not
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    steps: u32,
    /// Which candidates the steps run, where one runs on each edge; latin makes whole cycles of them
    #[arg(long, value_enum, default_value_t = Schedule::Random)]
    schedule: Schedule,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    machine: Machine,
}

/// A measurement. A step is one of the weights and one of the architecture, each on a batch of its own, data and
/// augmentation included.
#[derive(Debug, Serialize)]
struct Report {
    space: String,
    estimator: String,
    /// Of an example.
    input: String,
    classes: usize,
    batch: usize,
    channels: usize,
    cells: usize,
    threads: usize,
    /// `f32`, a GPU's `tf32`, or `bf16`, which maps are stored in.
    arithmetic: &'static str,
    /// Whether a GPU was sent the kernels of a cell together.
    #[serde(skip_serializing_if = "Option::is_none")]
    graphs: Option<bool>,
    schedule: String,
    steps: usize,
    /// Under `latin` of whole cycles, per step.
    median_ms_per_step: f64,
    mean_ms_per_step: f64,
    /// Under `latin` the mean over a cycle of each phase's fastest.
    min_ms_per_step: f64,
    /// First and third quartile of single steps; under `latin` of whole cycles, per step.
    quartiles_ms_per_step: [f64; 2],
    /// Of both batches.
    images_per_s: f64,
    /// The most memory this process has held in RAM, where the system says: as it read `--data`, or in a step.
    peak_rss_mb: Option<f64>,
    /// What is estimated as `strait check` does, but for the candidates that ran.
    peak_mb_estimated: f64,
    params: u64,
    /// Multiply-accumulates really executed by convolutions and linear layers, twice, per step.
    gflop: f64,
    /// By the mean step.
    gflops: f64,
    fma_peak_gflops: f64,
    bandwidth_gbs: f64,
    /// `gflops / fma_peak_gflops`.
    fma_peak_share: f64,
    instructions: String,
}

/// What this processor computes with: its matrix units know no `f32`.
fn instructions(arithmetic: Arithmetic) -> Isa {
    match (Isa::detect(), arithmetic) {
        (Isa::Amx, Arithmetic::F32 | Arithmetic::Tf32) => Isa::Avx512,
        (isa, _) => isa,
    }
}

impl Step {
    pub(crate) fn run(&self, console: &Console) -> Result<Answer, Failure> {
        let (Computer { device, arithmetic }, catalog) = (self.machine.open()?, Catalog::standard());
        let space = space(&self.space, &catalog)?;
        let config = self.config(&space)?;
        let whole = self.layout(&space, &config, &catalog)?;
        let layout = whole.clone().partial(config.partial_channels, &catalog)?;
        let demand = estimators::by_name(&config.estimator)?.demand();
        if !counted(demand) {
            let known = estimators::NAMES
                .into_iter()
                .filter(|name| estimators::by_name(name).is_ok_and(|estimator| counted(estimator.demand())));
            let known: Vec<_> = known.collect();
            let message = format!(
                "{}: its step is of another kind; expected one of {}",
                config.estimator,
                known.join(", ")
            );
            return Err(Failure::misuse(message));
        }
        let cycle = match (self.schedule, demand) {
            (Schedule::Latin, Demand::Chosen | Demand::Outputs) => {
                layout.groups.iter().map(|group| group.candidates.len()).max().unwrap_or(1)
            }
            _ => 1,
        };
        let steps = whole_cycles(self.steps as usize, cycle);
        // Enough examples on both sides that no epoch ends.
        let examples = 2 * config.batch * (WARMUP + steps + 1);
        let noise = Noise::new(layout.input, layout.classes, examples);
        let data = SearchData::split(std::sync::Arc::new(noise), &config.split())?;
        let groups = layout.groups.len();
        let seen = Seen::default();
        let observed = Observed {
            estimator: estimators::by_name(&config.estimator)?,
            schedule: self.schedule,
            per_step: (2 * groups).max(1),
            seen: seen.clone(),
        };
        let search = Search::from_layout(whole, space.rule(), &catalog, &data, config.clone(), &device)?;
        let mut search = search.with_maps(arithmetic.maps()).with_estimator(Box::new(observed));
        console.note(&format!("timing {steps} steps of {} with {}", layout.space, config.estimator));
        let mut millis = Vec::with_capacity(steps);
        for step in 0..WARMUP + steps {
            let clock = Instant::now();
            let Progress::Step(_) = search.next_step(&data)? else { unreachable!("the epoch is longer") };
            if step >= WARMUP {
                millis.push(clock.elapsed().as_secs_f64() * 1e3);
            }
        }
        let peak_rss_mb = host::peak_bytes().map(|bytes| bytes as f64 / 1e6);
        let mut all: Vec<Paths> = seen.take();
        let side = if device.is_cpu() { Side::Host } else { Side::Device };
        let map_bytes = arithmetic.maps().size_in_bytes() as u64;
        let memory = StepMemory { layout: &layout, catalog: &catalog, batch: config.batch, side, map_bytes };
        let peak_bytes = room::standing(side) + most_held(&memory, &all, demand)?;
        let paths = all.split_off(WARMUP * 2 * groups);
        let macs = macs(&layout, &catalog, &paths, demand)? / steps as f64;
        let gflop = 2.0 * macs * config.batch as f64 / 1e9;
        drop(search);
        let Roofline { gflops: peak, gbs } = Roofline::measure();
        let Times { mut cycles, mean, fastest } = Times::of(&millis, cycle);
        let gflops = gflop / mean * 1e3;
        let report = Report {
            peak_mb_estimated: peak_bytes as f64 / 1e6,
            params: layout.cost(&catalog)?.params,
            space: layout.space.clone(),
            estimator: config.estimator.clone(),
            input: layout.input.to_string(),
            classes: layout.classes,
            batch: config.batch,
            channels: layout.stem.as_ref().map_or(layout.input.channels, |(_, site)| site.c_out),
            cells: layout.cells().count(),
            threads: self.machine.threads(),
            arithmetic: arithmetic.name(),
            graphs: self.machine.graphs(),
            schedule: format!("{:?}", self.schedule).to_lowercase(),
            steps,
            median_ms_per_step: quantile(&mut cycles, 0.5),
            mean_ms_per_step: mean,
            min_ms_per_step: fastest,
            quartiles_ms_per_step: [0.25, 0.75].map(|q| quantile(&mut cycles, q)),
            images_per_s: 2e3 * config.batch as f64 / quantile(&mut cycles, 0.5),
            peak_rss_mb,
            gflop,
            gflops,
            fma_peak_gflops: peak,
            bandwidth_gbs: gbs,
            fma_peak_share: gflops / peak,
            instructions: format!("{:?}", instructions(arithmetic)).to_lowercase(),
        };
        Answer::either(self.json, &report, || report.to_string())
    }

    fn config(&self, space: &Space) -> Result<SearchConfig, Failure> {
        let estimator = self.estimator.as_ref().map(quoted);
        let given = self.settings.read(&[
            ("data.source", data_flag(self.data.as_ref())),
            ("estimator", estimator),
            ("batch", self.batch.map(|batch| batch.to_string())),
        ])?;
        let config = SearchConfig::resolve(&given.over_space(space, &self.space))?;
        // Both kinds of steps from the first on, once each.
        Ok(SearchConfig {
            warmup_epochs: 0,
            epochs: 2,
            unrolled: false,
            order: Order::WeightsFirst,
            ..config
        })
    }

    fn layout(&self, space: &Space, config: &SearchConfig, catalog: &Catalog) -> Result<Layout, Failure> {
        let data = self.data.as_ref().map(|_| dataset(&config.data)).transpose()?;
        let (input, classes) = laid_out_for(data.as_deref(), space);
        let request = LayoutRequest {
            input,
            classes,
            phase: Phase::Search,
            channels: self.channels.map(|n| n as usize),
            cells: self.cells.map(|n| n as usize),
        };
        Ok(space.layout(&request, catalog)?)
    }
}

/// Whether a step is one pass for the weights and one for the logits, both there and back.
fn counted(demand: Demand) -> bool {
    matches!(demand, Demand::Chosen | Demand::Outputs | Demand::Mixture)
}

/// The most that any step held by estimate; `paths` as for [`macs`].
fn most_held(memory: &StepMemory<'_>, paths: &[Paths], demand: Demand) -> Result<u64, Failure> {
    let groups = memory.layout.groups.len();
    if demand.mixes() || groups == 0 {
        return Ok(memory.peak(demand)?);
    }
    let steps = paths.chunks_exact(2 * groups).map(|step| step.split_at(groups));
    let mut held = steps.map(|(weights, architecture)| memory.peak_along(weights, architecture, demand));
    Ok(held.try_fold(0, |most, held| Ok::<_, WordError>(most.max(held?)))?)
}

/// Multiply-accumulates of all steps for one example; `paths` are those of a weight step's groups, then of an
/// architecture step's, and so on.
fn macs(layout: &Layout, catalog: &Catalog, paths: &[Paths], demand: Demand) -> Result<f64, Failure> {
    let purposes = [Purpose::Weights, Purpose::Architecture(demand)].into_iter().cycle();
    let mut sum = 0;
    for (paths, purpose) in paths.chunks_exact(layout.groups.len().max(1)).zip(purposes) {
        sum += arithmetic(layout, catalog, paths, purpose)?;
    }
    Ok(sum as f64)
}

/// Single times made into times of whole cycles.
struct Times {
    /// Per step.
    cycles: Vec<f64>,
    mean: f64,
    /// Mean over the phases of a cycle of each one's fastest step.
    fastest: f64,
}

impl Times {
    fn of(millis: &[f64], cycle: usize) -> Self {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let phase = |phase| millis.iter().skip(phase).step_by(cycle).copied().fold(f64::INFINITY, f64::min);
        let phases: Vec<f64> = (0..cycle).map(phase).collect();
        Self {
            cycles: millis.chunks_exact(cycle).map(mean).collect(),
            mean: mean(millis),
            fastest: mean(&phases),
        }
    }
}

/// The value below which a share `q` of the values lies, between neighbors in proportion.
fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = q * (values.len() - 1) as f64;
    let (low, high) = (values[at.floor() as usize], values[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            space,
            estimator,
            input,
            classes,
            batch,
            channels,
            cells,
            threads,
            arithmetic,
            steps,
            instructions,
            ..
        } = self;
        let [low, high] = self.quartiles_ms_per_step;
        writeln!(
            f,
            "{space}, {estimator}: {input}, {classes} classes, {cells} cells, {channels} channels, batch {batch}, {} weights",
            self.params
        )?;
        let graphs = match self.graphs {
            Some(true) => ", CUDA graphs",
            Some(false) => ", no CUDA graphs",
            None => "",
        };
        writeln!(
            f,
            "{threads} threads, {instructions}, {arithmetic}{graphs}, {} schedule, {steps} steps\n",
            self.schedule
        )?;
        writeln!(
            f,
            "step           {:.1} ms (quartiles {low:.1} to {high:.1}, mean {:.1}, fastest {:.1})",
            self.median_ms_per_step, self.mean_ms_per_step, self.min_ms_per_step
        )?;
        writeln!(f, "images         {:.0} /s", self.images_per_s)?;
        let resident = self.peak_rss_mb.map_or("unknown".to_owned(), |mb| format!("{mb:.0} MB"));
        writeln!(f, "memory         {resident} at most; estimated {:.0} MB", self.peak_mb_estimated)?;
        writeln!(f, "arithmetic     {:.2} GFLOP a step, {:.0} GFLOP/s", self.gflop, self.gflops)?;
        writeln!(
            f,
            "this machine   {:.0} GFLOP/s of fused multiply-adds, of which {:.0} % were reached; {:.1} GB/s from memory",
            self.fma_peak_gflops,
            1e2 * self.fma_peak_share,
            self.bandwidth_gbs
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_are_means_and_the_fastest_cycle_is_made_of_the_fastest_phases() {
        let Times { cycles, mean, fastest } = Times::of(&[1.0, 10.0, 3.0, 6.0], 2);
        assert_eq!((cycles, mean, fastest), (vec![5.5, 4.5], 5.0, 3.5));
    }

    #[test]
    fn quantiles_lie_between_neighbors() {
        let mut values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!([0.0, 0.5, 1.0].map(|q| quantile(&mut values, q)), [1.0, 2.5, 4.0]);
    }
}
