//! 1×1 convolutions without a stride: matrix products over pixels, a block of them at a time.

use std::borrow::Cow;

use super::shape::Shape;
use crate::kernels::{
    Isa, Prelude, Window,
    activation::relu_piece,
    element::{Real, Stored},
    panels::Panels,
    product::{Matrix, Start, matrix_product},
    simd::lanes,
    threads::{Reused, Scratch},
    transpose::transpose,
};

/// Pixels of a block: with 64 channels, half of a first-level cache.
pub(in crate::kernels) const PIXELS: usize = 64;

/// Whether a convolution to `to` channels is of this kind and fills whole vectors.
pub(super) fn fits<T: Real>(isa: Isa, window: &Window, to: usize) -> bool {
    *window == Window::same((1, 1), (1, 1), (1, 1)) && to.is_multiple_of(lanes::<T>(isa))
}

/// `y = prelude(x) · w (+ bias)` of every pixel.
pub(super) struct Points<'w, T: Real> {
    isa: Isa,
    from: usize,
    to: usize,
    /// `(from, to)`
    w: Cow<'w, [T]>,
    scratch: Scratch<T>,
}

impl<'w, T: Real> Points<'w, T> {
    pub(super) fn forward(isa: Isa, shape: Shape<'_>, w: &'w [T]) -> Self {
        Self::new(isa, (shape.input.c, shape.output.c), Cow::Borrowed(w))
    }

    pub(super) fn backward(isa: Isa, shape: Shape<'_>, w: &[T]) -> Self {
        let (to, from) = (shape.input.c, shape.output.c);
        Self::new(isa, (from, to), Cow::Owned(transpose(w, from)))
    }

    /// By a matrix `(from, to)`; `to` fills whole vectors.
    fn new(isa: Isa, (from, to): (usize, usize), w: Cow<'w, [T]>) -> Self {
        Self { isa, from, to, w, scratch: Scratch::new() }
    }

    pub(super) fn write<M: Stored<Real = T>>(
        &self,
        x: &[T],
        prelude: Prelude,
        y: &mut [M],
        bias: Option<&[T]>,
    ) {
        let Self { isa, from, to, .. } = *self;
        let start = bias.map_or(Start::Zero, Start::Columns);
        let b = Panels { values: &self.w, row: to, vector: lanes::<T>(isa) };
        for_blocks(isa, &self.scratch, x, from, prelude, |first, x, pixels| {
            let a = Matrix { values: x, rows: pixels, cols: from, row: from, col: 1 };
            matrix_product(isa, a, b, &mut y[first * to..][..pixels * to], to, to, start);
        });
    }
}

/// The weights' gradient `prelude(x)ᵀ · ∂L/∂y`.
pub(super) struct PointWeights<T: Real> {
    isa: Isa,
    scratch: Scratch<T>,
}

impl<T: Real> PointWeights<T> {
    pub(super) fn new(isa: Isa) -> Self {
        Self { isa, scratch: Scratch::new() }
    }

    /// What some rows add to the gradient `(from, to)`.
    pub(super) fn part(&self, (from, to): (usize, usize), prelude: Prelude, x: &[T], gy: &[T]) -> Reused<T> {
        debug_assert!(!x.is_empty(), "what is not cleared is written");
        let mut part = Reused::new(from * to);
        self.sum((from, to), prelude, x, gy, &mut part, Start::Zero);
        part
    }

    /// Adds what some rows say to the gradient `(from, to)`.
    pub(super) fn add(&self, sizes: (usize, usize), prelude: Prelude, x: &[T], gy: &[T], sum: &mut [T]) {
        self.sum(sizes, prelude, x, gy, sum, Start::Old);
    }

    /// As [`PointWeights::add`], where the first block begins with `start`: without a row nothing is written.
    fn sum(
        &self,
        (from, to): (usize, usize),
        prelude: Prelude,
        x: &[T],
        gy: &[T],
        sum: &mut [T],
        start: Start<'_, T>,
    ) {
        let isa = self.isa;
        for_blocks(isa, &self.scratch, x, from, prelude, |first, x, pixels| {
            let a = Matrix { values: x, rows: from, cols: pixels, row: 1, col: from };
            let gy = &gy[first * to..][..pixels * to];
            let b = Panels { values: gy, row: to, vector: lanes::<T>(isa) };
            matrix_product(isa, a, b, sum, to, to, if first == 0 { start } else { Start::Old });
        });
    }
}

/// Calls `each` with the first row, the values behind the prelude, and the number of rows of every block of `x`, whose rows have
/// `c` elements.
pub(super) fn for_blocks<T: Real>(
    isa: Isa,
    scratch: &Scratch<T>,
    x: &[T],
    c: usize,
    prelude: Prelude,
    mut each: impl FnMut(usize, &[T], usize),
) {
    let blocks = x.chunks(PIXELS * c).enumerate();
    match prelude {
        Prelude::Identity => blocks.for_each(|(i, x)| each(i * PIXELS, x, x.len() / c)),
        Prelude::Relu => scratch.lend(x.len().min(PIXELS * c), |seen| {
            blocks.for_each(|(i, x)| {
                let seen = &mut seen[..x.len()];
                relu_piece(isa, x, seen);
                each(i * PIXELS, seen, x.len() / c);
            });
        }),
    }
}
