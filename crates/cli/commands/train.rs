//! `strait train`: a genotype, from scratch, tested once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::json;
use strait::Device;
use strait::data::{DataInfo, DataSpec, Dataset, TestData, TrainData};
use strait::ops::Catalog;
use strait::space::{Genotype, Layout, LayoutRequest, Phase, Space};
use strait::trainer::{Layer, Machine, Retraining, RunDir, Score, SearchConfig, TrainConfig};

use super::check::grouped;
use crate::options::{self, Settings, Subject, create_run, data_flag, dataset};
use crate::progress::{Drive, Training};
use crate::{answer::Answer, console::Console, failure::Failure, log::RunLog};

const EXAMPLES: &str = "\
Examples:
  strait train runs/digits-seed0 --epochs 200 --channels 32
  strait train genotype.yaml --space my.yaml --data cifar10:data/cifar-10-batches-bin --out runs/final
  strait train '|nor_conv_3x3~0|+|skip_connect~0|nor_conv_3x3~1|+|none~0|none~1|nor_conv_1x1~2|' --data idx:fashion
  strait train --resume runs/final

Settings come from those of the run, or of the space, then --config, the flags and --set.";

/// `strait train`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Train {
    /// A genotype (YAML, JSON, NAS-Bench-201's string or DARTS's tuple, as a file or as text), or a search's directory
    #[arg(value_name = "GENOTYPE|RUN", required_unless_present = "resume")]
    subject: Option<PathBuf>,
    /// The genotype's space: a file, or a shipped name [default: the run's, or the shipped one that the
    /// genotype names; nas-bench-201 and darts for their notations]
    #[arg(long, value_name = "SPACE.yaml")]
    space: Option<String>,
    /// What to learn from (`strait list data`) [default: the run's]
    #[arg(long, value_name = "DATA")]
    data: Option<DataSpec>,
    /// Passes over the training part
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Width of the first stage
    #[arg(long, value_name = "C")]
    channels: Option<usize>,
    /// Cells per stage, or in all where the space counts so
    #[arg(long, value_name = "N")]
    cells: Option<usize>,
    /// Examples in a batch
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// All chance derives from it
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Directory to write to, new or empty [default: runs/SPACE-trained-seedN]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with an interrupted training, with its own settings
    #[arg(long, value_name = "DIR", conflicts_with_all = ["subject", "space", "data", "epochs", "channels", "cells", "batch", "seed", "out", "config", "set", "force"])]
    resume: Option<PathBuf>,
    /// Replace a run that is in the way
    #[arg(long)]
    force: bool,
    /// Save inside an epoch every so many minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 5.0, value_parser = options::minutes)]
    save_every: f64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    machine: options::Machine,
}

/// An architecture about to be trained.
pub(crate) struct Child<'a> {
    pub(crate) space: &'a Space,
    pub(crate) genotype: &'a Genotype,
    pub(crate) data: Arc<dyn Dataset>,
    pub(crate) catalog: &'a Catalog,
}

