//! The formats' names.

use std::{fmt, str::FromStr};

/// A form in which a decision can leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The genotype, for people and for strait.
    Yaml,
    /// The genotype on one line, for programs.
    Json,
    /// The string of NAS-Bench-201.
    Nb201,
    /// The tuples of DARTS.
    Darts,
    /// The cells as a Graphviz graph.
    Dot,
    /// The cells as a picture.
    Svg,
    /// The cells as a picture of pixels.
    Png,
    /// Weights, running statistics and, in the header, everything needed to run them.
    Safetensors,
    /// The network, for the runtimes of others.
    Onnx,
    /// The network as a module of PyTorch.
    Pytorch,
    /// The network as a module of Rust, on candle.
    Rust,
}

/// A name that belongs to no format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown format `{0}`; expected one of yaml, json, nb201, darts, dot, svg, png, safetensors, onnx, pytorch, rust"
)]
pub struct UnknownFormat(pub String);

impl Format {
    /// Every format.
    pub const ALL: [Self; 11] = [
        Self::Yaml,
        Self::Json,
        Self::Nb201,
        Self::Darts,
        Self::Dot,
        Self::Svg,
        Self::Png,
        Self::Safetensors,
        Self::Onnx,
        Self::Pytorch,
        Self::Rust,
    ];

    /// The format's name, which is also the usual extension of its files where they have one.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Yaml => "yaml",
            Self::Json => "json",
            Self::Nb201 => "nb201",
            Self::Darts => "darts",
            Self::Dot => "dot",
            Self::Svg => "svg",
            Self::Png => "png",
            Self::Safetensors => "safetensors",
            Self::Onnx => "onnx",
            Self::Pytorch => "pytorch",
            Self::Rust => "rust",
        }
    }

    /// The file it is written to in a folder of several.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Yaml => "genotype.yaml",
            Self::Json => "genotype.json",
            Self::Nb201 => "genotype.nb201",
            Self::Darts => "genotype.darts",
            Self::Dot => "genotype.dot",
            Self::Svg => "genotype.svg",
            Self::Png => "genotype.png",
            Self::Safetensors => "network.safetensors",
            Self::Onnx => "network.onnx",
            Self::Pytorch => "model.py",
            Self::Rust => "model.rs",
        }
    }

    /// Whether its file is a program that reads `weights.safetensors` beside it.
    #[must_use]
    pub fn shares_weights(self) -> bool {
        matches!(self, Self::Pytorch | Self::Rust)
    }

    /// Whether the format is of a network with its weights, and so needs a trained one.
    #[must_use]
    pub fn holds_weights(self) -> bool {
        matches!(self, Self::Safetensors | Self::Onnx | Self::Pytorch | Self::Rust)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|format| format.name() == name);
        found.ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}
