//! `strait search`: from a space and data to a genotype, a trained child and a picture.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use serde_json::json;
use strait::controller::estimators;
use strait::data::{DataSpec, SearchData};
use strait::export::Format;
use strait::ops::{Catalog, Side, kernels::ranks::nccl_is_available};
use strait::space::{Cost, Genotype, Space};
use strait::trainer::{
    Decision, Gap, Machine, RunDir, Search as Searcher, SearchConfig, StopOn, TrainConfig,
};

use super::check::grouped;
use super::derive::disconnected;
use super::export::bytes;
use super::train::Child;
use crate::events::Events;
use crate::host::{host, peak_bytes};
use crate::live;
use crate::model::{card, child_layout};
use crate::options::{self, Devices, Settings, data_flag, dataset, estimator_name, quoted, space};
use crate::progress::{Drive, Searching};
use crate::room::{self, explained};
use crate::{answer::Answer, console::Console, failure::Failure, log::RunLog};

const EXAMPLES: &str = "\
Examples:
  strait search
  strait search nas-bench-201 --data cifar10:data/cifar-10-batches-bin --epochs 50
  strait search my.yaml --data csv:table.csv --estimator gdas --set weights.lr=0.05 --seed 3
  strait search --resume runs/digits-seed0

Settings come from the defaults, the space's `search:` block, --config, the flags and --set, the later over the
earlier; the run directory holds what came of it in config.yaml.";

/// `strait search`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Search {
    /// A space file, or the name of a shipped space [default: digits]
    #[arg(value_name = "SPACE.yaml")]
    space: Option<String>,
    /// What to learn from: digits, idx:DIR, cifar10:DIR, … (`strait list data`) [default: digits]
    #[arg(long, value_name = "DATA")]
    data: Option<DataSpec>,
    /// Bring every picture of `--data folder:DIR` to this size
    #[arg(long, value_name = "HEIGHTxWIDTH", value_parser = options::size)]
    resize: Option<[usize; 2]>,
    /// Directory of the run, new or empty [default: runs/SPACE-seedN]
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// How a gradient crosses a choice (`strait list estimators`)
    #[arg(long, value_name = "NAME", value_parser = estimator_name)]
    estimator: Option<String>,
    /// Passes over the weights' part of the data
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Examples in a batch
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// All chance derives from it
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Go on with an interrupted run, with its own settings
    #[arg(long, value_name = "RUN", conflicts_with_all = ["space", "data", "resize", "out", "estimator", "epochs", "batch", "seed", "stop_on", "config", "set", "force"])]
    resume: Option<PathBuf>,
    /// End early on a sign of collapse, with the choices from before it: skips:N, eigenvalue:RATIO or entropy:NATS
    #[arg(long, value_name = "SIGN")]
    stop_on: Option<StopOn>,
    /// Replace a run that is in the way
    #[arg(long)]
    force: bool,
    /// Show the search while it runs, on a page of this machine only: http://127.0.0.1:PORT [default port: 8080]
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "8080")]
    live: Option<u16>,
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

/// What a search came to; accuracies are fractions in [0, 1].
#[derive(Debug, Serialize)]
struct Outcome {
    genotype: Genotype,
    seed: u64,
    epochs: usize,
    /// The supernet as it was trained, by sampled paths or as a mixture, on the architecture's part.
    supernet_accuracy: f64,
    /// The child with the supernet's weights, on the same examples.
    derived_accuracy: f64,
    /// The child trained from scratch, on the test part; nothing where the settings give it no epochs.
    test_accuracy: Option<f64>,
    /// Of the child, as trained from scratch.
    params: u64,
    /// Of the child, for one example.
    macs: u64,
    /// What discreteness costs, in all its steps.
    gap: Gap,
}

/// What is searched, and with which settings.
struct Plan {
    space: Space,
    config: SearchConfig,
}

