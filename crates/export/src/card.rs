//! What there is to say about a network besides its genotype.

use std::collections::BTreeMap;

use search_space::{Block, Layout, Stretch, Vocabulary, WordError};
use serde::{Deserialize, Serialize};

/// Plain facts about a network; every field may be empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelCard {
    /// The space as written, in YAML.
    pub space_yaml: String,
    /// Names of the classes, in the order of the logits.
    pub classes: Vec<String>,
    /// Shape of one example, channels last: `[H, W, C]`, `[L, C]` or `[C]`.
    pub input: Vec<usize>,
    /// What is subtracted from every channel of an example.
    pub mean: Vec<f64>,
    /// What every channel is then divided by.
    pub deviation: Vec<f64>,
    /// Numbers by name: `test_accuracy` in [0, 1], `params`, `macs`.
    pub metrics: BTreeMap<String, f64>,
    /// Output shape of each cell by its index, as people read it: `16×16×32`.
    pub shapes: BTreeMap<usize, String>,
    /// The whole network from front to back, a row for each run of equal blocks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub network: Vec<Row>,
    /// Versions of what made the network, by name.
    pub versions: BTreeMap<String, String>,
    /// SHA-256 of the data it was trained on, as `data::fingerprint` has it.
    pub data: String,
    /// How its space was laid out.
    pub build: Build,
}

/// Some blocks of a network, or its head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Row {
    /// `5 × cell`, `residual_block`, `head`.
    pub what: String,
    /// Output of each, as people read it: `16×16×32`.
    pub shape: String,
    /// Trainable weights of all of them.
    pub params: u64,
    /// Their multiply-accumulates of one example.
    pub macs: u64,
}

/// What a layout was asked for, besides the data's shape and classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Build {
    /// Whether norm and bias are the supernet's, since the weights are; else they are those of a network trained from
    /// scratch.
    pub inherited: bool,
    /// Channels of the first stage; the space's, where none are said.
    pub channels: Option<usize>,
    /// Cells, as the space counts them; the space's, where none are said.
    pub cells: Option<usize>,
}

/// The output shape of each cell of a layout, for [`ModelCard::shapes`].
#[must_use]
pub fn shapes(layout: &Layout) -> BTreeMap<usize, String> {
    let cell = |block: &Block| match block {
        Block::Cell(cell) => Some((cell.index, cell.shape.to_string())),
        Block::Fixed { .. } => None,
    };
    layout.blocks.iter().filter_map(cell).collect()
}

/// The rows of [`ModelCard::network`]; their sums are what [`Layout::cost`] counts.
///
/// # Errors
/// As [`Layout::cost`].
pub fn rows(layout: &Layout, words: &dyn Vocabulary) -> Result<Vec<Row>, WordError> {
    let mut rows: Vec<Row> = layout
        .stretches(words)?
        .into_iter()
        .map(|Stretch { count, what, shape, cost }| {
            let what = if count == 1 { what } else { format!("{count} × {what}") };
            Row { what, shape: shape.to_string(), params: cost.params, macs: cost.macs }
        })
        .collect();
    let head = layout.head_cost(words)?;
    let shape = format!("{} logits", layout.classes);
    rows.push(Row { what: "head".into(), shape, params: head.params, macs: head.macs });
    Ok(rows)
}
