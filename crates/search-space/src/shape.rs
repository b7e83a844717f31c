//! Shapes of what flows through a network: channels last, with none, one or two spatial axes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The spatial axes of a map, batch and channels left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// No spatial axis: tensors are `(N, C)`.
    Flat,
    /// One axis, time: tensors are `(N, L, C)`.
    Series {
        /// Steps.
        length: usize,
    },
    /// Two axes: tensors are `(N, H, W, C)`.
    Image {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
}

/// How many spatial axes there are: what decides which words make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rank {
    /// Vectors.
    Flat,
    /// Sequences.
    Series,
    /// Pictures.
    Image,
}

/// The shape of one example, channels last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// Spatial axes.
    pub extent: Extent,
    /// Size of the last axis.
    pub channels: usize,
}

impl Extent {
    /// The number of spatial axes.
    #[must_use]
    pub fn rank(self) -> Rank {
        match self {
            Self::Flat => Rank::Flat,
            Self::Series { .. } => Rank::Series,
            Self::Image { .. } => Rank::Image,
        }
    }

    /// The extent after a stride: `⌈h/s⌉ × ⌈w/s⌉`; a flat extent has nothing to stride over.
    #[must_use]
    pub fn strided(self, stride: usize) -> Self {
        match self {
            Self::Flat => Self::Flat,
            Self::Series { length } => Self::Series { length: length.div_ceil(stride) },
            Self::Image { height, width } => {
                Self::Image { height: height.div_ceil(stride), width: width.div_ceil(stride) }
            }
        }
    }

    /// Positions: `H·W`, `L`, or 1.
    #[must_use]
    pub fn pixels(self) -> usize {
        let (height, width) = self.plane();
        height * width
    }

    /// Every extent as a plane: series are one row, flat is one pixel.
    #[must_use]
    pub fn plane(self) -> (usize, usize) {
        match self {
            Self::Flat => (1, 1),
            Self::Series { length } => (1, length),
            Self::Image { height, width } => (height, width),
        }
    }
}

impl Shape {
    /// Numbers in one example.
    #[must_use]
    pub fn elements(self) -> usize {
        self.extent.pixels() * self.channels
    }

    /// The dimensions of a batch of `n` examples: `[n, H, W, C]`, `[n, L, C]` or `[n, C]`.
    #[must_use]
    pub fn batch_dims(self, n: usize) -> Vec<usize> {
        match self.extent {
            Extent::Flat => vec![n, self.channels],
            Extent::Series { length } => vec![n, length, self.channels],
            Extent::Image { height, width } => vec![n, height, width, self.channels],
        }
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flat => f.write_str("flat"),
            Self::Series { length } => write!(f, "{length}"),
            Self::Image { height, width } => write!(f, "{height}×{width}"),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.extent {
            Extent::Flat => write!(f, "{}", self.channels),
            extent => write!(f, "{extent}×{}", self.channels),
        }
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flat => "flat",
            Self::Series => "series",
            Self::Image => "image",
        })
    }
}
