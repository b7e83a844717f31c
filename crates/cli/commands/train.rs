//! `strait train`: a genotype, from scratch, tested once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};
use strait::data::{DataSpec, Dataset, TestData, TrainData};
use strait::ops::Catalog;
use strait::space::{Genotype, Space};
use strait::trainer::{Exam, Layer, Machine, Retraining, RunDir, Score, SearchConfig, TrainConfig};

use super::check::grouped;
use crate::events::Events;
use crate::host::{host, peak_bytes};
use crate::model::child_layout;
use crate::options::{
    self, Computer, Finished, Settings, Subject, compare_numbers, create_run, data_flag, dataset, quoted,
};
use crate::progress::{Drive, Training};
use crate::{answer::Answer, console::Console, failure::Failure, log::RunLog};

const EXAMPLES: &str = "\
Examples:
  strait train runs/digits-seed0 --epochs 200 --channels 32
  strait train genotype.yaml --space my.yaml --data cifar10:data/cifar-10-batches-bin --out runs/final
  strait train '|nor_conv_3x3~0|+|skip_connect~0|nor_conv_3x3~1|+|none~0|none~1|nor_conv_1x1~2|' --data idx:fashion
  strait train runs/darts-seed0 --recipe darts-cifar --epochs 100 --data cifar10:data/cifar-10-batches-bin
  strait train runs/digits-seed0 --recipe quick --seeds 3
  strait train --resume runs/final

Settings come from those of the run, or of the space, then the recipe, --config, the flags and --set. Recipes are quick,
darts-cifar, gdas-cifar, nas-bench-201 and darts-imagenet; a run's train.yaml shows what came of it all.";

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
    /// Bring every picture of `--data folder:DIR` to this size
    #[arg(long, value_name = "HEIGHTxWIDTH", value_parser = options::size)]
    resize: Option<[usize; 2]>,
    /// A published recipe, under every other setting: quick, darts-cifar, gdas-cifar, nas-bench-201, darts-imagenet
    #[arg(long, value_name = "NAME", value_parser = recipe)]
    recipe: Option<String>,
    /// Start from the weights of this search's supernet, where names agree, at the width of the search
    #[arg(long, value_name = "RUN")]
    inherit: Option<PathBuf>,
    /// Train so many times, with seeds from --seed on, and report mean and spread
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: Option<u64>,
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
    /// Directory to write to, new or empty [default: runs/SPACE-RECIPE-seedN, or runs/SPACE-trained-seedN]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with an interrupted training, with its own settings
    #[arg(long, value_name = "DIR", conflicts_with_all = ["subject", "space", "data", "resize", "recipe", "inherit", "seeds", "epochs", "channels", "cells", "batch", "seed", "out", "config", "set", "force"])]
    resume: Option<PathBuf>,
    /// Replace a run that is in the way
    #[arg(long)]
    force: bool,
    /// Write TensorBoard's events to the directory `tensorboard` of the run, as epochs end
    #[arg(long)]
    tensorboard: bool,
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

/// A training with its data, at the step where it stands.
pub(crate) struct Begun {
    training: Retraining,
    data: (TrainData, TestData),
}

impl Train {
    /// Trains and tests, once or with several seeds.
    pub(crate) fn run(&self, console: &Console, log: &RunLog) -> Result<Answer, Failure> {
        let (on, catalog) = (self.machine.open()?, Catalog::standard());
        if let Some(path) = &self.resume {
            let run = RunDir::open(path)?;
            let (subject, config) = (Subject::of(&run, &catalog)?, run.train_config()?);
            let told = self.once(&subject, config, Some(run), &on, console, log)?;
            return Answer::either(self.json, &told, || words(&told));
        }
        let (subject, config) = self.plan(&catalog)?;
        let Some(n) = self.seeds else {
            let told = self.once(&subject, config, None, &on, console, log)?;
            return Answer::either(self.json, &told, || words(&told));
        };
        let mut told = Vec::new();
        for seed in (config.seed..).take(n as usize) {
            console.note(&format!("seed {seed}"));
            told.push(self.once(
                &subject,
                TrainConfig { seed, ..config.clone() },
                None,
                &on,
                console,
                log,
            )?);
        }
        let accuracies: Vec<f64> = told.iter().filter_map(|one| one["test_accuracy"].as_f64()).collect();
        let (mean, deviation) = spread(&accuracies);
        let all = json!({
            "test_accuracy_mean": mean, "test_accuracy_deviation": deviation, "seeds": n, "runs": told,
        });
        Answer::either(self.json, &all, || {
            let lines: String = told
                .iter()
                .map(|one| {
                    format!(
                        "seed {:<4} {:.4}  {}\n",
                        one["seed"],
                        one["test_accuracy"].as_f64().unwrap_or_default(),
                        one["run"].as_str().unwrap_or_default()
                    )
                })
                .collect();
            format!(
                "{lines}test accuracy  {mean:.4} ± {deviation:.4} over {n} seeds (mean, standard deviation of the seeds)\n"
            )
        })
    }

