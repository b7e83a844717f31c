//! `skip_connect`: the identity, or the cheapest thing that changes the shape.

use candle_core::Result;
use search_space::{Cost, Rank, Site, WordError};

use super::{Candidate, counted, fit, fit_cost, refuse, sizes};
use crate::{
    Definition, Footprint, Op, Output, ParamBuilder, Side, VECTOR,
    layers::{FactorizedReduce, Identity},
};

/// `y = x`; with a stride DARTS's factorized reduce; with a change of channels alone `ReLU → 1×1 convolution → batch norm`.
#[derive(Clone, Copy, Debug)]
pub struct SkipConnect;

/// The word `skip_connect`.
#[must_use]
pub fn definition() -> Definition {
    Definition::new(
        "skip_connect",
        "the identity; a factorized reduce where it strides, a 1×1 convolution where channels change",
        |_| Box::new(SkipConnect),
    )
    .on(&[Rank::Image, Rank::Series, Rank::Flat])
}

impl Candidate for SkipConnect {
    fn cost(&self, site: &Site) -> std::result::Result<Cost, WordError> {
        let [_, out_pixels, c_in, c_out] = sizes(site);
        if !strides(site) {
            let fit = fit_cost(site);
            return Ok(counted(site, fit.params, fit.macs, fit.saved));
        }
        if c_out < 2 {
            return Err(refuse(
                format!("`skip_connect` with stride {} to 1 channel", site.stride),
                "a factorized reduce needs at least 2",
            ));
        }
        let weights = c_in * c_out;
        let params = weights + site.conv_norm_params(site.c_out);
        Ok(counted(site, params, weights * out_pixels, out_pixels * c_out))
    }

    fn build(&self, site: &Site, params: &mut ParamBuilder<'_>) -> Result<Box<dyn Op>> {
        if strides(site) {
            return Ok(Box::new(FactorizedReduce::new(params, site)?));
        }
        Ok(match fit(params, site)? {
            Some(conv_norm) => Box::new(conv_norm),
            None => Box::new(Identity),
        })
    }

    fn footprint(&self, site: &Site, cost: &Cost, side: Side) -> Footprint {
        if strides(site) {
            // Computed together where channels fill vectors, taken for those of one map; else joined, and in halves.
            let fills = site.c_in.is_multiple_of(VECTOR) && site.c_out.is_multiple_of(2 * VECTOR);
            let beside = side == Side::Host && fills && !site.norm.conv_bias;
            let passing = if beside { 0 } else { 2 * cost.output };
            return Footprint { beside, ..Footprint::normed(side, cost.saved, cost.output, passing) };
        }
        match fit_cost(site).output {
            0 => Footprint { input: false, kept: 0, output: Output::Input, passing: 0, beside: false },
            _ => Footprint::normed(side, cost.saved, cost.output, 0),
        }
    }
}

fn strides(site: &Site) -> bool {
    site.stride > 1 && site.extent.rank() != Rank::Flat
}
