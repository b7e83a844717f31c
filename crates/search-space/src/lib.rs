//! What may be chosen, and what was; no tensors.

mod child;
mod compile;
mod connectivity;
mod cost;
mod costs;
mod counts;
mod document;
mod fault;
mod genotype;
mod layout;
mod notation;
mod plan;
mod rule;
mod schema;
mod shape;
mod shipped;
mod site;
mod space;
mod vocabulary;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod words;

pub use child::GenotypeError;
pub use cost::Cost;
pub use costs::{Costs, PathsKept};
pub use fault::{At, Fault, SpaceErrors, nearest};
pub use genotype::{CellGenotype, Chosen, Genotype};
pub use layout::{Auxiliary, Block, Cell, CellInput, ChoiceGroup, Edge, Head, Layout, LayoutRequest, Phase};
pub use plan::LayoutError;
pub use rule::{Rule, RuleError};
pub use shape::{Extent, Rank, Shape};
pub use shipped::Template;
pub use site::{Norm, Site};
pub use space::{CellKind, KindEdge, Preprocess, Space};
pub use vocabulary::{OpSpec, Vocabulary, Word, WordError, Written};
