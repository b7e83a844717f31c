//! Batch normalization on slices: one pass for sums, in `f64`, and one to apply them.

use candle_core::WithDType as _;

use crate::kernels::{
    Isa,
    bias::{fold, repeat},
    element::{Real, Stored},
    rows::{correlate, moments},
    simd::{each_vector_of_channels, vectorized},
    stored::{computed, wide},
    threads::{add_in_order, collect, overwrite, piece, rows_per_piece},
};

/// Mean and biased variance of each channel.
pub(in crate::kernels) struct Statistics {
    pub(in crate::kernels) mean: Vec<f64>,
    pub(in crate::kernels) var: Vec<f64>,
}

/// What one piece of a map says of its channels.
pub(in crate::kernels) struct PieceMoments {
    rows: f64,
    mean: Vec<f64>,
    /// `Σ (x − mean)²`.
    squares: Vec<f64>,
}

/// How `∂L/∂y` passes through a batch norm: `a·∂L/∂y + (b·(x − mean) + d)`, channels repeated.
pub(in crate::kernels) struct Through<T> {
    channels: usize,
    mean: Vec<T>,
    a: Vec<T>,
    b: Vec<T>,
    d: Vec<T>,
}

/// `Σ ∂L/∂y·x̂` and `Σ ∂L/∂y` of each channel: the gradients of scale and shift.
pub(super) struct GradientSums {
    /// `Σ ∂L/∂y·(x − mean)`
    products: Vec<f64>,
    pub(super) scale: Vec<f64>,
    pub(super) shift: Vec<f64>,
}

/// What one piece of a map and of the gradient that arrives at its norm say of their channels.
pub(in crate::kernels) struct PieceProducts {
    moments: PieceMoments,
    /// About what the products are taken.
    about: Vec<f64>,
    /// `Σ (x − about)·∂L/∂y`.
    products: Vec<f64>,
    /// `Σ ∂L/∂y`.
    sums: Vec<f64>,
}

impl PieceProducts {
    /// Of whole rows of `c` channels, at least one.
    pub(in crate::kernels) fn of<M: Stored>(isa: Isa, x: &[M::Real], gy: &[M], c: usize) -> Self {
        let moments = PieceMoments::of(isa, x, c);
        let about = round::<M::Real>(&moments.mean);
        let repeated = repeat(&about);
        let (mut products, mut sums) = (vec![0.0; repeated.len()], vec![0.0; repeated.len()]);
        wide(gy, |gy| correlate(isa, x, gy, &repeated, &mut products, &mut sums));
        let about = about.iter().map(|x| x.to_f64()).collect();
        Self { moments, about, products: fold(products, c), sums: fold(sums, c) }
    }
}

/// `⟨∂L/∂y, y⟩` of the pieces' norm.
pub(super) fn product(
    pieces: Vec<PieceProducts>,
    affine: Option<&(Vec<f64>, Vec<f64>)>,
    c: usize,
    eps: f64,
) -> f64 {
    let (moments, pieces): (Vec<_>, Vec<_>) =
        pieces.into_iter().map(|piece| (piece.moments, (piece.about, piece.products, piece.sums))).unzip();
    let Statistics { mean, var } = PieceMoments::merge(moments, c);
    let mut all = 0.0;
    for c in 0..c {
        let (scale, shift) = affine.map_or((1.0, 0.0), |(scale, shift)| (scale[c], shift[c]));
        let about_mean = |(about, products, shares): &(Vec<f64>, Vec<f64>, Vec<f64>)| {
            products[c] + (about[c] - mean[c]) * shares[c]
        };
        let product: f64 = pieces.iter().map(about_mean).sum();
        let share: f64 = pieces.iter().map(|(_, _, shares)| shares[c]).sum();
        all += scale / (var[c] + eps).sqrt() * product + shift * share;
    }
    all
}

impl GradientSums {
    /// All pieces', added in order.
    pub(super) fn of(parts: Vec<PieceSums>, inv_std: &[f64]) -> Self {
        let mut products = add_in_order(parts.into_iter().map(|part| part.0), 2 * inv_std.len());
        let shift = products.split_off(inv_std.len());
        let scale = products.iter().zip(inv_std).map(|(product, inv_std)| product * inv_std).collect();
        Self { products, scale, shift }
    }

