//! A 1×1 convolution of maps whose channels lie side by side, and the batch norm over its output, on slices. The maps are
//! never joined: each has its own rows of the weights, and what they say of a pixel is added up while it lies in the cache.

use super::Wanted;
use crate::kernels::{
    Isa, Prelude,
    activation::relu_mask,
    batch_norm::{PieceMoments, Statistics, Through},
    conv::{
        Shape,
        pointwise::{self, PIXELS, PointWeights, Points},
    },
    product::Start,
    simd::lanes,
    threads::{
        Reused, Scratch, add_in_order, collect, fill_and_collect, fill_several, piece, rows_per_piece,
    },
    transpose::transpose,
    values::Real,
};

/// A convolution whose input is made of maps of `each` channels.
#[derive(Clone, Copy)]
pub(super) struct Convolution {
    isa: Isa,
    prelude: Prelude,
    maps: usize,
    each: usize,
    to: usize,
    /// Pixels, all images'.
    rows: usize,
}

impl Convolution {
    /// Nothing where this is no convolution of that kind, or channels do not fill whole vectors.
    pub(super) fn of<T: Real>(isa: Isa, shape: Shape<'_>, maps: usize) -> Option<Self> {
        let Shape { input, output, window, prelude } = shape;
        let (each, to) = (input.c / maps, output.c);
        let fits = pointwise::fits::<T>(isa, window, to) && each.is_multiple_of(lanes::<T>(isa));
        let rows = output.n * output.h * output.w;
        (fits && each * maps == input.c).then_some(Self { isa, prelude, maps, each, to, rows })
    }

    /// Pixels of a piece.
    fn piece(&self) -> usize {
        let c = self.to.max(self.maps * self.each);
        rows_per_piece(self.rows * c, c)
    }

    fn work(&self) -> usize {
        self.rows * self.maps * self.each * self.to
    }

    /// Some pixels of one map of so many channels.
    fn pixels<T>(x: &[T], c: usize, first: usize, n: usize) -> &[T] {
        &x[first * c..(first + n) * c]
    }

    /// The convolution's output and its moments.
    pub(super) fn forward<T: Real>(&self, xs: &[&[T]], w: &[T], bias: Option<&[T]>) -> (Vec<T>, Statistics) {
        let Self { isa, prelude, each, to, .. } = *self;
        let points: Vec<_> =
            w.chunks_exact(each * to).map(|w| Points::new(isa, each, to, w.to_vec())).collect();
        let rows = self.piece();
        let (y, parts) = fill_and_collect(self.rows * to, rows * to, self.work(), |i, y: &mut [T]| {
            for (j, y) in y.chunks_mut(PIXELS * to).enumerate() {
                let mut start = bias.map_or(Start::Zero, Start::Columns);
                for (x, points) in xs.iter().zip(&points) {
                    let x = Self::pixels(x, each, i * rows + j * PIXELS, y.len() / to);
                    points.write_from(x, prelude, y, start);
                    start = Start::Old;
                }
            }
            PieceMoments::of(isa, y, to)
        });
        (y, PieceMoments::merge(parts, to))
    }

    /// The gradients at the maps and of the weights, as wanted; `(y, gz)` are the norm's input and what arrives behind it.
    pub(super) fn backward<T: Real>(
        &self,
        xs: &[&[T]],
        w: &[T],
        (y, gz): (&[T], &[T]),
        through: &Through<T>,
        wanted: Wanted,
    ) -> (Option<Vec<Vec<T>>>, Option<Vec<T>>) {
        let Self { isa, prelude, each, to, maps, .. } = *self;
        let (scratch, of_weights) = (Scratch::new(), PointWeights::new(isa));
        let back: Vec<_> = match wanted {
            Wanted::Weights => Vec::new(),
            _ => w.chunks_exact(each * to).map(|w| Points::new(isa, to, each, transpose(w, to))).collect(),
        };
        let rows = self.piece();
        let run = |i: usize, gxs: &mut [&mut [T]]| {
            let mut sum = (wanted != Wanted::Input).then(|| Reused::zeros(w.len()));
            let (y, gz) = (piece(y, i, rows * to), piece(gz, i, rows * to));
            scratch.lend(PIXELS * to, |gy| {
                for (j, (y, gz)) in y.chunks(PIXELS * to).zip(gz.chunks(PIXELS * to)).enumerate() {
                    let (gy, n) = (&mut gy[..y.len()], y.len() / to);
                    through.write(isa, y, gz, gy);
                    for (m, x) in xs.iter().enumerate() {
                        let x = Self::pixels(x, each, i * rows + j * PIXELS, n);
                        if let Some(sum) = &mut sum {
                            of_weights.add(
                                (each, to),
                                prelude,
                                x,
                                gy,
                                &mut sum[m * each * to..][..each * to],
                            );
                        }
                        if let Some(gx) = gxs.get_mut(m) {
                            let gx = &mut gx[j * PIXELS * each..][..n * each];
                            back[m].write_from(gy, Prelude::Identity, gx, Start::Zero);
                            if prelude == Prelude::Relu {
                                relu_mask(isa, x, gx);
                            }
                        }
                    }
                }
            });
            sum
        };
        let (gxs, parts) = match wanted {
            Wanted::Weights => (None, collect(self.rows.div_ceil(rows), self.work(), |i| run(i, &mut []))),
            _ => {
                let (gxs, parts) = fill_several(maps, self.rows * each, rows * each, self.work(), run);
                (Some(gxs), parts)
            }
        };
        let sum = (wanted != Wanted::Input).then(|| add_in_order(parts.into_iter().flatten(), w.len()));
        (gxs, sum)
    }
}
