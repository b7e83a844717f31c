//! Sums and multiples on slices.

use std::borrow::Cow;

use crate::kernels::{
    Isa,
    bias::repeat,
    simd::{Vector, each_vector, vectorized},
    threads::{collect, fill, piece, piece_of, rows_per_piece},
    values::Real,
};

/// Independent partial sums of a dot product, so that vectors can hold them.
const PARTIAL: usize = 16;

pub(super) fn add<T: Real>(isa: Isa, a: &[T], b: &[T]) -> Vec<T> {
    let len = piece_of(a.len());
    fill(a.len(), len, a.len(), |i, y| add_piece(isa, piece(a, i, len), piece(b, i, len), y))
}

/// Terms that are read side by side: as many streams as processors fetch ahead of.
const SIDE_BY_SIDE: usize = 4;

/// A term on a slice.
pub(super) struct Addend<'a, T> {
    x: &'a [T],
    factor: T,
    /// Means, factors and shifts of `factor·((x − mean)·f + shift)`, channels repeated.
    norm: Option<[Vec<T>; 3]>,
}

impl<'a, T: Real> Addend<'a, T> {
    /// `factor·x`, or `factor·((x − mean)·f + shift)` where there are channels' means, factors and shifts.
    pub(super) fn new(factor: f64, x: &'a [T], channels: Option<[Vec<T>; 3]>) -> Self {
        let factor = T::from_f64(factor);
        let times = |values: Vec<T>| repeat(&values.into_iter().map(|x| factor * x).collect::<Vec<_>>());
        let norm = channels.map(|[mean, f, shift]| [repeat(&mean), times(f), times(shift)]);
        Self { x, factor, norm }
    }

    /// The means, factors and shifts of `(x − mean)·factor + shift`, whether there is a norm or not, repeated.
    fn channels(&self, period: usize) -> [Cow<'_, [T]>; 3] {
        let alike = |x: T| Cow::Owned(vec![x; period]);
        match &self.norm {
            None => [alike(T::ZERO), alike(self.factor), alike(T::ZERO)],
            Some(norm) => norm.each_ref().map(|values| Cow::Borrowed(&values[..])),
        }
    }
}

/// `factor·x`.
#[derive(Clone, Copy)]
struct Plain<'a, T> {
    x: &'a [T],
    factor: T,
}

/// `(x − mean)·factor + shift`, the three repeated.
type Normed<'a, T> = (&'a [T], [&'a [T]; 3]);

/// The sum of the terms, in their order; of `c` channels.
pub(super) fn weighted<'a, T: Real>(isa: Isa, terms: &[Addend<'a, T>], c: usize) -> Vec<T> {
    let len = terms[0].x.len();
    let piece = rows_per_piece(len, c) * c;
    let at = |i: usize| i * piece..len.min((i + 1) * piece);
    if terms.iter().all(|term| term.norm.is_none()) {
        return fill(len, piece, len * terms.len(), |i, y| {
            for (j, terms) in terms.chunks(SIDE_BY_SIDE).enumerate() {
                let part = |term: &Addend<'a, T>| Plain { x: &term.x[at(i)], factor: term.factor };
                add_plain(isa, &terms.iter().map(part).collect::<Vec<_>>(), j == 0, y);
            }
        });
    }
    let period = repeat(&vec![(); c]).len();
    let channels: Vec<_> = terms.iter().map(|term| term.channels(period)).collect();
    fill(len, piece, len * terms.len(), |i, y| {
        for (j, terms) in terms.chunks(SIDE_BY_SIDE).enumerate() {
            let part = |t: usize| {
                let [mean, factor, shift] = &channels[j * SIDE_BY_SIDE + t];
                (&terms[t].x[at(i)], [&**mean, &**factor, &**shift])
            };
            add_normed(isa, &(0..terms.len()).map(part).collect::<Vec<_>>(), j == 0, y);
        }
    })
}