    /// `⟨∂L/∂y, (x − mean)·factor + shift⟩`
    pub(super) fn product(&self, factor: &[f64], shift: &[f64]) -> f64 {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        dot(factor, &self.products) + dot(shift, &self.shift)
    }
}

pub(super) fn statistics<M: Stored>(isa: Isa, x: &[M], c: usize) -> Statistics {
    let len = rows_per_piece(x.len(), c) * c;
    let parts = collect(x.len().div_ceil(len), x.len(), |i| PieceMoments::of(isa, piece(x, i, len), c));
    PieceMoments::merge(parts, c)
}

impl PieceMoments {
    /// Of whole rows of `c` channels, at least one.
    pub(in crate::kernels) fn of<M: Stored>(isa: Isa, x: &[M], c: usize) -> Self {
        // Sums about the first row's values lose no digits to a large mean.
        let about = repeat(&x[..c]).into_iter().map(|x| x.real()).collect::<Vec<_>>();
        let (mut sums, mut squares) = (vec![0.0; about.len()], vec![0.0; about.len()]);
        moments(isa, x, &about, &mut sums, &mut squares);
        let (rows, mut mean, mut squares) = ((x.len() / c) as f64, fold(sums, c), fold(squares, c));
        for ((mean, square), about) in mean.iter_mut().zip(&mut squares).zip(&about) {
            let sum = *mean;
            (*mean, *square) = (about.to_f64() + sum / rows, (*square - sum * sum / rows).max(0.0));
        }
        Self { rows, mean, squares }
    }

    /// Pairs added in order (Chan, Golub & LeVeque, 1983).
    pub(in crate::kernels) fn merge(parts: Vec<Self>, c: usize) -> Statistics {
        let none = Self { rows: 0.0, mean: vec![0.0; c], squares: vec![0.0; c] };
        let all = parts.into_iter().fold(none, |mut all, part| {
            let rows = all.rows + part.rows;
            let (share, pairs) = (part.rows / rows, all.rows * part.rows / rows);
            let channels = all.mean.iter_mut().zip(&mut all.squares).zip(part.mean.iter().zip(&part.squares));
            for ((mean, squares), (part_mean, part_squares)) in channels {
                let apart = part_mean - *mean;
                *mean += apart * share;
                *squares += part_squares + apart * apart * pairs;
            }
            Self { rows, ..all }
        });
        let var = all.squares.iter().map(|squares| squares / all.rows.max(1.0)).collect();
        Statistics { mean: all.mean, var }
    }
}

/// `(x − mean) · inv_std · scale + shift`.
pub(super) fn apply<M: Stored>(
    isa: Isa,
    x: &[M],
    mean: &[f64],
    inv_std: &[f64],
    affine: Option<(Vec<f64>, Vec<f64>)>,
) -> Vec<M> {
    let c = mean.len();
    let (scale, shift) = affine.unwrap_or_else(|| (vec![1.0; c], vec![0.0; c]));
    let factor: Vec<f64> = scale.iter().zip(inv_std).map(|(scale, inv_std)| scale * inv_std).collect();
    let [mean, factor, shift] = [mean, &factor, &shift].map(|values| repeat(&round::<M::Real>(values)));
    let len = rows_per_piece(x.len(), c) * c;
    overwrite(x.len(), len, x.len(), |i, y| {
        computed(y, |y| normalize(isa, piece(x, i, len), c, [&mean, &factor, &shift], y));
    })
}

pub(super) fn gradient_sums<M: Stored>(
    isa: Isa,
    x: &[M],
    gy: &[M],
    mean: &[f64],
    inv_std: &[f64],
) -> GradientSums {
    let c = mean.len();
    let (len, mean) = (rows_per_piece(x.len(), c) * c, repeat(&round::<M::Real>(mean)));
    let part = |i| PieceSums::of(isa, piece(x, i, len), piece(gy, i, len), &mean, c);
    GradientSums::of(collect(x.len().div_ceil(len), x.len(), part), inv_std)
}

/// What one piece of a map and of the gradient behind its norm add to [`GradientSums`]: products, then shifts.
#[derive(Clone, Debug)]
pub(in crate::kernels) struct PieceSums(Vec<f64>);

