//! A convolution's maps and window.

use crate::kernels::{Prelude, Window, map::Map, threads::piece};

/// A convolution between maps of fixed shapes.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Shape<'a> {
    pub(in crate::kernels) input: &'a Map,
    pub(in crate::kernels) output: &'a Map,
    pub(in crate::kernels) window: &'a Window,
    pub(in crate::kernels) prelude: Prelude,
}

impl Shape<'_> {
    /// Multiply-accumulates of a forward.
    pub(in crate::kernels) fn work(&self) -> usize {
        self.output.len() * self.window.taps() * self.input.c
    }

    /// The weights of one tap, `(c_in, c_out)`.
    pub(super) fn tap<'w, T>(&self, w: &'w [T], tap: usize) -> &'w [T] {
        let weights = self.input.c * self.output.c;
        &w[tap * weights..][..weights]
    }

    /// Elements of piece `i` of the input where a piece is `images` images.
    pub(in crate::kernels) fn input<'a, T>(&self, x: &'a [T], i: usize, images: usize) -> &'a [T] {
        piece(x, i, images * self.input.image())
    }

    /// The same of the output.
    pub(in crate::kernels) fn output<'a, T>(&self, y: &'a [T], i: usize, images: usize) -> &'a [T] {
        piece(y, i, images * self.output.image())
    }
}
