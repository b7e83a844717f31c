//! How the decision leaves.
//!
//! A search ends in a [`Genotype`]; this crate gives it away in the forms in which others take
//! it, one file and one function each: [`yaml`] and [`json`] for strait itself, [`nb201`] and [`darts`] for the
//! literature's tools, [`dot`], [`svg`] and [`png`] for people, [`safetensors`] with weights for whoever runs it next, and [`onnx`], [`pytorch`]
//! and [`rust`] for those who never heard of strait; [`folder`] puts several side by side and says how to use each.
//!
//! The one design decision: **every writer takes plain values and a `&mut dyn Write`.** What a form can say besides the
//! genotype comes in a [`ModelCard`] of names, numbers and text, and a network in a [`Trained`], which is a tree of
//! primitive layers and the tensors they name; so no writer knows a trainer, a run directory, a device or the name of an
//! operation, and each can be held against a golden file. Nothing here reads a clock or a hash map: the same values are
//! the same bytes.
//!
//! ```
//! use search_space::{CellGenotype, Chosen, Genotype};
//! use strait_export::{Format, ModelCard, write};
//!
//! let edge = |from, to, op: &str| Chosen { from, to, op: op.into() };
//! let edges = vec![edge(0, 1, "nor_conv_3x3"), edge(0, 2, "skip_connect"), edge(1, 2, "avg_pool_3x3")];
//! let cell = CellGenotype { kind: "cell".into(), cell: None, edges, output: vec![2] };
//! let genotype = Genotype { version: 1, space: "toy".into(), cells: vec![cell] };
//!
//! let mut text = Vec::new();
//! write("nb201".parse()?, &genotype, &ModelCard::default(), None, &mut text)?;
//! assert_eq!(text, b"|nor_conv_3x3~0|+|skip_connect~0|avg_pool_3x3~1|\n");
//!
//! let mut picture = Vec::new();
//! write(Format::Svg, &genotype, &ModelCard::default(), None, &mut picture)?;
//! assert!(picture.starts_with(b"<svg "));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io::Write;

use search_space::Genotype;

pub mod darts;
pub mod dot;
pub mod folder;
pub mod json;
pub mod nb201;
pub mod onnx;
pub mod png;
pub mod pytorch;
pub mod rust;
pub mod safetensors;
pub mod svg;
pub mod yaml;

mod card;
mod error;
mod format;
mod graph;
mod named;
#[cfg(test)]
mod tests;
mod trained;

pub use card::{Build, ModelCard, Row, rows, shapes};
pub use error::Error;
pub use format::{Format, UnknownFormat};
pub use trained::Trained;

/// Writes a genotype in one format; the formats that [hold weights](Format::holds_weights) need the network.
///
/// # Errors
/// The genotype cannot be said in this format; there is no network to write; the writer fails.
pub fn write(
    format: Format,
    genotype: &Genotype,
    card: &ModelCard,
    trained: Option<&Trained>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let network = || trained.ok_or(Error::NoWeights);
    match format {
        Format::Yaml => yaml::write(genotype, card, out),
        Format::Json => json::write(genotype, card, out),
        Format::Nb201 => nb201::write(genotype, card, out),
        Format::Darts => darts::write(genotype, card, out),
        Format::Dot => dot::write(genotype, card, out),
        Format::Svg => svg::write(genotype, card, out),
        Format::Png => png::write(genotype, card, out),
        Format::Safetensors => safetensors::write(genotype, card, network()?.values(), out),
        Format::Onnx => onnx::write(genotype, card, network()?, onnx::BatchNorms::Kept, out),
        Format::Pytorch => pytorch::write(genotype, card, network()?, out),
        Format::Rust => rust::write(genotype, card, network()?, out),
    }
}