impl PieceSums {
    /// Of whole rows of `c` channels; their `mean` is repeated.
    pub(in crate::kernels) fn of<M: Stored>(isa: Isa, x: &[M], gy: &[M], mean: &[M::Real], c: usize) -> Self {
        let (mut products, mut sums) = (vec![0.0; mean.len()], vec![0.0; mean.len()]);
        correlate(isa, x, gy, mean, &mut products, &mut sums);
        let mut both = fold(products, c);
        both.extend(fold(sums, c));
        Self(both)
    }

    /// Whether they are of `c` channels.
    pub(super) fn fits(&self, c: usize) -> bool {
        self.0.len() == 2 * c
    }
}

/// `∂L/∂x` of a whole map.
pub(super) fn backward<M: Stored>(
    isa: Isa,
    x: &[M],
    gy: &[M],
    c: usize,
    through: &Through<M::Real>,
) -> Vec<M> {
    let len = rows_per_piece(x.len(), c) * c;
    overwrite(x.len(), len, x.len(), |i, gx| {
        computed(gx, |gx| through.write(isa, piece(x, i, len), piece(gy, i, len), gx));
    })
}

impl<T: Real> Through<T> {
    /// From the moments, the scale, and the sums over all `rows`.
    pub(super) fn new(
        mean: &[f64],
        inv_std: &[f64],
        scale: Option<&[f64]>,
        sums: &GradientSums,
        rows: f64,
    ) -> Self {
        let c = mean.len();
        let a: Vec<f64> = (0..c).map(|c| inv_std[c] * scale.map_or(1.0, |scale| scale[c])).collect();
        let b: Vec<f64> = (0..c).map(|c| -a[c] * inv_std[c] * sums.scale[c] / rows).collect();
        let d: Vec<f64> = (0..c).map(|c| -a[c] * sums.shift[c] / rows).collect();
        let [mean, a, b, d] = [mean, &a, &b, &d].map(|values| repeat(&round::<T>(values)));
        Self { channels: c, mean, a, b, d }
    }

    /// As of a norm over `c` channels that are all alike.
    #[cfg(test)]
    pub(in crate::kernels) fn of_constants(c: usize, mean: f64) -> Self {
        let sums = GradientSums { products: vec![0.0; c], scale: vec![0.25; c], shift: vec![0.5; c] };
        Self::new(&vec![mean; c], &vec![1.5; c], None, &sums, 3.0)
    }

    /// `∂L/∂x` of whole rows.
    pub(in crate::kernels) fn write<M: Stored<Real = T>>(&self, isa: Isa, x: &[M], gy: &[M], gx: &mut [T]) {
        combine(isa, x, gy, self.channels, [&self.mean, &self.a, &self.b, &self.d], gx);
    }
}

pub(super) fn round<T: Real>(values: &[f64]) -> Vec<T> {
    values.iter().map(|&x| T::from_f64(x)).collect()
}

vectorized! {
    /// `(x − mean)·factor + shift` of `c` channels, repeated.
    pub(in crate::kernels) fn normalize<M: Stored, V, WIDE>(
        x: &[M], c: usize, channels: [&[M::Real]; 3], y: &mut [M::Real]
    ) -> () {
        assert!(x.len() == y.len());
        let [mean, factor, shift] = channels;
        each_vector_of_channels!(V, WIDE, x.len(), c, [mean, factor, shift], |at, left| {
            // SAFETY: so many elements are left of both.
            unsafe {
                let x: V = M::load_first(x.as_ptr().add(at), left);
                x.sub(mean).mul(factor).add(shift).store_first(y.as_mut_ptr().add(at), left);
            }
        });
    }
}

vectorized! {
    /// `a·gy + (b·(x − mean) + d)` of `c` channels, repeated.
    fn combine<M: Stored, V, WIDE>(
        x: &[M], gy: &[M], c: usize, channels: [&[M::Real]; 4], gx: &mut [M::Real]
    ) -> () {
        assert!(x.len() == gx.len() && gy.len() == gx.len());
        let [mean, a, b, d] = channels;
        each_vector_of_channels!(V, WIDE, x.len(), c, [mean, a, b, d], |at, left| {
            // SAFETY: so many elements are left of all three.
            unsafe {
                let x: V = M::load_first(x.as_ptr().add(at), left);
                let gy: V = M::load_first(gy.as_ptr().add(at), left);
                let of_x = x.sub(mean).mul(b).add(d);
                gy.mul(a).add(of_x).store_first(gx.as_mut_ptr().add(at), left);
            }
        });
    }
}
