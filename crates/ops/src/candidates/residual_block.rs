//! `residual_block`: the block between the stages of NAS-Bench-201.

use candle_core::Result;
use search_space::{Cost, Site, WordError};

use super::{Candidate, counted, sizes, taps};
use crate::{
    Definition, Footprint, Op, ParamBuilder, Side,
    kernels::{Prelude, Window},
    layers::{AveragePool, BatchNorm, Conv, Sum, always_affine, axes, conv_norm, same},
};

/// Twice `ReLU → 3×3 convolution → batch norm`, the first with the stride, plus a shortcut: with a stride `s` the
/// average of s×s windows and a 1×1 convolution, with a change of channels alone `ReLU → 1×1 convolution → batch norm`,
/// else the identity. Named `a`, `b` and `down`; scale and shift, and no bias, whatever the space says.
///
/// At odd sizes the last windows of the shortcut are partial and divide by the cells inside (Dong & Yang, 2020).
#[derive(Clone, Copy, Debug)]
pub struct ResidualBlock;

/// The word `residual_block`.
#[must_use]
pub fn definition() -> Definition {
    Definition::new("residual_block", "two 3×3 convolutions and a shortcut, between stages", |_| {
        Box::new(ResidualBlock)
    })
}

/// Pool, convolve, normalize: whatever the shape asks for.
type Shortcut = (Option<AveragePool>, Option<(Conv, Option<BatchNorm>)>);

fn shortcut(params: &mut ParamBuilder<'_>, site: &Site) -> Result<Shortcut> {
    let (point, channels) = (Window::same((1, 1), (1, 1), (1, 1)), (site.c_in, site.c_out));
    let mut scope = params.scope("down");
    if site.stride > 1 {
        let cells = axes(site.extent.rank(), site.stride);
        let pool = Window { kernel: cells, stride: cells, dilation: (1, 1), pad: (0, 0) };
        let conv = Conv::new(&mut scope, channels, point, Prelude::Identity)?;
        return Ok((Some(AveragePool(pool)), Some((conv, None))));
    }
    if site.c_in == site.c_out {
        return Ok((None, None));
    }
    let conv = Conv::new(&mut scope, channels, point, Prelude::Relu)?;
    let norm = BatchNorm::new(&mut scope.scope("bn"), site.c_out, &always_affine(&site.norm))?;
    Ok((None, Some((conv, Some(norm)))))
}

impl Candidate for ResidualBlock {
    fn cost(&self, site: &Site) -> std::result::Result<Cost, WordError> {
        let [_, out_pixels, c_in, c_out] = sizes(site);
        let body = taps(site, 3) * (c_in * c_out + c_out * c_out);
        let changes = site.stride > 1 || c_in != c_out;
        let down = if changes { c_in * c_out } else { 0 };
        let normed = u64::from(changes && site.stride == 1);
        let pooled = if site.stride > 1 { c_in } else { 0 };
        // Kept: the outputs of a.conv, a.bn and b.conv, and what the shortcut's layers read inside.
        let saved = out_pixels * (3 * c_out + pooled + normed * c_out);
        Ok(counted(site, body + down + 2 * c_out * (2 + normed), (body + down) * out_pixels, saved))
    }

    fn build(&self, site: &Site, params: &mut ParamBuilder<'_>) -> Result<Box<dyn Op>> {
        let norm = always_affine(&site.norm);
        let (first, second) = (same(site, 3, 1), same(&Site { stride: 1, ..*site }, 3, 1));
        let a = conv_norm(&mut params.scope("a"), (site.c_in, site.c_out), first, Prelude::Relu, &norm)?;
        let b = conv_norm(&mut params.scope("b"), (site.c_out, site.c_out), second, Prelude::Relu, &norm)?;
        Ok(Box::new(Sum((a, b), shortcut(params, site)?)))
    }

    fn footprint(&self, site: &Site, cost: &Cost, _: Side) -> Footprint {
        // Gradients at the end of the first half and in front of a norm, and that of one branch.
        Footprint { passing: 2 * cost.output + site.input().elements() as u64, ..Footprint::of(cost) }
    }
}
