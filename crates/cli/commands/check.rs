//! `strait check`: whether a space is one, and how large it is.

use std::fmt::Write;

use clap::Args;
use serde_json::{Value, json};
use strait::controller::estimators;
use strait::data::{DataSpec, Part};
use strait::ops::{Catalog, Side, kernels::gpu};
use strait::space::{Costs, Layout, LayoutRequest, Phase, Rule, Space, Stretch, WordError};
use strait::trainer::{SearchConfig, resident};

use crate::options::{
    DeviceName, Precision, Settings, data_flag, dataset, estimator_name, laid_out_for, space,
};
use crate::{answer::Answer, failure::Failure, room};

/// `strait check`
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// A space file, or the name of a shipped space
    #[arg(value_name = "SPACE.yaml")]
    space: String,
    /// Data whose shape and classes the space is laid out for [default: what the space fixes, or an ordinary shape]
    #[arg(long, value_name = "DATA")]
    data: Option<DataSpec>,
    /// Examples in a batch, for the estimate of memory [default: the space's setting]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Estimator, for the estimate of memory [default: the space's setting]
    #[arg(long, value_name = "NAME", value_parser = estimator_name)]
    estimator: Option<String>,
    /// Estimate the memory of a GPU, too: cuda, cuda:INDEX, or several as in cuda:0,1; it need not be there
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceName,
    /// What maps are to be stored in, f32 or bf16
    #[arg(long, value_enum, value_name = "f32|bf16", default_value_t = Precision::F32)]
    precision: Precision,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Check {
    /// Every fault of the file, or every figure of the space.
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let catalog = Catalog::standard();
        match self.report(&catalog) {
            Ok(report) => Answer::either(self.json, &report.json(), || report.to_string()),
            Err(failure) if self.json => {
                let errors = json!({
                    "architectures": null, "per_cell": null, "params": null, "macs": null, "peak_bytes": null,
                    "errors": failure.lines(),
                });
                Ok(Answer::json(&errors)?.refusing(failure.code))
            }
            Err(failure) => Err(failure),
        }
    }

    fn report(&self, catalog: &Catalog) -> Result<Report, Failure> {
        let space = space(&self.space, catalog)?;
        let settings = self.settings.read(&[("data.source", data_flag(self.data.as_ref()))])?;
        let config = SearchConfig::resolve(&settings.over_space(&space, &self.space))?;
        let rule = config.rule.unwrap_or(space.rule());
        let data = self.data.as_ref().map(|_| dataset(&config.data)).transpose()?;
        let (input, classes) = laid_out_for(data.as_deref(), &space);
        let request = LayoutRequest { input, classes, phase: Phase::Search, channels: None, cells: None };
        let layout = space.layout(&request, catalog)?.partial(config.partial_channels, catalog)?;
        let trained = space.layout(&LayoutRequest { phase: Phase::Train, ..request }, catalog)?;
        let batch = self.batch.map_or(config.batch, |batch| batch as usize);
        let estimator = self.estimator.as_ref().unwrap_or(&config.estimator).clone();
        let demand = estimators::by_name(&estimator)?.demand();
        let peak = |batch, at| room::peak(&layout, catalog, batch, demand, at);
        let peak_bytes = peak(batch, (Side::Host, self.precision.map_bytes()))?;
        let examples = data.map(|data| data.len(Part::Train) * input.elements());
        let on_device = self.on_device(batch, peak, examples)?;
        Ok(Report {
            architectures: space.architectures(&layout).to_string(),
            per_cell: space
                .architectures_per_kind(&layout)
                .into_iter()
                .map(|(kind, n)| (kind, n.to_string()))
                .collect(),
            // Children as they are trained: with a width, a depth and settings of norm and bias of their own.
            costs: Costs { supernet: layout.cost(catalog)?, ..trained.costs(catalog, rule)? },
            peak_bytes,
            on_device,
            batch,
            estimator,
            rule,
            stretches: layout.stretches(catalog)?,
            layout,
            space,
        })
    }

    fn on_device(
        &self,
        batch: usize,
        peak: impl Fn(usize, (Side, u64)) -> Result<u64, WordError>,
        examples: Option<usize>,
    ) -> Result<Option<OnDevice>, Failure> {
        let gpus = self.device.gpus();
        let Some(&first) = gpus.first() else { return Ok(None) };
        if !batch.is_multiple_of(gpus.len()) {
            return Err(strait::trainer::Error::Uneven { batch, ranks: gpus.len() }.into());
        }
        let batch = batch / gpus.len();
        let here = gpu::devices().ok().and_then(|devices| Some(devices.get(first)?.bytes.0 as u64));
        let peak_bytes = peak(batch, (Side::Device, self.precision.map_bytes()))?;
        let held = examples.filter(|&bytes| here.is_none_or(|free| resident(bytes, free as usize)));
        Ok(Some(OnDevice {
            name: format!("cuda:{first}"),
            peak_bytes,
            examples_bytes: held.unwrap_or(0) as u64,
            batch,
            free_bytes: here,
        }))
    }
}

