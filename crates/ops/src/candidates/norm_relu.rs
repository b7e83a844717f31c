//! `norm_relu`: what stands before the pool of a network that ends in sums.

use candle_core::Result;
use search_space::{Cost, Rank, Site, WordError};

use super::{Candidate, counted, refuse};
use crate::{
    Definition, Footprint, Op, Output, ParamBuilder, Side,
    layers::{Activation, BatchNorm, always_affine},
};

/// `batch norm → ReLU`, named `bn`; scale and shift whatever the space says.
#[derive(Clone, Copy, Debug)]
pub struct NormRelu;

/// The word `norm_relu`.
#[must_use]
pub fn definition() -> Definition {
    Definition::new("norm_relu", "batch norm, ReLU; before the pool", |_| Box::new(NormRelu)).on(&[
        Rank::Image,
        Rank::Series,
        Rank::Flat,
    ])
}

impl Candidate for NormRelu {
    fn cost(&self, site: &Site) -> std::result::Result<Cost, WordError> {
        if site.input() != site.output() {
            let found = format!("`norm_relu` from {} to {}", site.input(), site.output());
            return Err(refuse(found, "it keeps the shape"));
        }
        // The batch norm's input is the operation's; the ReLU keeps its output.
        Ok(counted(site, 2 * site.c_out as u64, 0, site.output().elements() as u64))
    }

    fn build(&self, site: &Site, params: &mut ParamBuilder<'_>) -> Result<Box<dyn Op>> {
        let norm = BatchNorm::new(&mut params.scope("bn"), site.c_out, &always_affine(&site.norm))?;
        Ok(Box::new((norm, Activation::Relu)))
    }

    fn footprint(&self, _: &Site, cost: &Cost, _: Side) -> Footprint {
        Footprint { input: true, kept: 0, output: Output::Kept, passing: cost.output, beside: false }
    }
}
