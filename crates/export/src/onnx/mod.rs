//! The network as an ONNX model, for the runtimes of others.

mod graph;
mod proto;
#[cfg(test)]
mod tests;

use std::io::Write;

use prost::Message;
use search_space::{Extent, Genotype};

use crate::{Error, ModelCard, Trained};
use graph::Emitter;
use proto::{Axis, Entry, Graph, Model, OperatorSet, Port, PortType, Size, TensorShape, TensorType};

/// The operator set, and the version of the format that came with it: of 2021, known to every runtime of today.
const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;

/// What becomes of batch norms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BatchNorms {
    /// Operators of their own.
    #[default]
    Kept,
    /// Where one follows a convolution, it becomes part of the convolution's weights; the logits differ by rounding.
    Folded,
}

/// Writes the network: input `input`, channels first, any number of examples; output `logits` `(batch, classes)`.
///
/// Metadata hold `classes`, `mean` and `deviation` as JSON lists (what a channel of an example in [0, 1] is normalized
/// with before it enters), `layout` (the input's axes), `genotype` and `metrics` in JSON, and `space` in YAML.
///
/// # Errors
/// A value is missing; the writer's.
pub fn write(
    genotype: &Genotype,
    card: &ModelCard,
    trained: &Trained,
    norms: BatchNorms,
    out: &mut dyn Write,
) -> Result<(), Error> {
    Ok(out.write_all(&model(genotype, card, trained, norms)?.encode_to_vec())?)
}

fn model(
    genotype: &Genotype,
    card: &ModelCard,
    trained: &Trained,
    norms: BatchNorms,
) -> Result<Model, Error> {
    let layout = trained.layout();
    let mut emitter = Emitter::new(trained, norms);
    emitter.network()?;
    let (sizes, axes) = match layout.input.extent {
        Extent::Flat => (vec![], "NC"),
        Extent::Series { length } => (vec![length], "NCL"),
        Extent::Image { height, width } => (vec![height, width], "NCHW"),
    };
    let input = [&[layout.input.channels][..], &sizes].concat();
    let graph = Graph {
        name: layout.space.clone(),
        input: vec![port(graph::INPUT, &input)],
        output: vec![port(graph::OUTPUT, &[layout.classes])],
        node: emitter.nodes,
        initializer: emitter.constants,
    };
    let entry = |(key, value): (&str, String)| Entry { key: key.to_owned(), value };
    let metadata = [
        ("classes", json(&card.classes)),
        ("mean", json(&card.mean)),
        ("deviation", json(&card.deviation)),
        ("layout", axes.to_owned()),
        ("genotype", genotype.to_json()),
        ("metrics", json(&card.metrics)),
        ("space", card.space_yaml.clone()),
    ];
    Ok(Model {
        ir_version: IR_VERSION,
        producer_name: "strait".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        doc_string: genotype.to_string(),
        graph: Some(graph),
        opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
        metadata_props: metadata.map(entry).into(),
    })
}

/// A batch of tensors of these sizes.
fn port(name: &str, sizes: &[usize]) -> Port {
    let fixed = |&size: &usize| Axis { size: Some(Size::Fixed(size as i64)) };
    let batch = Axis { size: Some(Size::Named("batch".to_owned())) };
    let dim = std::iter::once(batch).chain(sizes.iter().map(fixed)).collect();
    let tensor = TensorType { elem_type: graph::FLOAT, shape: Some(TensorShape { dim }) };
    Port { name: name.to_owned(), of: Some(PortType { tensor: Some(tensor) }) }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("numbers and strings have a JSON form")
}