/// What a search would hold on a GPU, and what is there.
struct OnDevice {
    /// As `--device` names the first.
    name: String,
    /// Of every device, with its part of a batch.
    peak_bytes: u64,
    /// Of the examples that it holds besides, of one byte a number as pictures have.
    examples_bytes: u64,
    batch: usize,
    /// Of the first one, where it is here.
    free_bytes: Option<u64>,
}

impl OnDevice {
    fn fits(&self) -> Option<bool> {
        Some(self.peak_bytes + self.examples_bytes <= self.free_bytes?)
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "peak_bytes": self.peak_bytes,
            "examples_bytes": self.examples_bytes,
            "batch": self.batch,
            "free_bytes": self.free_bytes,
            "fits": self.fits(),
        })
    }
}

impl std::fmt::Display for OnDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, peak_bytes, examples_bytes, batch, free_bytes } = self;
        write!(f, "about {} MiB at batch {batch}, ", mebibytes(*peak_bytes))?;
        if *examples_bytes > 0 {
            write!(f, "{} MiB of examples besides, ", mebibytes(*examples_bytes))?;
        }
        match (free_bytes, self.fits()) {
            (Some(free), Some(fits)) => {
                let verdict = if fits { "room enough" } else { "too much" };
                write!(f, "{verdict}: {name} has {} MiB free", mebibytes(*free))
            }
            _ => write!(f, "by arithmetic alone: no {name} is here"),
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / f64::from(1 << 20))
}

struct Report {
    space: Space,
    layout: Layout,
    stretches: Vec<Stretch>,
    rule: Rule,
    architectures: String,
    per_cell: Vec<(String, String)>,
    costs: Costs,
    batch: usize,
    estimator: String,
    peak_bytes: u64,
    on_device: Option<OnDevice>,
}

impl Report {
    fn json(&self) -> Value {
        let Costs { supernet, min, max } = self.costs;
        let per_cell: serde_json::Map<_, _> =
            self.per_cell.iter().map(|(kind, n)| (kind.clone(), Value::from(n.as_str()))).collect();
        let mut report = json!({
            "space": self.space.name(),
            "input": self.layout.input.to_string(),
            "classes": self.layout.classes,
            "rule": self.rule.to_string(),
            "architectures": self.architectures,
            "per_cell": per_cell,
            "params": { "supernet": supernet.params, "min": min.params, "max": max.params },
            "macs": { "supernet": supernet.macs, "min": min.macs, "max": max.macs },
            "peak_bytes": self.peak_bytes,
            "batch": self.batch,
            "estimator": self.estimator,
            "errors": [],
        });
        if let Some(on_device) = &self.on_device {
            report["device"] = on_device.json();
        }
        report
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Costs { supernet, min, max } = self.costs;
        let Layout { input, classes, .. } = &self.layout;
        writeln!(f, "{}: valid, for examples of {input} in {classes} classes\n", self.space.name())?;
        for Stretch { count, what, shape, .. } in &self.stretches {
            writeln!(f, "  {count:>3} × {what:<28} {shape}")?;
        }
        let features = self.layout.head.features;
        writeln!(f, "  head           {features} features to {classes} logits")?;
        writeln!(f, "\narchitectures  {} by {}", grouped(&self.architectures), self.rule)?;
        for (kind, n) in &self.per_cell {
            writeln!(f, "  {kind:<12} {}", grouped(n))?;
        }
        let row = |what, cost: fn(&strait::space::Cost) -> u64| {
            let [supernet, min, max] = [supernet, min, max].map(|of| grouped(&cost(&of).to_string()));
            format!("{what:<14} supernet {supernet}, child {min} to {max}")
        };
        writeln!(f, "{}", row("parameters", |cost| cost.params))?;
        writeln!(f, "{}", row("macs", |cost| cost.macs))?;
        let Self { batch, estimator, peak_bytes, on_device, .. } = self;
        writeln!(
            f,
            "memory         about {} MiB at batch {batch} under {estimator}",
            mebibytes(*peak_bytes)
        )?;
        on_device.as_ref().map_or(Ok(()), |on_device| writeln!(f, "on a GPU       {on_device}"))
    }
}

/// `1930618` as `1,930,618`.
pub(crate) fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        let left = digits.len() - i;
        let _ = write!(text, "{}{digit}", if i > 0 && left.is_multiple_of(3) { "," } else { "" });
    }
    text
}
