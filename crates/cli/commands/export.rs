//! `strait export`: a decision in the forms in which others take it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::Value;
use strait::Device;
use strait::data::{DataInfo, Dataset, Normalize, TrainData};
use strait::export::onnx::{self, BatchNorms};
use strait::export::{Format, ModelCard, Trained, shapes, write as write_format};
use strait::network::Network;
use strait::ops::{Catalog, ParamStore};
use strait::space::{Genotype, Space};
use strait::trainer::{Retraining, RunDir, TrainConfig};

use super::train::child_layout;
use crate::options::{Finished, Subject, dataset, write};
use crate::{answer::Answer, failure::Failure};

const EXAMPLES: &str = "\
Examples:
  strait export runs/digits-seed0 --format onnx -o digits.onnx
  strait export runs/digits-seed0 --format svg -o cell.svg
  strait export '|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|' --format dot";

/// `strait export`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Export {
    /// Directory of a run, or a genotype (YAML, JSON, NAS-Bench-201's string or DARTS's tuple, as a file or as text)
    #[arg(value_name = "RUN|GENOTYPE")]
    subject: PathBuf,
    /// yaml, json, nb201, darts, dot, svg, or with weights (trained, else the supernet's) safetensors, onnx
    #[arg(long, value_name = "FORMAT")]
    format: Format,
    /// A genotype's space: a file, or a shipped name [default: the shipped one that the genotype names; nas-bench-201
    /// and darts for their notations]
    #[arg(long, value_name = "SPACE.yaml")]
    space: Option<String>,
    /// In ONNX, make batch norms part of the convolutions before them
    #[arg(long)]
    fold_batch_norm: bool,
    /// Where to write it [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Export {
    /// Writes the format to a file or to stdout.
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        if self.fold_batch_norm && self.format != Format::Onnx {
            return Err(Failure::misuse(
                "--fold-batch-norm is for onnx; other formats keep batch norms apart",
            ));
        }
        let bytes = if self.subject.is_dir() { self.of_run() } else { self.of_genotype() }?;
        match &self.output {
            None => Ok(Answer::bytes(bytes)),
            Some(path) => {
                write(path, &bytes)?;
                Ok(Answer::text(format!("wrote {}", path.display())))
            }
        }
    }

    fn of_genotype(&self) -> Result<Vec<u8>, Failure> {
        let Subject { genotype, .. } =
            Subject::open(&self.subject, self.space.as_deref(), &Catalog::standard())?;
        if self.format.holds_weights() {
            return Err(Failure::misuse(format!(
                "{}: a genotype has no weights; a run is accepted",
                self.subject.display()
            ))
            .hint("train it: strait train, and export the directory that comes of it"));
        }
        bytes(self.format, &genotype, &ModelCard::default(), None)
    }

    fn of_run(&self) -> Result<Vec<u8>, Failure> {
        let (run, catalog) = (RunDir::view(&self.subject)?, Catalog::standard());
        let Subject { space, genotype, .. } = Subject::of(&run, &catalog)?;
        let is_trained = run.path().join("train.yaml").is_file();
        let config = if is_trained { run.train_config()? } else { TrainConfig::from(&run.search_config()?) };
        let data = dataset(&config.data)?;
        let mut card = card(&space, &genotype, &config, data.info(), &catalog)?;
        if !self.format.holds_weights() {
            return bytes(self.format, &genotype, &card, None);
        }
        let normalize = Normalize::of(&*data);
        (card.mean, card.deviation) = (widened(&normalize.mean), widened(&normalize.deviation));
        card.metrics = metrics(&run);
        card.versions.insert("strait".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        let own = if is_trained { trained(&run, &space, &genotype, config, data, &catalog)? } else { None };
        let trained = own.map_or_else(|| inherited(&self.subject, &genotype, &catalog), Ok)?;
        if self.fold_batch_norm {
            let mut model = Vec::new();
            onnx::write(&genotype, &card, &trained, BatchNorms::Folded, &mut model)?;
            return Ok(model);
        }
        bytes(self.format, &genotype, &card, Some(&trained))
    }
}

/// What a picture of the child says besides its choices.
pub(crate) fn card(
    space: &Space,
    genotype: &Genotype,
    config: &TrainConfig,
    data: &DataInfo,
    catalog: &Catalog,
) -> Result<ModelCard, Failure> {
    let layout = child_layout(space, genotype, config, data, catalog)?;
    Ok(ModelCard {
        space_yaml: space.yaml().to_owned(),
        classes: data.classes.clone(),
        input: data.shape.batch_dims(1).split_off(1),
        shapes: shapes(&layout),
        ..ModelCard::default()
    })
}

/// The genotype in `format`.
pub(crate) fn bytes(
    format: Format,
    genotype: &Genotype,
    card: &ModelCard,
    trained: Option<&Trained>,
) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    write_format(format, genotype, card, trained, &mut bytes)?;
    Ok(bytes)
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// The numbers of the run's result, if it has one.
fn metrics(run: &RunDir) -> BTreeMap<String, f64> {
    let text = fs::read_to_string(run.path().join("result.json")).unwrap_or_default();
    let result: Value = serde_json::from_str(&text).unwrap_or_default();
    let numbers = result.as_object().into_iter().flatten();
    numbers.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect()
}

/// The child that was trained from scratch, if its training has ended.
fn trained(
    run: &RunDir,
    space: &Space,
    genotype: &Genotype,
    config: TrainConfig,
    data: Arc<dyn Dataset>,
    catalog: &Catalog,
) -> Result<Option<Trained>, Failure> {
    let epochs = config.epochs;
    let mut training =
        Retraining::new(space, genotype, catalog, &TrainData::of(data)?, config, &Device::Cpu)?;
    let ended = training.resume(run)? && training.epoch() == epochs;
    ended.then(|| with_values(training.network(), training.params())).transpose()
}

/// The child with its weights in the supernet.
fn inherited(run: &Path, genotype: &Genotype, catalog: &Catalog) -> Result<Trained, Failure> {
    let Finished { search, split, .. } = Finished::open(run, None, catalog, &Device::Cpu)?;
    let (network, params) = search.inherited(genotype, &split)?;
    with_values(&network, &params)
}

fn with_values(network: &Network, params: &ParamStore) -> Result<Trained, Failure> {
    let values = params.tensors().map(|(name, value)| (name, value.clone())).collect();
    Ok(Trained::new(network.blueprint(params)?, values)?)
}
