//! `nor_conv`: the plain convolution.

use candle_core::Result;
use search_space::{Cost, Site, WordError};

use super::{Candidate, counted, sizes, taps};
use crate::{
    Definition, Footprint, Op, ParamBuilder, Parameter, Side,
    kernels::Prelude,
    layers::{conv_norm, same},
};

/// `ReLU → k×k convolution → batch norm`: the `nor_conv` of NAS-Bench-201 (Dong & Yang, 2020).
#[derive(Clone, Copy, Debug)]
pub struct ReluConvBn {
    /// Side of the kernel, odd, so that "same" padding exists.
    pub kernel: usize,
}

/// The word `nor_conv`.
#[must_use]
pub fn definition() -> Definition {
    Definition::new("nor_conv", "ReLU, k×k convolution, batch norm", |arguments| {
        Box::new(ReluConvBn { kernel: arguments.size("kernel") })
    })
    .parameter(Parameter::kernel(1, 31))
    .examples(&[&[1], &[3]])
}

impl Candidate for ReluConvBn {
    fn cost(&self, site: &Site) -> std::result::Result<Cost, WordError> {
        let [_, out_pixels, c_in, c_out] = sizes(site);
        let weights = taps(site, self.kernel) * c_in * c_out;
        let params = weights + site.conv_norm_params(site.c_out);
        Ok(counted(site, params, weights * out_pixels, out_pixels * c_out))
    }

    fn build(&self, site: &Site, params: &mut ParamBuilder<'_>) -> Result<Box<dyn Op>> {
        let window = same(site, self.kernel, 1);
        Ok(Box::new(conv_norm(params, (site.c_in, site.c_out), window, Prelude::Relu, &site.norm)?))
    }

    fn footprint(&self, _: &Site, cost: &Cost, side: Side) -> Footprint {
        let beside = side == Side::Host && self.kernel == 1;
        Footprint { beside, ..Footprint::normed(side, cost.saved, cost.output, 0) }
    }
}
