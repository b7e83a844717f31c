//! What a choice computes, down to the loops: functions on candle tensors, channels last, `f32` or `f64`; maps also `bf16`
//! (`stored`).
//!
//! Each folder holds one operation: `mod.rs` says what it computes of tensors, `cpu.rs` how, on slices (of pools, a file for
//! each kind). Below them lie the parts of their loops, from `element` (numbers, elements of maps, vectors) and `simd` (one
//! loop for every instruction set) up to `gather`, `product` and `threads`. candle's autograd plays no part: a backward is a
//! function of its own. Spatial tensors are `(N, H, W, C)`, `(N, L, C)` or `(N, C)`; a missing axis counts as 1, and outputs
//! have the rank of the input.
//!
//! Every result is a function of its arguments alone: work is cut into pieces whose size depends on the shapes, and
//! partial sums are added in the order of the pieces, so the bytes do not depend on the number of threads.
//! Convolutions, dense (`product`) and depthwise (`depthwise::lattice`), are loops over addresses (`gather`): a forward
//! sums over taps at each pixel, a weight's gradient over pixels at each tap, and an input's gradient is a forward whose
//! taps run the other way. Centered 3×3 convolutions in `f32` go by way of polynomials instead (`conv::winograd`).
//! `pending` has several operations write gradients of one map piece by piece, and writes their sum.

pub mod activation;
pub mod batch;
pub mod batch_norm;
pub mod bias;
pub mod conv;
pub mod conv_norm;
pub mod depthwise;
pub mod gpu;
pub mod linear;
pub mod loss;
pub mod pending;
pub mod pixelwise;
pub mod pool;
pub mod ranks;
pub mod recycling;
pub mod roofline;
pub mod separable;
pub mod shuffle;
pub mod sum;
pub mod update;

mod channelwise;
mod element;
mod gather;
mod isa;
mod later;
mod map;
mod panels;
mod product;
mod rows;
mod simd;
mod stored;
mod threads;
mod transpose;
mod units;
mod values;

#[cfg(test)]
pub(crate) mod testing;

pub use isa::Isa;
pub use later::Later;

use candle_core::{Result, bail};

/// What is applied to an input on its way into an operation; the result is never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prelude {
    /// `x`
    Identity,
    /// `max(x, 0)`; its derivative at 0 is 0, as in PyTorch.
    Relu,
}

/// A sliding window over the two spatial axes, as pairs (rows, columns) in pixels.
///
/// Output `o` reads inputs `o·stride + tap·dilation − pad`; inputs outside the map are zero (for a maximum −∞).
/// There are always `⌈in / stride⌉` outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Number of taps, at least 1.
    pub kernel: (usize, usize),
    /// Distance between outputs, at least 1.
    pub stride: (usize, usize),
    /// Distance between taps, at least 1.
    pub dilation: (usize, usize),
    /// How far the first window reaches out of the map; negative where it starts inside.
    pub pad: (isize, isize),
}

impl Window {
    /// The window centered on its output pixel: `pad = dilation·(kernel − 1) / 2`, rounded down.
    #[must_use]
    pub fn same(kernel: (usize, usize), stride: (usize, usize), dilation: (usize, usize)) -> Self {
        let pad = |kernel: usize, dilation: usize| (dilation * (kernel - 1) / 2) as isize;
        Self { kernel, stride, dilation, pad: (pad(kernel.0, dilation.0), pad(kernel.1, dilation.1)) }
    }

    /// The same window, reading `by` pixels further down and to the right.
    #[must_use]
    pub fn shifted(self, by: isize) -> Self {
        Self { pad: (self.pad.0 - by, self.pad.1 - by), ..self }
    }

    /// The size of the output for an input of `h × w` pixels.
    #[must_use]
    pub fn out(&self, h: usize, w: usize) -> (usize, usize) {
        (h.div_ceil(self.stride.0), w.div_ceil(self.stride.1))
    }

    /// Refuses a window without taps or that does not move.
    pub(crate) fn check(&self) -> Result<()> {
        let pairs = [("kernel", self.kernel), ("stride", self.stride), ("dilation", self.dilation)];
        for (name, pair) in pairs {
            if pair.0 == 0 || pair.1 == 0 {
                bail!("{name} of a window: found {pair:?}, expected at least 1");
            }
        }
        Ok(())
    }

    pub(crate) fn taps(&self) -> usize {
        self.kernel.0 * self.kernel.1
    }
}