pub(super) fn add_scaled<T: Real>(isa: Isa, a: &[T], s: f64, x: &[T]) -> Vec<T> {
    let s = T::from_f64(s);
    let len = piece_of(a.len());
    fill(a.len(), len, a.len(), |i, y| add_scaled_piece(isa, piece(a, i, len), s, piece(x, i, len), y))
}

pub(super) fn scale<T: Real>(isa: Isa, x: &[T], s: f64) -> Vec<T> {
    let len = piece_of(x.len());
    fill(x.len(), len, x.len(), |i, y| scale_piece(isa, piece(x, i, len), T::from_f64(s), y))
}

pub(super) fn scale_samples<T: Real>(isa: Isa, x: &[T], factors: &[f64]) -> Vec<T> {
    let sample = x.len() / factors.len().max(1);
    fill(x.len(), sample, x.len(), |i, y| scale_piece(isa, piece(x, i, sample), T::from_f64(factors[i]), y))
}

pub(in crate::kernels) fn dot<T: Real>(isa: Isa, a: &[T], b: &[T]) -> f64 {
    let len = piece_of(a.len());
    let parts = |i| dot_piece(isa, piece(a, i, len), piece(b, i, len));
    collect(a.len().div_ceil(len), a.len(), parts).into_iter().sum()
}

pub(super) fn is_finite<T: Real>(isa: Isa, x: &[T]) -> bool {
    let len = piece_of(x.len());
    collect(x.len().div_ceil(len), x.len(), |i| is_finite_piece(isa, piece(x, i, len)))
        .into_iter()
        .all(|yes| yes)
}

pub(super) fn concat<T: Real>(parts: &[&[T]], widths: &[usize]) -> Vec<T> {
    let (c, len) = (widths.iter().sum::<usize>(), parts.iter().map(|part| part.len()).sum());
    let rows = rows_per_piece(len, c);
    fill(len, rows * c, len, |i, y| {
        let mut first = 0;
        for (part, &width) in parts.iter().zip(widths) {
            for (y, x) in y.chunks_exact_mut(c).zip(piece(part, i, rows * width).chunks_exact(width)) {
                y[first..first + width].copy_from_slice(x);
            }
            first += width;
        }
    })
}

/// `width` of `c` columns, from `first` on.
pub(super) fn columns<T: Real>(x: &[T], c: usize, first: usize, width: usize) -> Vec<T> {
    let rows = rows_per_piece(x.len(), c);
    let len = x.len() / c * width;
    fill(len, rows * width, len, |i, y| {
        for (y, x) in y.chunks_exact_mut(width).zip(piece(x, i, rows * c).chunks_exact(c)) {
            y.copy_from_slice(&x[first..first + width]);
        }
    })
}

