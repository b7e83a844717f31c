//! What an operation computes, told to programs that run it elsewhere.

use crate::{
    kernels::{Prelude, Window},
    layers::Activation,
};

/// An operation in evaluation, as a tree of primitive layers: plain values, no tensors.
///
/// Layers sketch themselves and compositions put their parts' sketches together, so whatever is built of this crate's
/// layers can be exported, a program's own operations among them, and no exporter knows a word. A layer's `name` is
/// the one under which its values stand in the [`crate::ParamStore`]: `NAME.weight`, `NAME.bias`, `NAME.running_mean`,
/// `NAME.running_var`.
#[derive(Clone, Debug, PartialEq)]
pub enum Sketch {
    /// `y = w ∗ prelude(x) + b`, `w (kh, kw, c_in, c_out)`.
    Conv {
        /// Where its weights stand.
        name: String,
        /// Whether there is a `b (c_out,)`.
        bias: bool,
        /// What is read for each output.
        window: Window,
        /// What is applied while reading.
        prelude: Prelude,
    },
    /// One filter per channel, `w (kh, kw, c)`, no bias.
    Depthwise {
        /// Where its weights stand.
        name: String,
        /// What is read for each output.
        window: Window,
        /// What is applied while reading.
        prelude: Prelude,
    },
    /// `y = (x − μ)/√(σ² + ε) · scale + shift` with the running `μ` and `σ²`.
    BatchNorm {
        /// Where its values stand.
        name: String,
        /// Whether there are a scale (`weight`) and a shift (`bias`).
        affine: bool,
        /// The `ε`.
        eps: f64,
    },
    /// `y = x·w + b`, `w (c_in, c_out)`, `b (c_out,)`, of `(N, c_in)`.
    Linear {
        /// Where its weights stand.
        name: String,
    },
    /// An elementwise function.
    Activation(Activation),
    /// The largest value of each window.
    MaxPool(Window),
    /// The mean of the cells of each window that lie inside the map.
    AveragePool(Window),
    /// The mean over all positions: `(N, …, C)` becomes `(N, C)`.
    GlobalPool,
    /// One after the other; of none, the identity.
    Chain(Vec<Self>),
    /// All of the same input, added.
    Sum(Vec<Self>),
    /// All of the same input, concatenated along the channels.
    Concat(Vec<Self>),
}

impl Sketch {
    /// `y = x`.
    #[must_use]
    pub fn identity() -> Self {
        Self::Chain(Vec::new())
    }

    /// `self`, then `next`; chains join.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        let links = |sketch| match sketch {
            Self::Chain(links) => links,
            other => vec![other],
        };
        let mut all = links(self);
        all.extend(links(next));
        Self::Chain(all)
    }
}
