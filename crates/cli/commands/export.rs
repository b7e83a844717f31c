//! `strait export`: a decision in the forms in which others take it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::Value;
use strait::data::{DataInfo, Dataset, Normalize, TrainData};
use strait::export::{Format, ModelCard, shapes, write as write_format};
use strait::ops::Catalog;
use strait::space::{Genotype, Space};
use strait::trainer::{Retraining, RunDir, TrainConfig};
use strait::{Device, Tensor};

use super::train::child_layout;
use crate::options::{Finished, Subject, dataset, genotype, write};
use crate::{answer::Answer, failure::Failure};

/// `strait export`
#[derive(Args, Debug)]
pub(crate) struct Export {
    /// Directory of a run, or a genotype (YAML or JSON)
    #[arg(value_name = "RUN|GENOTYPE")]
    subject: PathBuf,
    /// yaml, json, nb201, darts, dot, svg, or safetensors (weights: trained, else the supernet's)
    #[arg(long, value_name = "FORMAT")]
    format: Format,
    /// Where to write it [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Export {
    /// Writes the format to a file or to stdout.
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
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
        let genotype = genotype(&self.subject)?;
        if self.format.holds_weights() {
            return Err(Failure::misuse(format!(
                "{}: a genotype has no weights; a run is accepted",
                self.subject.display()
            ))
            .hint("train it: strait train, and export the directory that comes of it"));
        }
        bytes(self.format, &genotype, &ModelCard::default(), &[])
    }

    fn of_run(&self) -> Result<Vec<u8>, Failure> {
        let (run, catalog) = (RunDir::view(&self.subject)?, Catalog::standard());
        let Subject { space, genotype, .. } = Subject::of(&run, &catalog)?;
        let trained = run.path().join("train.yaml").is_file();
        let config = if trained { run.train_config()? } else { TrainConfig::from(&run.search_config()?) };
        let data = dataset(&config.data)?;
        let mut card = card(&space, &genotype, &config, data.info(), &catalog)?;
        if !self.format.holds_weights() {
            return bytes(self.format, &genotype, &card, &[]);
        }
        let normalize = Normalize::of(&*data);
        (card.mean, card.deviation) = (widened(&normalize.mean), widened(&normalize.deviation));
        card.metrics = metrics(&run);
        card.versions.insert("strait".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        let own = if trained { weights(&run, &space, &genotype, config, data, &catalog)? } else { None };
        let weights = own.map_or_else(|| inherited(&self.subject, &genotype, &catalog), Ok)?;
        bytes(self.format, &genotype, &card, &weights)
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
    weights: &[(String, Tensor)],
) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    write_format(format, genotype, card, weights, &mut bytes)?;
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

/// The weights of the child that was trained from scratch, if its training has ended.
fn weights(
    run: &RunDir,
    space: &Space,
    genotype: &Genotype,
    config: TrainConfig,
    data: Arc<dyn Dataset>,
    catalog: &Catalog,
) -> Result<Option<Vec<(String, Tensor)>>, Failure> {
    let epochs = config.epochs;
    let mut training =
        Retraining::new(space, genotype, catalog, &TrainData::of(data)?, config, &Device::Cpu)?;
    let ended = training.resume(run)? && training.epoch() == epochs;
    let owned = |(name, tensor): (String, &Tensor)| (name, tensor.clone());
    Ok(ended.then(|| training.params().tensors().map(owned).collect()))
}

/// The child's weights in the supernet.
fn inherited(run: &Path, genotype: &Genotype, catalog: &Catalog) -> Result<Vec<(String, Tensor)>, Failure> {
    let Finished { search, split, .. } = Finished::open(run, None, catalog, &Device::Cpu)?;
    let (_, params) = search.inherited(genotype, &split)?;
    Ok(params.tensors().map(|(name, tensor)| (name, tensor.clone())).collect())
}
