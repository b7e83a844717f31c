//! A trained network, from a run or from an exported file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use strait::data::{DataInfo, Normalize, TrainData, fingerprint};
use strait::export::safetensors::Model;
use strait::export::{Build, ModelCard, Trained, rows, shapes};
use strait::network::{self, Network, Purpose};
use strait::ops::kernels::gpu::Arithmetic;
use strait::ops::{Catalog, Draw, Forward, Mode, ParamStore, Statistics};
use strait::space::{Genotype, Layout, LayoutRequest, Phase, Space};
use strait::trainer::{Retraining, RunDir, TrainConfig};
use strait::{Device, Tensor};

use crate::failure::Failure;
use crate::options::{Computer, Finished, Subject, dataset};

/// A network with its weights, and all it takes to feed it.
pub(crate) struct Loaded {
    pub(crate) genotype: Genotype,
    pub(crate) card: ModelCard,
    pub(crate) network: Network,
    pub(crate) params: ParamStore,
}

impl Loaded {
    /// The network in a file that `strait export --format safetensors` wrote.
    pub(crate) fn read(path: &Path, catalog: &Catalog) -> Result<Self, Failure> {
        Self::of(model(path)?, catalog)
    }

    /// The network of a file's content.
    pub(crate) fn of(model: Model, catalog: &Catalog) -> Result<Self, Failure> {
        let (network, params) = model.network(catalog)?;
        Ok(Self { genotype: model.header.genotype, card: model.header.card, network, params })
    }

    /// The trained child of a run; where none was trained to the end, the child with the supernet's weights.
    pub(crate) fn of_run(path: &Path, catalog: &Catalog) -> Result<Self, Failure> {
        let run = RunDir::view(path)?;
        let Subject { space, genotype, .. } = Subject::of(&run, catalog)?;
        let was_trained = path.join("train.yaml").is_file();
        let config = if was_trained { run.train_config()? } else { TrainConfig::from(&run.search_config()?) };
        let data = dataset(&config.data)?;
        let mut card = card(&space, &genotype, &config, data.info(), catalog)?;
        let normalize = Normalize::of(&*data);
        (card.mean, card.deviation) = (widened(&normalize.mean), widened(&normalize.deviation));
        card.metrics = metrics(&run);
        card.versions.insert("strait".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        card.data = fingerprint(&*data);
        if was_trained {
            let epochs = config.epochs;
            let train = TrainData::of(data)?;
            let mut training = Retraining::new(&space, &genotype, catalog, &train, config, &Device::Cpu)?;
            if training.resume(&run)? && training.epoch() == epochs {
                let (network, params) = training.into_network();
                return Ok(Self { genotype, card, network, params });
            }
        }
        card.build = Build { inherited: true, channels: None, cells: None };
        let Finished { search, split, .. } =
            Finished::open(path, None, catalog, &Computer::cpu(Arithmetic::F32))?;
        let settings = search.config();
        if settings.partial_channels > 1 || settings.edge_normalization {
            let message = format!(
                "{}: its supernet has partial channels or normalized edges, and no child was trained without",
                path.display()
            );
            return Err(Failure::misuse(message).hint(format!("train it: strait train {}", path.display())));
        }
        let (network, params) = search.inherited(&genotype, &split)?;
        Ok(Self { genotype, card, network, params })
    }

    /// The network in the words of exports.
    pub(crate) fn trained(&self) -> Result<Trained, Failure> {
        let values = self.params.tensors().map(|(name, value)| (name, value.clone())).collect();
        match self.network.blueprint(&self.params) {
            Err(error @ network::Error::NotToldOf(_)) => {
                Ok(Trained::untold(self.network.layout().clone(), error.to_string(), values)?)
            }
            blueprint => Ok(Trained::new(blueprint?, values)?),
        }
    }

    /// What examples are normalized with.
    pub(crate) fn normalize(&self) -> Normalize {
        let narrowed = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
        Normalize { mean: narrowed(&self.card.mean), deviation: narrowed(&self.card.deviation) }
    }

    /// The logits of examples as they are read, not yet normalized, a hundred at a time.
    pub(crate) fn logits(&self, examples: Vec<Vec<f32>>) -> Result<Vec<Vec<f32>>, Failure> {
        let (normalize, shape) = (self.normalize(), self.network.layout().input);
        let mut logits = Vec::with_capacity(examples.len());
        for chunk in examples.chunks(100) {
            let mut values = chunk.concat();
            values.chunks_mut(shape.elements().max(1)).for_each(|example| normalize.apply(example));
            let x = Tensor::from_vec(values, shape.batch_dims(chunk.len()), self.params.device())?;
            let statistics = &mut Statistics::default();
            let mut pass =
                Forward { params: &self.params, mode: Mode::Eval, statistics, draw: Draw::default() };
            let (y, _) = self.network.forward(&x, 0.0, Purpose::Evaluate, &mut pass)?;
            logits.extend(y.main.to_vec2::<f32>()?);
        }
        Ok(logits)
    }
}

/// A file of weights, its fingerprint not yet looked at.
pub(crate) fn model(path: &Path) -> Result<Model, Failure> {
    let bytes = fs::read(path)
        .map_err(|error| Failure::misuse(format!("{}: cannot be read: {error}", path.display())))?;
    Model::read(&bytes).map_err(|error| Failure::misuse(format!("{}: {error}", path.display())))
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

/// What pictures and files say of a child besides its choices.
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
        network: rows(&layout, catalog)?,
        build: Build { inherited: false, channels: config.channels, cells: config.cells },
        ..ModelCard::default()
    })
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