vectorized! {
    /// `y = Σ factor·x` of at most [`SIDE_BY_SIDE`] terms as long as `y`; added to `y`, where they are not the `first`.
    fn add_plain<T, V, WIDE>(terms: &[Plain<'_, T>], first: bool, y: &mut [T]) -> () {
        match *terms {
            [a] => plain::<V, 1>([a], first, y),
            [a, b] => plain::<V, 2>([a, b], first, y),
            [a, b, c] => plain::<V, 3>([a, b, c], first, y),
            [a, b, c, d] => plain::<V, 4>([a, b, c, d], first, y),
            _ => unreachable!("one term to four"),
        }
    }
}

#[inline(always)]
#[expect(
    clippy::needless_range_loop,
    reason = "an array that is walked by value would be copied for every vector"
)]
fn plain<V: Vector, const N: usize>(terms: [Plain<'_, V::Elem>; N], first: bool, y: &mut [V::Elem]) {
    assert!(terms.iter().all(|term| term.x.len() == y.len()));
    let zero = V::splat(V::Elem::ZERO);
    each_vector!(V, y.len(), |at, left| {
        // SAFETY: so many elements are left of `y`, and every term is as long.
        unsafe {
            let mut sum = begin::<V>(first, y, at, left);
            for n in 0..N {
                let x = V::load_first(terms[n].x.as_ptr().add(at), left);
                sum = sum.add(x.mul_add(V::splat(terms[n].factor), zero)); // the zero changes no digit
            }
            sum.store_first(y.as_mut_ptr().add(at), left);
        }
    });
}

vectorized! {
    /// `y = Σ (x − mean)·factor + shift`, else as [`add_plain`].
    fn add_normed<T, V, WIDE>(terms: &[Normed<'_, T>], first: bool, y: &mut [T]) -> () {
        match *terms {
            [a] => normed::<V, 1>([a], first, y),
            [a, b] => normed::<V, 2>([a, b], first, y),
            [a, b, c] => normed::<V, 3>([a, b, c], first, y),
            [a, b, c, d] => normed::<V, 4>([a, b, c, d], first, y),
            _ => unreachable!("one term to four"),
        }
    }
}

#[inline(always)]
#[expect(
    clippy::needless_range_loop,
    reason = "an array that is walked by value would be copied for every vector"
)]
fn normed<V: Vector, const N: usize>(terms: [Normed<'_, V::Elem>; N], first: bool, y: &mut [V::Elem]) {
    let period = terms[0].1[0].len();
    assert!(
        terms.iter().all(|(x, channels)| x.len() == y.len() && channels.iter().all(|c| c.len() == period))
    );
    let zero = V::splat(V::Elem::ZERO);
    for (i, y) in y.chunks_mut(period).enumerate() {
        each_vector!(V, y.len(), |at, left| {
            // SAFETY: so many elements are left of this period of `y`; every term is as long as all of `y`, every channel's
            // constants as a period.
            unsafe {
                let mut sum = begin::<V>(first, y, at, left);
                for n in 0..N {
                    let (x, [mean, factor, shift]) = terms[n];
                    let x = V::load_first(x.as_ptr().add(i * period + at), left);
                    let centered = x.sub(V::load_first(mean.as_ptr().add(at), left));
                    let scaled = centered.mul_add(V::load_first(factor.as_ptr().add(at), left), zero);
                    sum = sum.add(scaled.add(V::load_first(shift.as_ptr().add(at), left)));
                }
                sum.store_first(y.as_mut_ptr().add(at), left);
            }
        });
    }
}

/// What a vector's sum begins with: 0 or, where these are not the `first` terms, what `y` holds.
///
/// # Safety
/// From `at` on, `y` has `left` elements or more.
#[inline(always)]
unsafe fn begin<V: Vector>(first: bool, y: &[V::Elem], at: usize, left: usize) -> V {
    match first {
        true => V::splat(V::Elem::ZERO),
        // SAFETY: the caller's promise.
        false => unsafe { V::load_first(y.as_ptr().add(at), left) },
    }
}

vectorized! {
    fn add_piece<T, V, WIDE>(a: &[T], b: &[T], y: &mut [T]) -> () {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = a + b;
        }
    }
}

vectorized! {
    fn add_scaled_piece<T, V, WIDE>(a: &[T], s: T, x: &[T], y: &mut [T]) -> () {
        for ((y, &a), &x) in y.iter_mut().zip(a).zip(x) {
            *y = a + s * x;
        }
    }
}

vectorized! {
    fn scale_piece<T, V, WIDE>(x: &[T], s: T, y: &mut [T]) -> () {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = s * x;
        }
    }
}

vectorized! {
    fn dot_piece<T, V, WIDE>(a: &[T], b: &[T]) -> f64 {
        let mut sums = [0.0; PARTIAL];
        for (a, b) in a.chunks(PARTIAL).zip(b.chunks(PARTIAL)) {
            for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
                *sum += a.to_f64() * b.to_f64();
            }
        }
        sums.iter().sum()
    }
}
vectorized! {
    fn is_finite_piece<T, V, WIDE>(x: &[T]) -> bool {
        // 0·x is 0 for a finite x, else NaN.
        x.iter().fold(true, |finite, &x| finite & (x * T::ZERO == T::ZERO))
    }
}