    /// One training, from its start or from where its run stands.
    fn once(
        &self,
        Subject { space, genotype, .. }: &Subject,
        config: TrainConfig,
        reopened: Option<RunDir>,
        on: &Computer,
        console: &Console,
        log: &RunLog,
    ) -> Result<Value, Failure> {
        let (begun, catalog) = (Instant::now(), Catalog::standard());
        let data = dataset(&config.data)?;
        let cost = child_layout(space, genotype, &config, data.info(), &catalog)?.cost(&catalog)?;
        let (epochs, seed, classes) = (config.epochs, config.seed, data.info().classes.clone());
        let child = Child { space, genotype, data, catalog: &catalog };
        let training = child.begin(config.clone(), reopened.as_ref(), on, console)?; // before a directory is made
        let run = reopened.map_or_else(|| self.create(space, genotype, &config), Ok)?;
        log.begin(run.path())?;
        compare_numbers(&run, on, console);
        let machine = Machine::new(host(self.machine.threads(), on.arithmetic, run.path()));
        run.write_machine(&machine)?;
        let again =
            format!("go on with: strait train --resume {}{}", run.path().display(), self.machine.to_go_on());
        let events = self.tensorboard.then(|| Events::begin(run.path())).transpose()?;
        let exam = training.finish(&Drive { run: &run, console, minutes: self.save_every, again, events })?;
        let Score { accuracy, loss } = exam.score;
        let mut told = json!({
            "test_accuracy": accuracy, "test_loss": loss, "test_top5": exam.top5, "epochs": epochs, "seed": seed,
            "params": cost.params, "macs": cost.macs, "classes": classes, "per_class": exam.per_class(),
            "confusion": exam.confusion,
        });
        run.write("result.json", format!("{told:#}\n").as_bytes())?;
        run.write_machine(&machine.finish(peak_bytes()))?;
        told["seconds"] = json!(begun.elapsed().as_secs_f64());
        told["run"] = json!(run.path().display().to_string());
        Ok(told)
    }

    fn plan(&self, catalog: &Catalog) -> Result<(Subject, TrainConfig), Failure> {
        let path = self.subject.as_deref().ok_or_else(|| Failure::misuse("a genotype or a run is needed"))?;
        let subject = Subject::open(path, self.space.as_deref(), catalog)?;
        let number = |n: Option<usize>| n.map(|n| n.to_string());
        let given = self.settings.read(&[
            ("data.source", data_flag(self.data.as_ref())),
            ("data.resize", self.resize.map(|side| format!("{side:?}"))),
            ("epochs", number(self.epochs)),
            ("channels", number(self.channels)),
            ("cells", number(self.cells)),
            ("batch", number(self.batch)),
            ("seed", self.seed.map(|n| n.to_string())),
            ("inherit", self.inherit.as_ref().map(|path| quoted(path.display().to_string()))),
        ])?;
        let origin = subject.space.name();
        let search = match &subject.run {
            Some(run) => run.search_config()?,
            None => SearchConfig::resolve(&[Layer::Space { origin, space: &subject.space }])?,
        };
        let base = serde_yaml::to_value(TrainConfig::from(&search))?;
        let mut layers = given.over(Layer::Value { origin, value: &base });
        if let Some(recipe) = self.recipe.as_deref().and_then(TrainConfig::recipe) {
            layers.insert(1, recipe);
        }
        let config = TrainConfig::resolve(&layers)?;
        Ok((subject, config))
    }

