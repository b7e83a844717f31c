//! What may be chosen, and what was; no tensors.

mod cost;
mod genotype;
mod layout;
mod shape;
mod site;
mod vocabulary;

pub use cost::Cost;
pub use genotype::{CellGenotype, Chosen, Genotype};
pub use layout::{Auxiliary, Block, Cell, CellInput, ChoiceGroup, Edge, Head, Layout, LayoutRequest, Phase};
pub use shape::{Extent, Rank, Shape};
pub use site::{Norm, Site};
pub use vocabulary::{OpSpec, Vocabulary, Word, WordError, Written};
