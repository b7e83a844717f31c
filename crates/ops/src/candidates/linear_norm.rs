//! `linear_norm`: the stem of flat data.

use search_space::Rank;

use super::conv_norm::ConvNorm;
use crate::{Definition, layers::Activation};

/// The word `linear_norm`: `linear → batch norm`, which is `conv_norm_1x1` without spatial axes. Unlike `dense` it does
/// not begin with a ReLU, which on data would forget every value below the mean.
#[must_use]
pub fn definition() -> Definition {
    Definition::new("linear_norm", "linear, batch norm", |_| {
        Box::new(ConvNorm { kernel: 1, activation: Activation::Identity })
    })
    .on(&[Rank::Flat])
}
