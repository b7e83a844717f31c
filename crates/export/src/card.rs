//! What there is to say about a network besides its genotype.

use std::collections::BTreeMap;

use search_space::{Block, Layout};
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
    /// Versions of what made the network, by name.
    pub versions: BTreeMap<String, String>,
    /// SHA-256 of the data it was trained on, as `data::fingerprint` has it.
    pub data: String,
    /// How its space was laid out.
    pub build: Build,
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
