//! `dense`: the candidate of flat maps.

use search_space::Rank;

use super::nor_conv::ReluConvBn;
use crate::Definition;

/// The word `dense`: `ReLU → linear → batch norm`, which is `nor_conv_1x1` without spatial axes.
#[must_use]
pub fn definition() -> Definition {
    Definition::new("dense", "ReLU, linear, batch norm", |_| Box::new(ReluConvBn { kernel: 1 }))
        .on(&[Rank::Flat])
}
