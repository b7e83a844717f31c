//! `conv_7x1_1x7`: a large kernel from two thin ones.

use candle_core::Result;
use search_space::{Cost, Rank, Site, WordError};

use super::{Candidate, counted, sizes};
use crate::{
    Definition, Footprint, Op, ParamBuilder, Side,
    kernels::{Prelude, Window},
    layers::{BatchNorm, Conv, ConvNorm},
};

/// `ReLU → 1×7 convolution, stride (1, s) → 7×1 convolution, stride (s, 1) → batch norm`, named `h`, `v` and `bn`
/// (NASNet's, kept in the code of Liu, Simonyan & Yang, *DARTS*, 2019). The first convolution changes the channels.
#[derive(Clone, Copy, Debug)]
pub struct Factorized;

const TAPS: u64 = 7;

/// The word `conv_7x1_1x7`.
#[must_use]
pub fn definition() -> Definition {
    Definition::new("conv_7x1_1x7", "ReLU, 1×7 convolution, 7×1 convolution, batch norm", |_| {
        Box::new(Factorized)
    })
    .on(&[Rank::Image])
}

impl Candidate for Factorized {
    fn cost(&self, site: &Site) -> std::result::Result<Cost, WordError> {
        let [_, out_pixels, c_in, c_out] = sizes(site);
        let between = (site.extent.plane().0 * site.extent.strided(site.stride).plane().1) as u64;
        let (h, v) = (TAPS * c_in * c_out, TAPS * c_out * c_out);
        let params = h + v + site.conv_norm_params(site.c_out);
        Ok(counted(site, params, h * between + v * out_pixels, c_out * (between + out_pixels)))
    }

    fn build(&self, site: &Site, params: &mut ParamBuilder<'_>) -> Result<Box<dyn Op>> {
        let across = Window::same((1, 7), (1, site.stride), (1, 1));
        let down = Window::same((7, 1), (site.stride, 1), (1, 1));
        let h = Conv::new(&mut params.scope("h"), (site.c_in, site.c_out), across, Prelude::Relu)?;
        let mut scope = params.scope("v");
        let v = Conv::before_norm(&mut scope, (site.c_out, site.c_out), down, Prelude::Identity, &site.norm)?;
        let norm = BatchNorm::new(&mut params.scope("bn"), site.c_out, &site.norm)?;
        Ok(Box::new((h, ConvNorm { conv: v, norm })))
    }

    fn footprint(&self, _: &Site, cost: &Cost, side: Side) -> Footprint {
        Footprint::normed(side, cost.saved, cost.output, cost.saved - cost.output) // the gradient between
    }
}
