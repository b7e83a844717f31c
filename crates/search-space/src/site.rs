//! The place where an operation stands: everything its shape, weights and cost depend on.

use serde::{Deserialize, Serialize};

use crate::{Extent, Shape};

/// Settings of batch norm and convolution bias inside a space.
///
/// Spaces differ here and parameter counts depend on it: NAS-Bench-201 searches without scale and shift and with
/// convolution bias, and trains its children the other way round (recipes: Dong & Yang, 2020).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Norm {
    /// Batch norm has a learned scale and shift.
    pub affine: bool,
    /// Dense convolutions in front of a batch norm have a bias.
    pub conv_bias: bool,
    /// Pooling candidates are followed by a batch norm without scale and shift (DARTS, search only).
    pub pool_norm: bool,
    /// Added to the variance; above 0.
    pub eps: f64,
    /// Weight of the newest batch in the running statistics, in (0, 1].
    pub momentum: f64,
}

impl Default for Norm {
    fn default() -> Self {
        Self { affine: true, conv_bias: false, pool_norm: false, eps: 1e-5, momentum: 0.1 }
    }
}

/// Where an operation stands: `(N, h, w, c_in)` becomes `(N, ⌈h/s⌉, ⌈w/s⌉, c_out)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Site {
    /// Spatial axes of the input.
    pub extent: Extent,
    /// Channels of the input.
    pub c_in: usize,
    /// Channels of the output.
    pub c_out: usize,
    /// Stride along every spatial axis, at least 1.
    pub stride: usize,
    /// Norm and bias settings.
    pub norm: Norm,
}

impl Site {
    /// The input's shape.
    #[must_use]
    pub fn input(&self) -> Shape {
        Shape { extent: self.extent, channels: self.c_in }
    }

    /// The output's shape.
    #[must_use]
    pub fn output(&self) -> Shape {
        Shape { extent: self.extent.strided(self.stride), channels: self.c_out }
    }

    /// Positions of the output map.
    #[must_use]
    pub fn out_pixels(&self) -> usize {
        self.output().extent.pixels()
    }

    /// Weights of a dense convolution's bias and its batch norm over `channels`.
    #[must_use]
    pub fn conv_norm_params(&self, channels: usize) -> u64 {
        let bias = if self.norm.conv_bias { channels } else { 0 };
        bias as u64 + self.norm_params(channels)
    }

    /// Weights of a batch norm over `channels`: scale and shift, or none.
    #[must_use]
    pub fn norm_params(&self, channels: usize) -> u64 {
        if self.norm.affine { 2 * channels as u64 } else { 0 }
    }
}
