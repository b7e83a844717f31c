//! The operations a space may choose among, one file each.

pub mod auxiliary_head;
pub mod avg_pool;
pub mod conv_7x1_1x7;
pub mod conv_norm;
pub mod dense;
pub mod dil_conv;
pub mod linear_norm;
pub mod max_pool;
pub mod mbconv;
pub mod noise;
pub mod none;
pub mod nor_conv;
pub mod norm_relu;
pub mod residual_block;
pub mod sep_conv;
pub mod skip_connect;

use candle_core::Result;
use search_space::{Cost, Site, WordError};

use crate::{
    Footprint, Layer, Op, Output, ParamBuilder, Side,
    kernels::{Prelude, Window},
    layers::{BatchNorm, ConvNorm, axes, conv_norm},
};

/// What one word with its parameters is: what it costs at a site, and how it is built there.
///
/// `build` is called only where `cost` agreed, and makes exactly `cost.params` weights.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no candidate",
    note = "implement `Candidate`: what the operation costs at a site, and the `Op` it builds there"
)]
pub trait Candidate: Send + Sync {
    /// Exact counts for one example at `site`.
    ///
    /// # Errors
    /// The operation cannot make `site.output()` of `site.input()`.
    fn cost(&self, site: &Site) -> std::result::Result<Cost, WordError>;

    /// The operation at `site`, with fresh weights.
    ///
    /// # Errors
    /// A weight's name is taken.
    fn build(&self, site: &Site, params: &mut ParamBuilder<'_>) -> Result<Box<dyn Op>>;

    /// What the operation holds in memory at `site`, of which the cost is `cost`: for estimates. A test holds those of the
    /// catalog against what is allocated.
    fn footprint(&self, _site: &Site, cost: &Cost, _side: Side) -> Footprint {
        Footprint::of(cost)
    }
}

/// The cost of an operation with these counts at `site`.
pub(crate) fn counted(site: &Site, params: u64, macs: u64, saved: u64) -> Cost {
    Cost { params, macs, saved, output: site.output().elements() as u64 }
}

/// Taps of a window of side `kernel` at `site`.
pub(crate) fn taps(site: &Site, kernel: usize) -> u64 {
    let (height, width) = axes(site.extent.rank(), kernel);
    (height * width) as u64
}

/// Input positions, output positions, input channels, output channels.
pub(crate) fn sizes(site: &Site) -> [u64; 4] {
    [site.extent.pixels(), site.out_pixels(), site.c_in, site.c_out].map(|size| size as u64)
}

/// Before an operation that keeps its channels: `ReLU → 1×1 convolution → batch norm` where they have to change.
pub(crate) fn fit(params: &mut ParamBuilder<'_>, site: &Site) -> Result<Option<ConvNorm>> {
    if site.c_in == site.c_out {
        return Ok(None);
    }
    let point = Window::same((1, 1), (1, 1), (1, 1));
    conv_norm(&mut params.scope("fit"), (site.c_in, site.c_out), point, Prelude::Relu, &site.norm).map(Some)
}

/// An operation behind [`fit`], if that is anything; else by itself, so that it may leave its gradient to a sum.
pub(crate) fn fitted(fit: Option<ConvNorm>, layer: impl Layer) -> Box<dyn Op> {
    match fit {
        Some(fit) => Box::new((fit, layer)),
        None => Box::new(layer),
    }
}

/// The cost of [`fit`]; what it keeps includes its output, which the next operation reads.
pub(crate) fn fit_cost(site: &Site) -> Cost {
    let [pixels, _, c_in, c_out] = sizes(site);
    if c_in == c_out {
        return Cost::default();
    }
    let weights = c_in * c_out;
    let map = pixels * c_out;
    Cost {
        params: weights + site.conv_norm_params(site.c_out),
        macs: weights * pixels,
        saved: map,
        output: map,
    }
}

/// After a pool: the batch norm that DARTS's search puts there, without scale and shift.
pub(crate) fn pool_norm(params: &mut ParamBuilder<'_>, site: &Site) -> Result<Option<BatchNorm>> {
    let norm = search_space::Norm { affine: false, ..site.norm };
    match site.norm.pool_norm {
        true => BatchNorm::new(&mut params.scope("bn"), site.c_out, &norm).map(Some),
        false => Ok(None),
    }
}

/// The cost of a pool between [`fit`] and [`pool_norm`] that keeps `own` numbers itself.
pub(crate) fn pool_cost(site: &Site, own: u64) -> Cost {
    let (fit, output) = (fit_cost(site), site.output().elements() as u64);
    let normed = if site.norm.pool_norm { output } else { 0 };
    counted(site, fit.params, fit.macs, fit.saved + own + normed)
}

/// What a pool holds that keeps `own` numbers itself.
pub(crate) fn pool_footprint(site: &Site, own: u64, side: Side) -> Footprint {
    let (fitted, output) = (fit_cost(site).output, site.output().elements() as u64);
    // The gradient at the fit's output, and on a device that at its convolution's.
    let fit = if side == Side::Device { 2 * fitted } else { fitted };
    let input = fitted > 0; // a pool does not look at it again
    if site.norm.pool_norm {
        return Footprint { input, ..Footprint::normed(side, fitted + own + output, output, fit) };
    }
    Footprint { input, kept: fitted + own, output: Output::Fresh, passing: fit, beside: false }
}

/// A refusal.
pub(crate) fn refuse(found: String, accepted: &str) -> WordError {
    WordError { found, accepted: accepted.to_owned() }
}
