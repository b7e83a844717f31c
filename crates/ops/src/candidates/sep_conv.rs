//! `sep_conv`: DARTS's separable convolution, applied twice.

use candle_core::Result;
use search_space::{Cost, Site, WordError};

use super::{Candidate, counted, dil_conv::separable, sizes, taps};
use crate::{
    Definition, Footprint, Op, ParamBuilder, Parameter, Side,
    layers::{SeparablePair, same},
};

/// Twice `ReLU → depthwise k×k → 1×1 convolution → batch norm`, named `a` and `b`: the first strides, the second
/// changes the channels (Liu, Simonyan & Yang, *DARTS*, 2019; the repetition is NASNet's).
#[derive(Clone, Copy, Debug)]
pub struct SepConv {
    /// Side of the kernel, odd.
    pub kernel: usize,
}

/// The word `sep_conv`.
#[must_use]
pub fn definition() -> Definition {
    Definition::new("sep_conv", "twice: ReLU, depthwise k×k, 1×1 convolution, batch norm", |arguments| {
        Box::new(SepConv { kernel: arguments.size("kernel") })
    })
    .parameter(Parameter::kernel(3, 31))
    .examples(&[&[3], &[5], &[7]])
}

impl Candidate for SepConv {
    fn cost(&self, site: &Site) -> std::result::Result<Cost, WordError> {
        let [_, out_pixels, c_in, c_out] = sizes(site);
        let weights = 2 * taps(site, self.kernel) * c_in + c_in * c_in + c_in * c_out;
        let params = weights + site.conv_norm_params(site.c_in) + site.conv_norm_params(site.c_out);
        // Kept: the outputs of `a.pw` and of `b.pw`.
        Ok(counted(site, params, weights * out_pixels, out_pixels * (c_in + c_out)))
    }

    fn build(&self, site: &Site, params: &mut ParamBuilder<'_>) -> Result<Box<dyn Op>> {
        let (first, second) =
            (same(site, self.kernel, 1), same(&Site { stride: 1, ..*site }, self.kernel, 1));
        let a = separable(&mut params.scope("a"), (site.c_in, site.c_in), first, &site.norm)?;
        let b = separable(&mut params.scope("b"), (site.c_in, site.c_out), second, &site.norm)?;
        Ok(Box::new(SeparablePair(a, b)))
    }

    fn footprint(&self, site: &Site, cost: &Cost, side: Side) -> Footprint {
        let [_, out_pixels, c_in, _] = sizes(site);
        let map = out_pixels * c_in; // of the first half's output, and of what lies between convolutions
        match side {
            Side::Host => Footprint::normed(side, cost.saved, cost.output, map),
            // The second half reads the first's normalized output, and makes anew what lies between, with its gradient.
            Side::Device => Footprint::normed(side, cost.saved + map, cost.output, 3 * map),
        }
    }
}
