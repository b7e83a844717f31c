//! What may be chosen, and what was; no tensors.
//!
//! ```text
//! space.yaml ─▶ Space ─▶ Layout (every candidate, at its site) ─▶ child of a Genotype
//! ```
//!
//! One decision shapes the crate: a file is read once, into a [`Space`] that cannot be wrong, and reading it finds
//! *every* independent fault, each at its line and column. Serde's own readers stop at the first fault and forget
//! where values stood; so the schema's types are filled from a tree that remembers, pass by pass, a faulty node being
//! reported once and then read as absent. What operations exist, and what they cost, is asked of a [`Vocabulary`];
//! all that is said here about shapes, sizes and counts therefore holds for operations of anyone's making.
//!
//! ```
//! use search_space::Genotype;
//!
//! let text = r#"{"version": 1, "space": "tiny", "cells": [
//!     {"kind": "cell", "edges": [{"from": 0, "to": 1, "op": "nor_conv_3x3"}], "output": [1]}]}"#;
//! let genotype = Genotype::from_json(text)?;
//! assert_eq!(genotype.to_string(), "cell: 1 = nor_conv_3x3(0); output 1");
//! assert_eq!(genotype.to_nb201()?, "|nor_conv_3x3~0|");
//! # Ok::<(), search_space::GenotypeError>(())
//! ```

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
mod load;
mod notation;
mod partial;
mod plan;
mod rule;
mod schema;
mod shape;
mod shipped;
mod site;
mod space;
mod stretches;
mod vocabulary;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod words;

pub use child::GenotypeError;
pub use cost::Cost;
pub use costs::Costs;
pub use document::locate;
pub use fault::{At, Fault, SpaceErrors, nearest};
pub use genotype::{CellGenotype, Chosen, Genotype};
pub use layout::{Auxiliary, Block, Cell, CellInput, ChoiceGroup, Edge, Head, Layout, LayoutRequest, Phase};
pub use notation::Notation;
pub use plan::LayoutError;
pub use rule::{Rule, RuleError};
pub use shape::{Extent, Rank, Shape};
pub use shipped::Template;
pub use site::{Norm, Site};
pub use space::{CellKind, KindEdge, Preprocess, Space};
pub use stretches::Stretch;
pub use vocabulary::{OpSpec, Vocabulary, Word, WordError, Written};
