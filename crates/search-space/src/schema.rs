//! A space as written: the YAML format, version 1.
//!
//! Every field is optional here, so that one fault hides no other; `compile` says which are required. Unknown fields
//! are refused. The shipped files of `search_spaces/` show every part of it.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{
        self, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

use crate::{Norm, Rank, Written, document::Field};

/// The version of the format that this crate reads.
pub(crate) const VERSION: u64 = 1;

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub(crate) struct SpaceFile {
    /// Always 1.
    pub(crate) version: Field<u64>,
    /// What genotypes call the space.
    pub(crate) name: Field<String>,
    /// `image` (default), `series` or `flat`.
    pub(crate) rank: Field<Rank>,
    /// `[height, width, channels]`, `[length, channels]` or `[channels]`; absent: the data's.
    pub(crate) input: Field<Vec<usize>>,
    /// Number of classes; absent: the data's.
    pub(crate) classes: Field<usize>,
    /// `argmax` (default), `top-2` or `sampled:N`.
    pub(crate) rule: Field<String>,
    /// Batch norm and bias.
    pub(crate) norm: Field<NormFile>,
    /// The cell kinds.
    pub(crate) cells: Field<Vec<Field<KindFile>>>,
    /// The macro skeleton.
    pub(crate) network: Field<NetworkFile>,
    /// Default settings of a search; the trainer's, opaque here.
    pub(crate) search: Field<serde_yaml::Mapping>,
}

/// Norm settings of the supernet and of its children.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub(crate) struct NormFile {
    /// Of the supernet.
    pub(crate) search: Field<Norm>,
    /// Of a derived network.
    pub(crate) train: Field<Norm>,
}

/// One cell kind.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub(crate) struct KindFile {
    /// What stages and genotypes call it.
    pub(crate) name: Field<String>,
    /// 1 (default) or 2.
    pub(crate) inputs: Field<usize>,
    /// Intermediate nodes, 1 by default.
    pub(crate) nodes: Field<usize>,
    /// `all` (default): every node reads every earlier one; or a list.
    pub(crate) edges: Field<WordOr<Vec<Field<EdgeFile>>>>,
    /// The candidates of every edge that lists none of its own.
    pub(crate) candidates: Field<Vec<Field<Written>>>,
    /// How a node combines what its edges bring: `sum`.
    pub(crate) combine: Field<Combine>,
    /// `last` (default), `all`, or the nodes to concatenate.
    pub(crate) output: Field<WordOr<Vec<Field<usize>>>>,
    /// Whether all cells of the kind share their logits (default), or every cell chooses for itself.
    pub(crate) logits: Field<Logits>,
    /// What fits the inputs to the cell's width (`nor_conv_1x1` in DARTS); `none` by default.
    pub(crate) preprocess: Field<Written>,
}

/// One edge, written out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub(crate) struct EdgeFile {
    /// Source node.
    pub(crate) from: Field<usize>,
    /// Target node.
    pub(crate) to: Field<usize>,
    /// Its own candidates; absent: the kind's.
    pub(crate) candidates: Field<Vec<Field<Written>>>,
}

/// The macro skeleton.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub(crate) struct NetworkFile {
    /// Width of the first stage.
    pub(crate) channels: Field<usize>,
    /// Widths are rounded to multiples of this; 1 by default.
    pub(crate) round_to: Field<usize>,
    /// Cells in all, shared evenly by the stages; absent: every stage has its `repeats`.
    pub(crate) cells: Field<usize>,
    /// Width and depth of a derived network; absent: the supernet's.
    pub(crate) train: Field<TrainFile>,
    /// The first operation; absent: the cells read the data.
    pub(crate) stem: Field<StemFile>,
    /// The stages in order.
    pub(crate) stages: Field<Vec<Field<StageFile>>>,
    /// From the last map to the logits.
    pub(crate) head: Field<HeadFile>,
    /// A second head that helps to train derived networks.
    pub(crate) auxiliary: Field<AuxiliaryFile>,
}

/// Width and depth of a derived network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub(crate) struct TrainFile {
    /// As `network.channels`.
    pub(crate) channels: Field<usize>,
    /// As `network.cells`, or as every stage's `repeats`.
    pub(crate) cells: Field<usize>,
}

/// The first operation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping with `block`, or no stem at all")]
pub(crate) struct StemFile {
    /// The operation.
    pub(crate) block: Field<Written>,
    /// Output channels; scaled along when the network's width is.
    pub(crate) channels: Field<usize>,
    /// Output channels as a multiple of the network's.
    pub(crate) multiplier: Field<usize>,
    /// 1 by default.
    pub(crate) stride: Field<usize>,
}

/// One stage: cells of one width.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub(crate) struct StageFile {
    /// The cell kind; absent where an entry block is all.
    pub(crate) cell: Field<String>,
    /// Cells, an entry cell included; 1 by default.
    pub(crate) repeats: Field<usize>,
    /// Width; absent: that of the previous stage.
    pub(crate) channels: Field<usize>,
    /// Width as a multiple of the previous stage's.
    pub(crate) growth: Field<f64>,
    /// What leads into the stage.
    pub(crate) entry: Field<EntryFile>,
    /// Stride of the entry; 2 by default, 1 without spatial axes.
    pub(crate) stride: Field<usize>,
}

/// What leads into a stage: one of the two.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub(crate) struct EntryFile {
    /// A cell kind, as the first of the stage's cells.
    pub(crate) cell: Field<String>,
    /// A fixed operation in front of them.
    pub(crate) block: Field<Written>,
}

/// From the last map to the logits.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub(crate) struct HeadFile {
    /// In front of the pool (`norm_relu`); nothing by default.
    pub(crate) block: Field<Written>,
    /// Its output channels; absent: its input's.
    pub(crate) channels: Field<usize>,
    /// In [0, 1); 0 by default.
    pub(crate) dropout: Field<f64>,
}

/// The auxiliary head.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub(crate) struct AuxiliaryFile {
    /// The operation; `auxiliary_head` by default.
    pub(crate) block: Field<Written>,
    /// It reads the first block of this stage; stages count from 0.
    pub(crate) stage: Field<usize>,
    /// Weight of its loss; 0.4 by default.
    pub(crate) weight: Field<f64>,
}

/// How a node combines what its edges bring.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Combine {
    /// Adds it up.
    #[default]
    Sum,
}

/// Who shares logits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Logits {
    /// All cells of a kind.
    #[default]
    Shared,
    /// Nobody: every cell has its own.
    PerCell,
}

/// A single word, or something longer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum WordOr<T> {
    Word(String),
    Other(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for WordOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = WordOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word or a list")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Self::Value, E> {
                Ok(WordOr::Word(word.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                T::deserialize(SeqAccessDeserializer::new(list)).map(WordOr::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(WordOr::Other)
            }
        }
        deserializer.deserialize_any(Either(std::marker::PhantomData))
    }
}
