//! `strait check`: whether a space is one, and how large it is.

use std::fmt::Write;

use clap::Args;
use serde_json::{Value, json};
use strait::controller::{Demand, estimators};
use strait::data::DataSpec;
use strait::ops::Catalog;
use strait::space::{Costs, Layout, LayoutRequest, PathsKept, Phase, Rule, Shape, Space, Stretch};
use strait::trainer::SearchConfig;

use crate::options::{Settings, data_flag, dataset, estimator_name, space};
use crate::{answer::Answer, failure::Failure};

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
        let (input, classes) = self.shape(&space, &config)?;
        let request = LayoutRequest { input, classes, phase: Phase::Search, channels: None, cells: None };
        let layout = space.layout(&request, catalog)?.partial(config.partial_channels, catalog)?;
        let trained = space.layout(&LayoutRequest { phase: Phase::Train, ..request }, catalog)?;
        let batch = self.batch.map_or(config.batch, |batch| batch as usize);
        let estimator = self.estimator.as_ref().unwrap_or(&config.estimator).clone();
        let paths = paths_kept(estimators::by_name(&estimator)?.demand());
        Ok(Report {
            architectures: space.architectures(&layout).to_string(),
            per_cell: space
                .architectures_per_kind(&layout)
                .into_iter()
                .map(|(kind, n)| (kind, n.to_string()))
                .collect(),
            // Children as they are trained: with a width, a depth and settings of norm and bias of their own.
            costs: Costs { supernet: layout.cost(catalog)?, ..trained.costs(catalog, rule)? },
            peak_bytes: resident(layout.peak_bytes(catalog, batch, paths, 1)?),
            batch,
            estimator,
            rule,
            stretches: layout.stretches(catalog)?,
            layout,
            space,
        })
    }

    /// One example's shape and the classes: of the data if there is any, else what the space fixes or would accept.
    fn shape(&self, space: &Space, config: &SearchConfig) -> Result<(Shape, usize), Failure> {
        if self.data.is_none() {
            return Ok((space.sample_input(), space.classes().unwrap_or(10)));
        }
        let data = dataset(&config.data)?;
        Ok((data.info().shape, data.info().classes.len()))
    }
}

/// Which candidates keep what their backward pass needs.
pub(crate) fn paths_kept(demand: Demand) -> PathsKept {
    match demand {
        Demand::Mixture | Demand::Joint => PathsKept::All,
        _ => PathsKept::One,
    }
}

/// What this process has in memory at most where a step holds `held` bytes: the program itself has some 30 MB.
///
/// `strait bench step` measures beside it, and a test compares them where no draw can be lucky. Where sampled paths are
/// drawn, the estimate is that of the largest candidate on every edge; a mixture's counts `none` and the identity as maps.
pub(crate) fn resident(held: u64) -> u64 {
    held + 30_000_000
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
}

impl Report {
    fn json(&self) -> Value {
        let Costs { supernet, min, max } = self.costs;
        let per_cell: serde_json::Map<_, _> =
            self.per_cell.iter().map(|(kind, n)| (kind.clone(), Value::from(n.as_str()))).collect();
        json!({
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
        })
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
        let mebibytes = self.peak_bytes as f64 / f64::from(1 << 20);
        writeln!(
            f,
            "memory         about {mebibytes:.0} MiB at batch {} under {}",
            self.batch, self.estimator
        )
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
