//! `auxiliary_head`: DARTS's second head, which helps training.

use candle_core::Result;
use search_space::{Cost, Extent, Site, WordError};

use super::{Candidate, taps};
use crate::{
    Definition, Op, ParamBuilder,
    layers::{AUXILIARY, auxiliary_head},
};

/// ReLU, average to 2×2, 1×1 convolution to 128, batch norm, ReLU, 2×2 convolution to 768, batch norm, ReLU, linear.
///
/// It ends the map: whatever the site's stride, the output is flat, and `c_out` is the number of classes.
#[derive(Clone, Copy, Debug)]
pub struct Auxiliary;

/// The word `auxiliary_head`.
#[must_use]
pub fn definition() -> Definition {
    Definition::new("auxiliary_head", "a second classifier on an inner map, to help training", |_| {
        Box::new(Auxiliary)
    })
}

impl Candidate for Auxiliary {
    fn cost(&self, site: &Site) -> std::result::Result<Cost, WordError> {
        let [narrow, wide] = AUXILIARY.map(|channels| channels as u64);
        let (c_in, classes, bins) = (site.c_in as u64, site.c_out as u64, taps(site, 2));
        let (a, b, fc) = (c_in * narrow, bins * narrow * wide, wide * classes);
        let output = Site { extent: Extent::Flat, ..*site }.output().elements() as u64;
        Ok(Cost {
            params: a + b + fc + 2 * (narrow + wide) + classes,
            macs: bins * a + b + fc,
            saved: site.input().elements() as u64 + bins * (c_in + 2 * narrow) + 2 * wide,
            output,
        })
    }

    fn build(&self, site: &Site, params: &mut ParamBuilder<'_>) -> Result<Box<dyn Op>> {
        Ok(Box::new(auxiliary_head(params, site)?))
    }
}
