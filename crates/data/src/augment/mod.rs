//! Disturbances of training examples, each a function of `(seed, epoch, example)` alone.

mod crop;
mod cutout;
mod flip;
mod rand_augment;

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use search_space::{Extent, Shape};
use serde::{Deserialize, Serialize};

use crate::{Error, Normalize};

/// What is done to a training example, in this order: crop, flip, RandAugment, (normalize,) cutout.
///
/// The defaults do nothing. Flat examples have no space to disturb and take none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Zeros (black) around the example before a window of its own size is cut at random, in pixels or time steps; less than a side.
    pub crop_padding: usize,
    /// Images: mirror left and right, every other time.
    pub flip: bool,
    /// Side of the square (series: length of the span) set to zero after normalization, its center anywhere, clipped at the border
    /// (DeVries & Taylor, 2017); at most a side.
    pub cutout: usize,
    /// Images of 1 or 3 channels: how many operations of RandAugment are drawn for each (2 is usual); 0: none.
    pub rand_ops: usize,
    /// Strength of all of them, 0 to 30 (9 is usual).
    pub rand_strength: usize,
}

impl Default for Augment {
    fn default() -> Self {
        Self { crop_padding: 0, flip: false, cutout: 0, rand_ops: 0, rand_strength: 9 }
    }
}

impl Augment {
    /// Whether these settings make sense for examples of `shape`.
    ///
    /// # Errors
    /// If flat examples are to be disturbed, series mirrored, or a size exceeds the example.
    pub fn check(&self, shape: Shape) -> Result<(), Error> {
        let (height, width) = shape.extent.plane();
        let side = if let Extent::Image { .. } = shape.extent { height.min(width) } else { width };
        match shape.extent {
            Extent::Flat if *self != Self::default() => {
                Err(Error::setting("augment", format!("{self:?}"), "nothing, for flat examples"))
            }
            Extent::Flat | Extent::Series { .. } if self.rand_ops > 0 => {
                Err(Error::setting("augment.rand_ops", self.rand_ops, "0, for what is no picture"))
            }
            _ if self.rand_ops > 0 && ![1, 3].contains(&shape.channels) => {
                let found = format!("{} of {} channels", self.rand_ops, shape.channels);
                Err(Error::setting("augment.rand_ops", found, "0 unless pictures have 1 or 3 channels"))
            }
            _ if self.rand_strength > rand_augment::STRONGEST => {
                Err(Error::setting("augment.rand_strength", self.rand_strength, "0 to 30"))
            }
            Extent::Series { .. } if self.flip => {
                Err(Error::setting("augment.flip", true, "false, for series"))
            }
            _ if self.crop_padding >= side => {
                Err(Error::setting("augment.crop_padding", self.crop_padding, format!("below {side}")))
            }
            _ if self.cutout > side => {
                Err(Error::setting("augment.cutout", self.cutout, format!("at most {side}")))
            }
            _ => Ok(()),
        }
    }

    /// Disturbs and normalizes one example, channels last; the settings fit the shape.
    pub(crate) fn apply(
        &self,
        example: &mut [f32],
        shape: Shape,
        normalize: Option<&Normalize>,
        rng: &mut ChaCha8Rng,
    ) {
        let Disturbance { shift, mirrored, .. } = self.draw_before(shape, rng);
        if shift != (0, 0) {
            crop::shift(example, shape, shift);
        }
        if mirrored {
            flip::mirror(example, shape);
        }
        if self.rand_ops > 0 {
            rand_augment::apply(example, shape, self.rand_ops, self.rand_strength, rng);
        }
        if let Some(normalize) = normalize {
            normalize.apply(example);
        }
        if let Some(hole) = self.draw_hole(shape, rng) {
            cutout::hole(example, shape, hole);
        }
    }

    /// What [`apply`](Self::apply) would do to an example, for whoever does it elsewhere; none where that takes more than
    /// a few numbers: RandAugment.
    pub(crate) fn draw(&self, shape: Shape, rng: &mut ChaCha8Rng) -> Option<Disturbance> {
        if self.rand_ops > 0 {
            return None;
        }
        let before = self.draw_before(shape, rng);
        Some(Disturbance { hole: self.draw_hole(shape, rng), ..before })
    }

    /// Crop and flip.
    fn draw_before(&self, shape: Shape, rng: &mut ChaCha8Rng) -> Disturbance {
        let shift = if self.crop_padding > 0 { crop::draw(shape, self.crop_padding, rng) } else { (0, 0) };
        Disturbance { shift, mirrored: self.flip && flip::draw(rng), hole: None }
    }

    fn draw_hole(&self, shape: Shape, rng: &mut ChaCha8Rng) -> Option<(Range<usize>, Range<usize>)> {
        (self.cutout > 0).then(|| cutout::draw(shape, self.cutout, rng))
    }
}

/// What is done to one example, in this order: it is shifted, mirrored, (normalized,) and gets a hole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disturbance {
    /// `out[y, x] = in[y + shift.0, x + shift.1]`, zero where that is outside.
    pub shift: (isize, isize),
    /// Whether left becomes right.
    pub mirrored: bool,
    /// Rows and columns that are zero; they lie inside.
    pub hole: Option<(Range<usize>, Range<usize>)>,
}

#[cfg(test)]
mod tests;
