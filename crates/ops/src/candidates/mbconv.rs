//! `mbconv`: the inverted residual block of mobile networks.

use candle_core::Result;
use search_space::{Cost, Site, WordError};

use super::{Candidate, counted, sizes, taps};
use crate::{
    Definition, Footprint, Op, ParamBuilder, Parameter, Side,
    kernels::{Prelude, Window},
    layers::{Activation, BatchNorm, Depthwise, Identity, Sum, always_affine, conv_norm, same},
};

/// `1×1 convolution to e·c_in → batch norm → ReLU6` (absent for e = 1), `depthwise k×k → batch norm → ReLU6`,
/// `1×1 convolution → batch norm`, plus the input where the shape is kept; named `expand`, `depthwise`, `project`.
/// Batch norms have scale and shift, convolutions no bias, whatever the space says.
///
/// # References
/// - Sandler et al., *MobileNetV2*, 2018, <https://arxiv.org/abs/1801.04381>
/// - Cai, Zhu & Han, *ProxylessNAS*, 2019, <https://arxiv.org/abs/1812.00332>
#[derive(Clone, Copy, Debug)]
pub struct MbConv {
    /// Side of the depthwise kernel, odd.
    pub kernel: usize,
    /// Channels inside over channels of the input, at least 1.
    pub expansion: usize,
}

/// The word `mbconv`.
#[must_use]
pub fn definition() -> Definition {
    Definition::new("mbconv", "inverted residual block: expand, depthwise k×k, project", |arguments| {
        Box::new(MbConv { kernel: arguments.size("kernel"), expansion: arguments.size("expansion") })
    })
    .parameter(Parameter::kernel(3, 31))
    .parameter(Parameter::number("expansion", 1, 12).tagged("e"))
    .examples(&[&[3, 3], &[3, 6], &[5, 3], &[5, 6], &[7, 3], &[7, 6]])
}

impl MbConv {
    fn keeps_shape(site: &Site) -> bool {
        site.input() == site.output()
    }
}

impl Candidate for MbConv {
    fn cost(&self, site: &Site) -> std::result::Result<Cost, WordError> {
        let [pixels, out_pixels, c_in, c_out] = sizes(site);
        let wide = c_in * self.expansion as u64;
        let expand = if self.expansion > 1 { c_in * wide } else { 0 };
        let (depthwise, project) = (taps(site, self.kernel) * wide, wide * c_out);
        let norms = 2 * (wide + c_out) + if self.expansion > 1 { 2 * wide } else { 0 };
        let macs = expand * pixels + (depthwise + project) * out_pixels;
        // Each batch norm keeps its input, each convolution that follows an activation keeps that.
        let inside = if self.expansion > 1 { 2 * wide * pixels } else { 0 };
        let saved = inside + out_pixels * (2 * wide + c_out);
        Ok(counted(site, expand + depthwise + project + norms, macs, saved))
    }

    fn build(&self, site: &Site, params: &mut ParamBuilder<'_>) -> Result<Box<dyn Op>> {
        let (norm, point) = (always_affine(&site.norm), Window::same((1, 1), (1, 1), (1, 1)));
        let wide = site.c_in * self.expansion;
        let mut dense =
            |name, channels| conv_norm(&mut params.scope(name), channels, point, Prelude::Identity, &norm);
        let expand = match self.expansion {
            1 => None,
            _ => Some((dense("expand", (site.c_in, wide))?, Activation::Relu6)),
        };
        let project = dense("project", (wide, site.c_out))?;
        let mut scope = params.scope("depthwise");
        let window = same(site, self.kernel, 1);
        let conv = Depthwise::new(&mut scope.scope("conv"), wide, window, Prelude::Identity)?;
        let depthwise = ((conv, BatchNorm::new(&mut scope.scope("bn"), wide, &norm)?), Activation::Relu6);
        let body = (expand, (depthwise, project));
        Ok(if Self::keeps_shape(site) { Box::new(Sum(body, Identity)) } else { Box::new(body) })
    }

    fn footprint(&self, site: &Site, cost: &Cost, side: Side) -> Footprint {
        let [pixels, out_pixels, c_in, _] = sizes(site);
        let wide = c_in * self.expansion as u64 * (pixels + out_pixels); // gradients in front of norm and activation
        match Self::keeps_shape(site) {
            true => Footprint { passing: wide + cost.output, ..Footprint::of(cost) },
            false => Footprint::normed(side, cost.saved, cost.output, wide),
        }
    }
}
