//! `strait verify`: whether an exported network is what it says.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use strait::data::{DataSpec, Part, fingerprint};
use strait::ops::Catalog;
use strait::trainer::DataConfig;

use super::check::grouped;
use crate::model::{Loaded, model};
use crate::options::{self, dataset, size};
use crate::{answer::Answer, failure::Failure};

/// `strait verify`
#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// A file of `strait export --format safetensors`
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Measure the accuracy on the test part of these data, and compare them with those it was trained on
    #[arg(long, value_name = "DATA")]
    data: Option<DataSpec>,
    /// Bring every picture of `--data folder:DIR` to this size
    #[arg(long, value_name = "HEIGHTxWIDTH", value_parser = size)]
    resize: Option<[usize; 2]>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: options::Machine,
}

impl Verify {
    /// Recomputes what the file claims; code 1 where something differs.
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        self.machine.open()?;
        let (catalog, model) = (Catalog::standard(), model(&self.file)?);
        let (claimed, found) = (model.header.weights.clone(), model.fingerprint()?);
        let mut same = claimed == found;
        let loaded = Loaded::of(model, &catalog)?;
        let cost = loaded.network.layout().cost(&catalog)?;
        let mut told = json!({
            "weights": found, "weights_match": same, "params": cost.params, "macs": cost.macs,
            "genotype": loaded.genotype, "data_match": null, "test_accuracy": null, "claimed_accuracy": null,
        });
        if let Some(source) = &self.data {
            let mut config = DataConfig { source: source.clone(), ..DataConfig::default() };
            config.options.resize = self.resize;
            let data = dataset(&config)?;
            let shape = loaded.network.layout().input;
            if data.info().shape != shape || data.info().classes.len() != loaded.card.classes.len() {
                let (found, classes) = (data.info().shape, data.info().classes.len());
                return Err(Failure::misuse(format!(
                    "{source}: examples of {found} in {classes} classes; the network takes {shape} in {}",
                    loaded.card.classes.len()
                )));
            }
            let (mut examples, mut labels) = (Vec::new(), Vec::new());
            for index in 0..data.len(Part::Test) {
                let mut values = vec![0.0; shape.elements()];
                labels.push(data.read(Part::Test, index, &mut values) as usize);
                examples.push(values);
            }
            let logits = loaded.logits(examples)?;
            let best = |logits: &Vec<f32>| {
                (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best })
            };
            let right = logits.iter().zip(&labels).filter(|(logits, label)| best(logits) == **label).count();
            let accuracy = right as f64 / labels.len().max(1) as f64;
            let same_data = fingerprint(&*data) == loaded.card.data;
            told["data_match"] = json!(same_data);
            told["test_accuracy"] = json!(accuracy);
            if let Some(&claimed) = loaded.card.metrics.get("test_accuracy") {
                told["claimed_accuracy"] = json!(claimed);
                same &= !same_data || (accuracy - claimed).abs() < 1e-12;
            }
        }
        let answer = Answer::either(self.json, &told, || self.words(&told, &loaded))?;
        Ok(if same { answer } else { answer.refusing(ExitCode::FAILURE) })
    }

    fn words(&self, told: &serde_json::Value, loaded: &Loaded) -> String {
        let whole = told["weights_match"] == true;
        let verdict = if whole { "as written" } else { "CHANGED since they were written" };
        let number = |key: &str| grouped(&told[key].to_string());
        let mut text = format!(
            "{}\n{}\nweights        {verdict}\nparameters     {}\nmacs           {}\n",
            self.file.display(),
            loaded.genotype,
            number("params"),
            number("macs"),
        );
        if let Some(accuracy) = told["test_accuracy"].as_f64() {
            let data = if told["data_match"] == true { "the data it was trained with" } else { "OTHER data" };
            text += &format!("test accuracy  {accuracy:.4} on the test part of {data}");
            if let Some(claimed) = told["claimed_accuracy"].as_f64() {
                text += &format!("; the file says {claimed:.4}");
            }
        }
        text
    }
}
