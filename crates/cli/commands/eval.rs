//! `strait eval`: a run's networks, measured again.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use strait::controller::estimators;
use strait::data::{DataSpec, TestData, TrainData};
use strait::ops::Catalog;
use strait::trainer::{Exam, Retraining, RunDir};

use crate::options::{self, Computer, Finished, Subject, dataset};
use crate::{answer::Answer, console::Console, failure::Failure};

/// `strait eval`
#[derive(Args, Debug)]
pub(crate) struct Eval {
    /// Directory of a search or of a training
    run: PathBuf,
    /// Other data of the same shape and classes (`strait list data`) [default: the run's]
    #[arg(long, value_name = "DATA")]
    data: Option<DataSpec>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: options::Machine,
}

impl Eval {
    /// The supernet and the derived child on the architecture's part, a trained child on the test part.
    pub(crate) fn run(&self, console: &Console) -> Result<Answer, Failure> {
        let on = self.machine.open()?;
        let mut found = json!({
            "run": self.run.display().to_string(),
            "supernet_accuracy": null, "derived_accuracy": null, "test_accuracy": null,
        });
        let run = RunDir::view(&self.run)?;
        if run.path().join("config.yaml").is_file() {
            console.note("measuring the supernet on the architecture's part");
            self.searched(&on, &mut found)?;
        }
        if run.path().join("train.yaml").is_file() {
            console.note("measuring the trained child on the test part");
            if let Some(exam) = self.trained(&run, &on)? {
                found["test_accuracy"] = json!(exam.score.accuracy);
                found["test_top5"] = json!(exam.top5);
                found["per_class"] = json!(exam.per_class());
                found["confusion"] = json!(exam.confusion);
            }
        }
        Answer::either(self.json, &found, || words(&found, &self.run))
    }

    fn searched(&self, on: &Computer, found: &mut Value) -> Result<(), Failure> {
        let catalog = Catalog::standard();
        let Finished { config, search, split, .. } =
            Finished::open(&self.run, self.data.as_ref(), &catalog, on)?;
        let gap = search.evaluate(&split, config.last_gap_batches)?;
        let mixture = estimators::by_name(&config.estimator)?.demand().mixes();
        found["supernet_accuracy"] = json!(if mixture { gap.mixture.accuracy } else { gap.sampled.accuracy });
        found["derived_accuracy"] = json!(gap.derived.accuracy);
        found["gap"] = serde_json::to_value(gap)?;
        Ok(())
    }

    /// The exam of a child that is trained to the end; of one that is not there is none to report.
    fn trained(&self, run: &RunDir, on: &Computer) -> Result<Option<Exam>, Failure> {
        let catalog = Catalog::standard();
        let Subject { space, genotype, .. } = Subject::of(run, &catalog)?;
        let mut config = run.train_config()?;
        let data = dataset(&config.data)?;
        let tested = match &self.data {
            None => data.clone(),
            Some(source) => {
                config.data.source = source.clone();
                dataset(&config.data)?
            }
        };
        let config = run.train_config()?;
        let epochs = config.epochs;
        let training =
            Retraining::new(&space, &genotype, &catalog, &TrainData::of(data)?, config, &on.device)?;
        let mut training = training.with_maps(on.arithmetic.maps());
        let ended = training.resume(run)? && training.epoch() == epochs;
        Ok(if ended { Some(training.examine(&TestData::of(tested)?)?) } else { None })
    }
}

fn words(found: &Value, run: &Path) -> String {
    let accuracy = |key: &str| match found[key].as_f64() {
        Some(accuracy) => format!("{accuracy:.4}"),
        None => "not there".to_owned(),
    };
    format!(
        "{}\nsupernet       {} on the architecture's part\nderived        {} on the same, with the supernet's weights\nfrom scratch   {} on the test part",
        run.display(),
        accuracy("supernet_accuracy"),
        accuracy("derived_accuracy"),
        accuracy("test_accuracy"),
    )
}