impl Search {
    /// Searches, derives, trains, reports.
    pub(crate) fn run(&self, console: &Console, log: &RunLog) -> Result<Answer, Failure> {
        let begun = Instant::now();
        let (devices, catalog) = (self.machine.open_all()?, Catalog::standard());
        let reopened = self.resume.as_deref().map(RunDir::open).transpose()?;
        let plan = match &reopened {
            Some(run) => Plan { space: options::space_of(run, &catalog)?, config: run.search_config()? },
            None => self.plan(&catalog)?,
        };
        let data = dataset(&plan.config.data)?;
        let split = SearchData::split(data.clone(), &plan.config.split())?;
        console.note(&format!("searching {} on {}: {split}", plan.space.name(), plan.config.data.source));
        if let Devices::Ranks(all) = &devices {
            let by = if nccl_is_available() { "NCCL" } else { "the host; built without NCCL" };
            console.note(&format!("{} devices learn alike, by way of {by}", all.len()));
        }
        let mut search = plan.search(&catalog, &split, &devices)?;
        let run = reopened.map_or_else(|| self.create(&plan), Ok)?;
        log.begin(run.path())?;
        if self.resume.is_some() {
            options::compare_numbers(&run, devices.first(), console);
        }
        let machine = Machine::new(host(self.machine.threads(), devices.first().arithmetic, run.path()));
        run.write_machine(&machine)?;
        if let Some(port) = self.live {
            console.note(&format!("live: http://{}", live::serve(run.path(), port)?));
        }
        if self.resume.is_some() {
            search.resume(&run)?;
        }
        let again =
            format!("go on with: strait search --resume {}{}", run.path().display(), self.machine.to_go_on());
        let events = self.tensorboard.then(|| Events::begin(run.path())).transpose()?;
        let drive = Drive { run: &run, console, minutes: self.save_every, again, events };
        let last = drive.to_the_end(Searching(&mut search, &split)).map_err(|failure| {
            let demand = estimators::by_name(&plan.config.estimator).map(|estimator| estimator.demand());
            let (demand, layout, ranks) = (demand.ok(), search.layout(), devices.count());
            let peak = |batch: usize| {
                let part = batch.is_multiple_of(ranks).then_some(batch / ranks)?;
                room::peak(layout, &catalog, part, demand?, (Side::Device, self.machine.map_bytes())).ok()
            };
            explained(failure, plan.config.batch, self.machine.gpu_bytes(), peak)
        })?;
        let decision = search.derive(search.rule(), &split)?;
        if self.json && !decision.disconnected.is_empty() {
            return disconnected(decision, run.path());
        }
        let gap = last.filter(|epoch| !epoch.stopped).and_then(|epoch| epoch.gap);
        let mut outcome = plan.conclude(&search, decision, &split, gap, &run, &catalog)?;
        let train = TrainConfig::from(&plan.config);
        let card = card(&plan.space, &outcome.genotype, &train, data.info(), &catalog)?;
        run.write("genotype.svg", &bytes(Format::Svg, &outcome.genotype, &card, None)?)?;
        if plan.config.retrain_epochs > 0 {
            console.note(&format!("{}\n\ntraining it from scratch", outcome.genotype));
            let from_scratch =
                Child { space: &plan.space, genotype: &outcome.genotype, data, catalog: &catalog };
            run.write_train(&train, plan.space.yaml())?;
            let score = from_scratch.begin(train, Some(&run), devices.first(), console)?.finish(&drive)?;
            outcome.test_accuracy = Some(score.score.accuracy);
        }
        run.write("result.json", format!("{}\n", serde_json::to_string_pretty(&outcome)?).as_bytes())?;
        run.write_machine(&machine.finish(peak_bytes()))?;
        outcome.answer(self.json, &plan, run.path(), begun.elapsed().as_secs_f64())
    }

    fn plan(&self, catalog: &Catalog) -> Result<Plan, Failure> {
        let name = self.space.as_deref().unwrap_or("digits");
        let space = space(name, catalog)?;
        let given = self.settings.read(&[
            ("data.source", data_flag(self.data.as_ref())),
            ("data.resize", self.resize.map(|side| format!("{side:?}"))),
            ("estimator", self.estimator.as_ref().map(quoted)),
            ("epochs", self.epochs.map(|n| n.to_string())),
            ("batch", self.batch.map(|n| n.to_string())),
            ("seed", self.seed.map(|n| n.to_string())),
            ("watch.stop_on", self.stop_on.map(|sign| quoted(sign.to_string()))),
        ])?;
        let config = SearchConfig::resolve(&given.over_space(&space, name))?;
        Ok(Plan { space, config })
    }

