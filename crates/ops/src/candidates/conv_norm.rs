//! `conv_norm`: the stem, and the last convolution of mobile networks.

use candle_core::Result;
use search_space::{Cost, Site, WordError};

use super::{Candidate, counted, sizes, taps};
use crate::{
    Definition, Footprint, Op, Output, ParamBuilder, Parameter, Side,
    kernels::Prelude,
    layers::{Activation, always_affine, conv_norm, same},
};

/// `k×k convolution → batch norm → activation`; scale and shift, and no bias, whatever the space says.
#[derive(Clone, Copy, Debug)]
pub struct ConvNorm {
    /// Side of the kernel, odd.
    pub kernel: usize,
    /// What follows.
    pub activation: Activation,
}

/// The word `conv_norm`; `activation` is 0 for none, 1 for ReLU, 2 for ReLU6.
#[must_use]
pub fn definition() -> Definition {
    Definition::new(
        "conv_norm",
        "k×k convolution, batch norm, activation (0 none, 1 ReLU, 2 ReLU6)",
        |arguments| {
            let activation = match arguments.size("activation") {
                0 => Activation::Identity,
                1 => Activation::Relu,
                _ => Activation::Relu6,
            };
            Box::new(ConvNorm { kernel: arguments.size("kernel"), activation })
        },
    )
    .parameter(Parameter::kernel(1, 31))
    .parameter(Parameter::number("activation", 0, 2).tagged("a").or(0))
    .examples(&[&[3, 0], &[1, 2]])
}

impl Candidate for ConvNorm {
    fn cost(&self, site: &Site) -> std::result::Result<Cost, WordError> {
        let [_, out_pixels, c_in, c_out] = sizes(site);
        let weights = taps(site, self.kernel) * c_in * c_out;
        let maps = if self.activation == Activation::Identity { 1 } else { 2 };
        Ok(counted(site, weights + 2 * c_out, weights * out_pixels, maps * out_pixels * c_out))
    }

    fn build(&self, site: &Site, params: &mut ParamBuilder<'_>) -> Result<Box<dyn Op>> {
        let norm = always_affine(&site.norm);
        let window = same(site, self.kernel, 1);
        let layer = conv_norm(params, (site.c_in, site.c_out), window, Prelude::Identity, &norm)?;
        Ok(Box::new((layer, self.activation)))
    }

    fn footprint(&self, _: &Site, cost: &Cost, side: Side) -> Footprint {
        let map = cost.output;
        match self.activation {
            Activation::Identity => Footprint::normed(side, map, map, 0),
            // The gradient in front of the activation passes, too.
            _ => Footprint { output: Output::Kept, ..Footprint::normed(side, map, map, map) },
        }
    }
}