    fn create(&self, space: &Space, genotype: &Genotype, config: &TrainConfig) -> Result<RunDir, Failure> {
        let path = match (&self.out, self.seeds) {
            (Some(out), Some(_)) => out.join(format!("seed{}", config.seed)),
            (Some(out), None) => out.clone(),
            (None, _) => {
                let how = self.recipe.as_deref().unwrap_or("trained");
                PathBuf::from(format!("runs/{}-{how}-seed{}", space.name(), config.seed))
            }
        };
        let run = create_run(&path, self.force)?;
        run.write_genotype(genotype)?;
        run.write_train(config, space.yaml())?;
        Ok(run)
    }
}

impl Child<'_> {
    /// Where a training stands: at the run's checkpoint, or at fresh or inherited weights. Writes nothing.
    pub(crate) fn begin(
        &self,
        config: TrainConfig,
        run: Option<&RunDir>,
        on: &Computer,
        console: &Console,
    ) -> Result<Begun, Failure> {
        let data = (TrainData::of(self.data.clone())?, TestData::of(self.data.clone())?);
        let inherited = config.inherit.clone();
        let training = Retraining::new(self.space, self.genotype, self.catalog, &data.0, config, &on.device)?;
        let mut training = training.with_maps(on.arithmetic.maps());
        let resumed = run.map(|run| training.resume(run)).transpose()?.unwrap_or(false);
        if let (false, Some(parent)) = (resumed, inherited) {
            let search = Finished::open(&parent, None, self.catalog, on)?.search;
            if search.config().partial_channels > 1 {
                let message =
                    format!("{}: its supernet has partial channels, a child has all", parent.display());
                return Err(
                    Failure::misuse(message).hint("leave out --inherit, or search with partial_channels 1")
                );
            }
            let found = training.inherit(search.params())?;
            let all = training.params().n_weights();
            console
                .note(&format!("{found} of {all} tensors start from the supernet in {}", parent.display()));
        }
        Ok(Begun { training, data })
    }
}

impl Begun {
    /// Trains to the end, and tests once, there.
    pub(crate) fn finish(mut self, drive: &Drive<'_>) -> Result<Exam, Failure> {
        let (train, test) = &self.data;
        if self.training.config().inherit.is_some() {
            self.training.save(drive.run)?; // or a run that is killed at once would forget what it inherited
        }
        drive.events.iter().for_each(|events| events.go_on_training(drive.run.path()));
        drive.to_the_end(Training(&mut self.training, train))?;
        Ok(self.training.examine(test)?)
    }
}

/// What a person reads of one training.
fn words(told: &Value) -> String {
    let number = |key: &str| told[key].as_f64().unwrap_or_default();
    let run = told["run"].as_str().unwrap_or_default();
    let top5 =
        told["test_top5"].as_f64().map_or_else(String::new, |top5| format!("\ntop-5          {top5:.4}"));
    let worst = told["per_class"]
        .as_array()
        .into_iter()
        .flatten()
        .zip(told["classes"].as_array().into_iter().flatten());
    let worst = worst.filter_map(|(share, class)| Some((share.as_f64()?, class.as_str()?)));
    let worst = worst.min_by(|a, b| a.0.total_cmp(&b.0));
    let worst =
        worst.map_or_else(String::new, |(share, class)| format!("\nhardest class  {class}, {share:.4}"));
    format!(
        "test accuracy  {:.4}, once, after {} epochs{top5}{worst}\nparameters     {}\ntime           {:.0} s\nrun            {run}\n\n\
         next\n  strait export {run} --format all -o exported\n  strait report {run} -o report.html\n",
        number("test_accuracy"),
        told["epochs"],
        grouped(&told["params"].to_string()),
        number("seconds"),
    )
}

/// Mean and standard deviation (of the sample; 0 of one value).
fn spread(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n.max(1.0);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0).max(1.0)).sqrt())
}

fn recipe(name: &str) -> Result<String, String> {
    match TrainConfig::recipe(name) {
        Some(_) => Ok(name.to_owned()),
        None => Err(format!("expected one of {}", TrainConfig::recipes().join(", "))),
    }
}
