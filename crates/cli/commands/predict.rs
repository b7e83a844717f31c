//! `strait predict`: a trained network at work.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use strait::data::{picture, rows};
use strait::ops::Catalog;
use strait::space::Shape;

use crate::model::Loaded;
use crate::options;
use crate::{answer::Answer, console::Console, failure::Failure};

const EXAMPLES: &str = "\
Examples:
  strait predict runs/digits-seed0 digit.png
  strait predict exported/network.safetensors pictures/ --json
  strait predict runs/mlp-seed0 table.csv

Pictures become grey or colored, and as large as the network's were in training. A table's rows hold the numbers of one
example each, without a label: for pictures channels last, in [0, 1].";

/// `strait predict`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Predict {
    /// Directory of a run, or a file of `strait export --format safetensors`
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// A PNG or JPEG, a folder of them, or a table (.csv)
    #[arg(value_name = "IMAGE|FOLDER|CSV", required = true)]
    inputs: Vec<PathBuf>,
    /// Print one JSON object, with every logit
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: options::Machine,
}

impl Predict {
    /// One line an example: where it came from, its class, how probable that is.
    pub(crate) fn run(&self, console: &Console) -> Result<Answer, Failure> {
        self.machine.open()?;
        let catalog = Catalog::standard();
        let loaded = match self.model.is_dir() {
            true => Loaded::of_run(&self.model, &catalog)?,
            false => Loaded::read(&self.model, &catalog)?,
        };
        if loaded.card.build.inherited {
            console.note("this network was not trained from scratch; it has the supernet's weights");
        }
        let shape = loaded.network.layout().input;
        let mut examples = Vec::new();
        for input in &self.inputs {
            examples.extend(read(input, shape)?);
        }
        let (names, values): (Vec<String>, Vec<Vec<f32>>) = examples.into_iter().unzip();
        let logits = loaded.logits(values)?;
        let mut predictions = Vec::new();
        for (name, logits) in names.iter().zip(&logits) {
            let (best, probability) = likeliest(logits);
            let label = loaded.card.classes.get(best).map_or_else(|| best.to_string(), Clone::clone);
            predictions.push(json!({
                "input": name, "label": label, "probability": probability, "logits": logits,
            }));
        }
        Answer::either(self.json, &json!({ "predictions": predictions }), || {
            let line = |one: &serde_json::Value| {
                let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
                format!(
                    "{}\t{}\t{:.4}\n",
                    text("input"),
                    text("label"),
                    one["probability"].as_f64().unwrap_or_default()
                )
            };
            predictions.iter().map(line).collect()
        })
    }
}

/// The examples at `path`, each with a name.
fn read(path: &Path, shape: Shape) -> Result<Vec<(String, Vec<f32>)>, Failure> {
    let has = |path: &Path, known: &[&str]| {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        known.contains(&extension.as_str())
    };
    if path.is_dir() {
        let entries = fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let entries = entries
            .map_err(|error| Failure::misuse(format!("{}: cannot be read: {error}", path.display())))?;
        let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
        files.retain(|path| has(path, &["png", "jpg", "jpeg"]));
        files.sort();
        if files.is_empty() {
            return Err(Failure::misuse(format!("{}: no PNG and no JPEG in it", path.display())));
        }
        return files.iter().map(|file| Ok((file.display().to_string(), picture(file, shape)?))).collect();
    }
    if has(path, &["csv", "gz"]) {
        let named = |(index, row): (usize, Vec<f32>)| (format!("{} row {}", path.display(), index + 1), row);
        return Ok(rows(path, shape)?.into_iter().enumerate().map(named).collect());
    }
    Ok(vec![(path.display().to_string(), picture(path, shape)?)])
}

/// The largest logit's place, and its softmax.
fn likeliest(logits: &[f32]) -> (usize, f64) {
    let best = (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
    let top = f64::from(logits.get(best).copied().unwrap_or_default());
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - top).exp()).sum();
    (best, 1.0 / sum.max(1.0))
}