    fn create(&self, plan: &Plan) -> Result<RunDir, Failure> {
        let named = || PathBuf::from(format!("runs/{}-seed{}", plan.space.name(), plan.config.seed));
        let run = options::create_run(&self.out.clone().unwrap_or_else(named), self.force)?;
        run.write_search(&plan.config, plan.space.yaml())?;
        Ok(run)
    }
}

impl Plan {
    /// The search before its first step, on one device or on several that learn alike.
    fn search<'c>(
        &self,
        catalog: &'c Catalog,
        data: &SearchData,
        devices: &Devices,
    ) -> Result<Searcher<'c>, Failure> {
        let Self { space, config } = self;
        Ok(match devices {
            Devices::One(on) => Searcher::new(space, catalog, data, config.clone(), &on.device)?,
            Devices::Ranks(all) => {
                let devices: Vec<_> = all.iter().map(|on| on.device.clone()).collect();
                Searcher::across(space, catalog, data, config.clone(), &devices)?
            }
        }
        .with_maps(devices.first().arithmetic.maps()))
    }

    /// Keeps the decision and says what its discreteness costs.
    fn conclude(
        &self,
        search: &Searcher<'_>,
        decision: Decision,
        data: &SearchData,
        gap: Option<Gap>,
        run: &RunDir,
        catalog: &Catalog,
    ) -> Result<Outcome, Failure> {
        let Self { space, config } = self;
        let other = format!(
            "the run is whole; try another rule: strait derive {} --rule sampled:100",
            run.path().display()
        );
        let genotype = decision.connected().map_err(|error| Failure::from(error).hint(&other))?;
        run.write_genotype(&genotype)?;
        let gap = gap.map_or_else(|| search.evaluate(data, config.last_gap_batches), Ok)?; // none: the run had ended before
        let mixture = estimators::by_name(&config.estimator)?.demand().mixes();
        let Cost { params, macs, .. } =
            child_layout(space, &genotype, &TrainConfig::from(config), data.info(), catalog)?
                .cost(catalog)?;
        Ok(Outcome {
            seed: config.seed,
            epochs: config.epochs,
            supernet_accuracy: if mixture { gap.mixture.accuracy } else { gap.sampled.accuracy },
            derived_accuracy: gap.derived.accuracy,
            test_accuracy: None,
            params,
            macs,
            gap,
            genotype,
        })
    }
}

impl Outcome {
    fn answer(&self, json: bool, plan: &Plan, run: &Path, seconds: f64) -> Result<Answer, Failure> {
        let mut value = serde_json::to_value(self)?;
        value["run"] = json!(run.display().to_string());
        value["seconds"] = json!(seconds);
        Answer::either(json, &value, || self.words(plan, run, seconds))
    }

    fn words(&self, plan: &Plan, run: &Path, seconds: f64) -> String {
        let run = run.display();
        let Gap { examples, .. } = self.gap;
        let tested = self.test_accuracy.map_or_else(
            || "not yet".to_owned(),
            |accuracy| format!("{accuracy:.4} on the test part of {}", plan.config.data.source),
        );
        format!(
            "{genotype}\n\n\
             supernet       {supernet:.4} on {examples} examples of the architecture's part\n\
             derived        {derived:.4} on the same, with the supernet's weights\n\
             from scratch   {tested}\n\
             parameters     {params}\n\
             macs           {macs}\n\
             seed           {seed}, {epochs} epochs, {seconds:.0} s\n\
             picture        {run}/genotype.svg\n\n\
             next\n  \
             strait train {run} --epochs 100         train the child longer, or wider with --channels\n  \
             strait derive {run} --rule sampled:100  another decision from the same logits\n  \
             strait export {run} --format all -o exported  onnx, pytorch, rust, safetensors, svg, …\n  \
             strait report {run} -o report.html      the whole run as one page\n",
            genotype = self.genotype,
            supernet = self.supernet_accuracy,
            derived = self.derived_accuracy,
            params = grouped(&self.params.to_string()),
            macs = grouped(&self.macs.to_string()),
            seed = self.seed,
            epochs = self.epochs,
        )
    }
}