impl Train {
    /// Trains and tests.
    pub(crate) fn run(&self, console: &Console, log: &RunLog) -> Result<Answer, Failure> {
        let begun = Instant::now();
        let (device, catalog) = (self.machine.open()?, Catalog::standard());
        let reopened = self.resume.as_deref().map(RunDir::open).transpose()?;
        let (Subject { space, genotype, .. }, config) = match &reopened {
            Some(run) => (Subject::of(run, &catalog)?, run.train_config()?),
            None => self.plan(&catalog)?,
        };
        let data = dataset(&config.data)?;
        let layout = child_layout(&space, &genotype, &config, data.info(), &catalog)?;
        let params = layout.cost(&catalog)?.params;
        let run = reopened.map_or_else(|| self.create(&space, &genotype, &config), Ok)?;
        log.begin(run.path())?;
        let machine = Machine::new(self.machine.threads(), &[("run", run.path().display().to_string())]);
        run.write_machine(&machine)?;
        let again = format!("go on with: strait train --resume {}", run.path().display());
        let drive = Drive { run: &run, console, minutes: self.save_every, again };
        let epochs = config.epochs;
        let child = Child { space: &space, genotype: &genotype, data, catalog: &catalog };
        let Score { accuracy, loss } = child.train(config, &device, &drive)?;
        let result =
            json!({ "test_accuracy": accuracy, "test_loss": loss, "epochs": epochs, "params": params });
        run.write("result.json", format!("{result:#}\n").as_bytes())?;
        run.write_machine(&machine.finish())?;
        let seconds = begun.elapsed().as_secs_f64();
        let mut answer = result;
        answer["seconds"] = json!(seconds);
        answer["run"] = json!(run.path().display().to_string());
        Answer::either(self.json, &answer, || {
            let params = grouped(&params.to_string());
            let run = run.path().display();
            format!(
                "test accuracy  {accuracy:.4}, once, after {epochs} epochs\nparameters     {params}\ntime           {seconds:.0} s\nrun            {run}\n\n\
                 next\n  strait export {run} --format safetensors -o weights.safetensors\n"
            )
        })
    }

    fn plan(&self, catalog: &Catalog) -> Result<(Subject, TrainConfig), Failure> {
        let path = self.subject.as_deref().ok_or_else(|| Failure::misuse("a genotype or a run is needed"))?;
        let subject = Subject::open(path, self.space.as_deref(), catalog)?;
        let number = |n: Option<usize>| n.map(|n| n.to_string());
        let given = self.settings.read(&[
            ("data.source", data_flag(self.data.as_ref())),
            ("epochs", number(self.epochs)),
            ("channels", number(self.channels)),
            ("cells", number(self.cells)),
            ("batch", number(self.batch)),
            ("seed", self.seed.map(|n| n.to_string())),
        ])?;
        let origin = subject.space.name();
        let search = match &subject.run {
            Some(run) => run.search_config()?,
            None => SearchConfig::resolve(&[Layer::Space { origin, space: &subject.space }])?,
        };
        let base = serde_yaml::to_value(TrainConfig::from(&search))?;
        let config = TrainConfig::resolve(&given.over(Layer::Value { origin, value: &base }))?;
        Ok((subject, config))
    }

    fn create(&self, space: &Space, genotype: &Genotype, config: &TrainConfig) -> Result<RunDir, Failure> {
        let named = || PathBuf::from(format!("runs/{}-trained-seed{}", space.name(), config.seed));
        let run = create_run(&self.out.clone().unwrap_or_else(named), self.force)?;
        run.write_genotype(genotype)?;
        run.write_train(config, space.yaml())?;
        Ok(run)
    }
}

impl Child<'_> {
    /// Trains from where the run's checkpoint stands, or from scratch, and tests once, at the end.
    pub(crate) fn train(
        &self,
        config: TrainConfig,
        device: &Device,
        drive: &Drive<'_>,
    ) -> Result<Score, Failure> {
        let (train, test) = (TrainData::of(self.data.clone())?, TestData::of(self.data.clone())?);
        drive.run.write_train(&config, self.space.yaml())?;
        let mut training = Retraining::new(self.space, self.genotype, self.catalog, &train, config, device)?;
        training.resume(drive.run)?;
        drive.to_the_end(Training(&mut training, &train))?;
        Ok(training.test(&test)?)
    }
}

/// The network of a genotype as it is trained from scratch.
pub(crate) fn child_layout(
    space: &Space,
    genotype: &Genotype,
    config: &TrainConfig,
    data: &DataInfo,
    catalog: &Catalog,
) -> Result<Layout, Failure> {
    let TrainConfig { channels, cells, .. } = *config;
    let request = LayoutRequest {
        input: data.shape,
        classes: data.classes.len(),
        phase: Phase::Train,
        channels,
        cells,
    };
    Ok(space.layout(&request, catalog)?.child(genotype)?)
}
