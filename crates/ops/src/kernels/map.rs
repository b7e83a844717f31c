//! The extent of a spatial tensor.

use candle_core::{Result, bail};

/// The extent of a spatial tensor, whatever its rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Map {
    pub(crate) n: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) c: usize,
    pub(crate) rank: usize,
}

impl Map {
    pub(crate) fn of(dims: &[usize]) -> Result<Self> {
        let (n, h, w, c) = match *dims {
            [n, c] => (n, 1, 1, c),
            [n, l, c] => (n, 1, l, c),
            [n, h, w, c] => (n, h, w, c),
            _ => bail!("found shape {dims:?}, expected (N, C), (N, L, C) or (N, H, W, C)"),
        };
        if h * w * c == 0 {
            bail!("found shape {dims:?}, expected pixels and channels");
        }
        Ok(Self { n, h, w, c, rank: dims.len() })
    }

    /// Elements of one image.
    pub(crate) fn image(&self) -> usize {
        self.h * self.w * self.c
    }

    pub(crate) fn len(&self) -> usize {
        self.n * self.image()
    }

    pub(crate) fn dims(&self) -> Vec<usize> {
        let all = [self.n, self.h, self.w, self.c];
        match self.rank {
            2 => vec![self.n, self.c],
            3 => vec![self.n, self.w, self.c],
            _ => all.to_vec(),
        }
    }

    /// This map with other pixels.
    pub(crate) fn with_pixels(self, h: usize, w: usize) -> Self {
        Self { h, w, ..self }
    }

    /// The map that a window makes of this one, with `c` channels.
    pub(crate) fn through(&self, window: &super::Window, c: usize) -> Self {
        let (h, w) = window.out(self.h, self.w);
        Self { h, w, c, ..*self }
    }
}
