//! `dil_conv`: DARTS's dilated separable convolution.

use candle_core::Result;
use search_space::{Cost, Norm, Site, WordError};

use super::{Candidate, counted, sizes, taps};
use crate::{
    Definition, Footprint, Op, ParamBuilder, Parameter, Side,
    kernels::{Prelude, Window},
    layers::{BatchNorm, Conv, Depthwise, Separable, same},
};

/// `ReLU → depthwise k×k of dilation 2 → 1×1 convolution → batch norm` (Liu, Simonyan & Yang, *DARTS*, 2019).
#[derive(Clone, Copy, Debug)]
pub struct DilConv {
    /// Side of the kernel in taps, odd; it spans `2k − 1` pixels.
    pub kernel: usize,
}

/// The word `dil_conv`.
#[must_use]
pub fn definition() -> Definition {
    Definition::new(
        "dil_conv",
        "ReLU, depthwise k×k with dilation 2, 1×1 convolution, batch norm",
        |arguments| Box::new(DilConv { kernel: arguments.size("kernel") }),
    )
    .parameter(Parameter::kernel(3, 31))
    .examples(&[&[3], &[5]])
}

/// `ReLU → depthwise → 1×1 convolution → batch norm`, named `dw`, `pw` and `bn`.
pub(super) fn separable(
    params: &mut ParamBuilder<'_>,
    (c_in, c_out): (usize, usize),
    window: Window,
    norm: &Norm,
) -> Result<Separable> {
    let point = Window::same((1, 1), (1, 1), (1, 1));
    let dw = Depthwise::new(&mut params.scope("dw"), c_in, window, Prelude::Relu)?;
    let pw = Conv::before_norm(&mut params.scope("pw"), (c_in, c_out), point, Prelude::Identity, norm)?;
    Separable::new(dw, pw, BatchNorm::new(&mut params.scope("bn"), c_out, norm)?)
}

impl Candidate for DilConv {
    fn cost(&self, site: &Site) -> std::result::Result<Cost, WordError> {
        let [_, out_pixels, c_in, c_out] = sizes(site);
        let weights = taps(site, self.kernel) * c_in + c_in * c_out;
        let params = weights + site.conv_norm_params(site.c_out);
        Ok(counted(site, params, weights * out_pixels, out_pixels * c_out)) // kept: the output of `pw`
    }

    fn build(&self, site: &Site, params: &mut ParamBuilder<'_>) -> Result<Box<dyn Op>> {
        let window = same(site, self.kernel, 2);
        Ok(Box::new(separable(params, (site.c_in, site.c_out), window, &site.norm)?))
    }

    fn footprint(&self, site: &Site, cost: &Cost, side: Side) -> Footprint {
        let [_, out_pixels, c_in, _] = sizes(site);
        let between = if side == Side::Device { 2 * out_pixels * c_in } else { 0 }; // made anew, and its gradient
        Footprint::normed(side, cost.saved, cost.output, between)
    }
}
