//! Sums and multiples on slices.

use std::borrow::Cow;

use candle_core::WithDType;

use crate::kernels::{
    Isa,
    bias::repeat,
    element::{Real, Stored, Vector},
    simd::{each_vector, vectorized},
    stored::computed,
    threads::{collect, fill, overwrite, piece, piece_of, rows_per_piece},
};

/// Independent partial sums of a dot product, so that vectors can hold them.
const PARTIAL: usize = 16;

pub(super) fn add<M: Stored>(isa: Isa, a: &[M], b: &[M]) -> Vec<M> {
    let len = piece_of(a.len());
    fill(a.len(), len, a.len(), |i, y| {
        computed(y, |y| add_piece(isa, piece(a, i, len), piece(b, i, len), y));
    })
}

/// Terms that are read side by side: as many streams as processors fetch ahead of.
const SIDE_BY_SIDE: usize = 4;

/// A term on a slice.
pub(super) struct Addend<'a, M: Stored> {
    x: &'a [M],
    factor: M::Real,
    /// Means, factors and shifts of `factor·((x − mean)·f + shift)`, channels repeated.
    norm: Option<[Vec<M::Real>; 3]>,
}

impl<'a, M: Stored> Addend<'a, M> {
    /// `factor·x`, or `factor·((x − mean)·f + shift)` where there are channels' means, factors and shifts.
    pub(super) fn new(factor: f64, x: &'a [M], channels: Option<[Vec<M::Real>; 3]>) -> Self {
        let factor = M::Real::from_f64(factor);
        let times =
            |values: Vec<M::Real>| repeat(&values.into_iter().map(|x| factor * x).collect::<Vec<_>>());
        let norm = channels.map(|[mean, f, shift]| [repeat(&mean), times(f), times(shift)]);
        Self { x, factor, norm }
    }

    /// The means, factors and shifts of `(x − mean)·factor + shift`, whether there is a norm or not, repeated.
    fn channels(&self, period: usize) -> Channels<'_, M::Real> {
        let (alike, zero) = (|x: M::Real| Cow::Owned(vec![x; period]), M::Real::ZERO);
        match &self.norm {
            None => [alike(zero), alike(self.factor), alike(zero)],
            Some(norm) => norm.each_ref().map(|values| Cow::Borrowed(&values[..])),
        }
    }
}

/// Means, factors and shifts, repeated.
type Channels<'a, T> = [Cow<'a, [T]>; 3];

/// Elements that are added to again while they lie in the first-level cache, if they are whole periods.
const CHUNK: usize = 2_048;

/// The sum of the terms, in their order; of `c` channels.
pub(super) fn weighted<M: Stored>(isa: Isa, terms: &[Addend<'_, M>], c: usize) -> Vec<M> {
    let len = terms[0].x.len();
    let (rows, period) = (rows_per_piece(len, c), repeat(&vec![(); c]).len());
    let piece = rows * c;
    if terms.iter().all(|term| term.norm.is_none()) {
        return overwrite(len, piece, len * terms.len(), |i, y| match terms.len() {
            ..=SIDE_BY_SIDE => add_plain(isa, terms, i * piece, true, y),
            _ => in_chunks(terms, i * piece, CHUNK, y, |terms, at, j, y| {
                add_plain(isa, terms, at, j == 0, y);
            }),
        });
    }
    let channels: Vec<_> = terms.iter().map(|term| term.channels(period)).collect();
    let chunk = (CHUNK / period).max(1) * period;
    overwrite(len, piece, len * terms.len(), |i, y| match terms.len() {
        ..=SIDE_BY_SIDE => add_normed(isa, terms, &channels, c, i * piece, true, y),
        _ => in_chunks(terms, i * piece, chunk, y, |terms, at, j, y| {
            add_normed(isa, terms, &channels[j * SIDE_BY_SIDE..], c, at, j == 0, y);
        }),
    })
}

/// `sum = Σ factor·x`, or that added to it, where these are not the `first` terms; of as many elements each, in order.
pub(in crate::kernels) fn add_terms<M: Stored>(
    isa: Isa,
    terms: &[(f64, &[M])],
    first: bool,
    sum: &mut [M::Real],
) {
    for (j, terms) in terms.chunks(SIDE_BY_SIDE).enumerate() {
        let terms: Vec<_> = terms.iter().map(|&(factor, x)| Addend::new(factor, x, None)).collect();
        add_plain(isa, &terms, 0, first && j == 0, sum);
    }
}

/// Calls `add` with a few terms, where these begin, their number, and the part of `y` that they are added to; `y` begins at `at`.
fn in_chunks<'a, M: Stored>(
    terms: &[Addend<'a, M>],
    at: usize,
    chunk: usize,
    y: &mut [M],
    add: impl Fn(&[Addend<'a, M>], usize, usize, &mut [M::Real]),
) {
    for (k, y) in y.chunks_mut(chunk).enumerate() {
        computed(y, |y| {
            for (j, terms) in terms.chunks(SIDE_BY_SIDE).enumerate() {
                add(terms, at + k * chunk, j, y);
            }
        });
    }
}

pub(super) fn add_scaled<M: Stored>(isa: Isa, a: &[M], s: f64, x: &[M]) -> Vec<M> {
    let s = M::Real::from_f64(s);
    let len = piece_of(a.len());
    fill(a.len(), len, a.len(), |i, y| {
        computed(y, |y| add_scaled_piece(isa, piece(a, i, len), s, piece(x, i, len), y));
    })
}

pub(super) fn scale<M: Stored>(isa: Isa, x: &[M], s: f64) -> Vec<M> {
    let len = piece_of(x.len());
    let s = M::Real::from_f64(s);
    fill(x.len(), len, x.len(), |i, y| computed(y, |y| scale_piece(isa, piece(x, i, len), s, y)))
}

pub(super) fn scale_samples<M: Stored>(isa: Isa, x: &[M], factors: &[f64]) -> Vec<M> {
    let sample = x.len() / factors.len().max(1);
    let factor = |i: usize| M::Real::from_f64(factors[i]);
    fill(x.len(), sample, x.len(), |i, y| {
        computed(y, |y| scale_piece(isa, piece(x, i, sample), factor(i), y));
    })
}

pub(in crate::kernels) fn dot<M: Stored>(isa: Isa, a: &[M], b: &[M]) -> f64 {
    let len = piece_of(a.len());
    let parts = |i| dot_piece(isa, piece(a, i, len), piece(b, i, len));
    collect(a.len().div_ceil(len), a.len(), parts).into_iter().sum()
}

pub(super) fn is_finite<M: Stored>(isa: Isa, x: &[M]) -> bool {
    let len = piece_of(x.len());
    collect(x.len().div_ceil(len), x.len(), |i| is_finite_piece(isa, piece(x, i, len)))
        .into_iter()
        .all(|yes| yes)
}

pub(super) fn concat<E: WithDType>(parts: &[&[E]], widths: &[usize]) -> Vec<E> {
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
pub(super) fn columns<E: WithDType>(x: &[E], c: usize, first: usize, width: usize) -> Vec<E> {
    let rows = rows_per_piece(x.len(), c);
    let len = x.len() / c * width;
    fill(len, rows * width, len, |i, y| {
        for (y, x) in y.chunks_exact_mut(width).zip(piece(x, i, rows * c).chunks_exact(c)) {
            y.copy_from_slice(&x[first..first + width]);
        }
    })
}

vectorized! {
    /// `y = Σ factor·x` of at most [`SIDE_BY_SIDE`] terms from element `at` on; added to `y`, where they are not the `first`.
    fn add_plain<M: Stored, N: Stored, V, WIDE>(
        terms: &[Addend<'_, M>], at: usize, first: bool, y: &mut [N]
    ) -> () {
        match terms.len() {
            1 => plain::<M, N, V, 1>(terms, at, first, y),
            2 => plain::<M, N, V, 2>(terms, at, first, y),
            3 => plain::<M, N, V, 3>(terms, at, first, y),
            4 => plain::<M, N, V, 4>(terms, at, first, y),
            _ => unreachable!("one term to four"),
        }
    }
}

#[inline(always)]
fn plain<M: Stored, N: Stored<Real = M::Real>, V: Vector<Elem = M::Real>, const TERMS: usize>(
    terms: &[Addend<'_, M>],
    at: usize,
    first: bool,
    y: &mut [N],
) {
    assert!(terms.len() == TERMS);
    let zero = V::splat(V::Elem::ZERO);
    let (mut xs, mut factors) = ([std::ptr::null(); TERMS], [zero; TERMS]);
    for (n, term) in terms.iter().enumerate() {
        (xs[n], factors[n]) = (term.x[at..][..y.len()].as_ptr(), V::splat(term.factor));
    }
    each_vector!(V, y.len(), |at, left| {
        // SAFETY: so many elements are left of `y`, and every term is as long.
        unsafe {
            let mut sum = begin::<N, V>(first, y, at, left);
            for n in 0..TERMS {
                let x: V = M::load_first(xs[n].add(at), left);
                sum = sum.add(x.mul(factors[n]));
            }
            N::store_first(sum, y.as_mut_ptr().add(at), left);
        }
    });
}

vectorized! {
    /// `y = Σ (x − mean)·factor + shift` of `c` channels, else as [`add_plain`]; `at` is the first of a row.
    fn add_normed<M: Stored, N: Stored, V, WIDE>(
        terms: &[Addend<'_, M>], channels: &[Channels<'_, M::Real>], c: usize, at: usize, first: bool, y: &mut [N]
    ) -> () {
        match terms.len() {
            1 => normed::<M, N, V, 1, WIDE>(terms, channels, c, at, first, y),
            2 => normed::<M, N, V, 2, WIDE>(terms, channels, c, at, first, y),
            3 => normed::<M, N, V, 3, WIDE>(terms, channels, c, at, first, y),
            4 => normed::<M, N, V, 4, WIDE>(terms, channels, c, at, first, y),
            _ => unreachable!("one term to four"),
        }
    }
}

#[inline(always)]
fn normed<
    M: Stored,
    N: Stored<Real = M::Real>,
    V: Vector<Elem = M::Real>,
    const TERMS: usize,
    const WIDE: bool,
>(
    terms: &[Addend<'_, M>],
    channels: &[Channels<'_, M::Real>],
    c: usize,
    at: usize,
    first: bool,
    y: &mut [N],
) {
    assert!(terms.len() == TERMS && channels.len() >= TERMS);
    let period = channels[0][0].len();
    assert!(c > 0 && period.is_multiple_of(c) && period >= c);
    let (mut xs, mut constants) = ([std::ptr::null(); TERMS], [[std::ptr::null(); 3]; TERMS]);
    for (n, (term, channels)) in terms.iter().zip(channels).enumerate() {
        xs[n] = term.x[at..][..y.len()].as_ptr();
        for (to, values) in constants[n].iter_mut().zip(channels) {
            *to = values[..period].as_ptr();
        }
    }
    // SAFETY: every term is as long as `y`, and every channel's constants as a period, which is a row or more.
    let begun = unsafe {
        match c / V::LANES {
            _ if !c.is_multiple_of(V::LANES) || !WIDE => 0,
            1 => normed_rows::<M, N, V, TERMS, 1>(xs, constants, first, y),
            2 => normed_rows::<M, N, V, TERMS, 2>(xs, constants, first, y),
            4 if TERMS <= 2 => normed_rows::<M, N, V, TERMS, 4>(xs, constants, first, y),
            _ => 0,
        }
    };
    for (i, y) in y[begun..].chunks_mut(period).enumerate() {
        each_vector!(V, y.len(), |at, left| {
            // SAFETY: as above, of this period.
            unsafe {
                let mut sum = begin::<N, V>(first, y, at, left);
                for n in 0..TERMS {
                    let [mean, factor, shift] = constants[n];
                    let x: V = M::load_first(xs[n].add(begun + i * period + at), left);
                    let centered = x.sub(V::load_first(mean.add(at), left));
                    let scaled = centered.mul(V::load_first(factor.add(at), left));
                    sum = sum.add(scaled.add(V::load_first(shift.add(at), left)));
                }
                N::store_first(sum, y.as_mut_ptr().add(at), left);
            }
        });
    }
}

/// As [`normed`], of rows of `G` vectors, whose channels' constants stay in registers: how many elements are done, whole rows.
///
/// # Safety
/// Terms are as long as `y`, and constants as a row or longer.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "`n` names a term, and `g` a vector, of several arrays")]
unsafe fn normed_rows<
    M: Stored,
    N: Stored<Real = M::Real>,
    V: Vector<Elem = M::Real>,
    const TERMS: usize,
    const G: usize,
>(
    xs: [*const M; TERMS],
    constants: [[*const M::Real; 3]; TERMS],
    first: bool,
    y: &mut [N],
) -> usize {
    let mut held = [[[V::splat(V::Elem::ZERO); G]; 3]; TERMS];
    for (held, constants) in held.iter_mut().flatten().zip(constants.iter().flatten()) {
        for (g, held) in held.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *held = unsafe { V::load(constants.add(g * V::LANES)) };
        }
    }
    let row = G * V::LANES;
    for at in (0..y.len() / row).map(|i| i * row) {
        for g in 0..G {
            let at = at + g * V::LANES;
            // SAFETY: the caller's promise; whole rows are left.
            unsafe {
                let mut sum = begin::<N, V>(first, y, at, V::LANES);
                for n in 0..TERMS {
                    let x: V = M::load(xs[n].add(at));
                    let [mean, factor, shift] = [held[n][0][g], held[n][1][g], held[n][2][g]];
                    sum = sum.add(x.sub(mean).mul(factor).add(shift));
                }
                N::store(sum, y.as_mut_ptr().add(at));
            }
        }
    }
    y.len() / row * row
}

/// What a vector's sum begins with: 0 or, where these are not the `first` terms, what `y` holds.
///
/// # Safety
/// From `at` on, `y` has `left` elements or more.
#[inline(always)]
unsafe fn begin<N: Stored, V: Vector<Elem = N::Real>>(first: bool, y: &[N], at: usize, left: usize) -> V {
    match first {
        true => V::splat(V::Elem::ZERO),
        // SAFETY: the caller's promise.
        false => unsafe { N::load_first(y.as_ptr().add(at), left) },
    }
}

vectorized! {
    fn add_piece<M: Stored, V, WIDE>(a: &[M], b: &[M], y: &mut [M::Real]) -> () {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = a.real() + b.real();
        }
    }
}

vectorized! {
    fn add_scaled_piece<M: Stored, V, WIDE>(a: &[M], s: M::Real, x: &[M], y: &mut [M::Real]) -> () {
        for ((y, &a), &x) in y.iter_mut().zip(a).zip(x) {
            *y = a.real() + s * x.real();
        }
    }
}

vectorized! {
    fn scale_piece<M: Stored, V, WIDE>(x: &[M], s: M::Real, y: &mut [M::Real]) -> () {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = s * x.real();
        }
    }
}

vectorized! {
    fn dot_piece<M: Stored, V, WIDE>(a: &[M], b: &[M]) -> f64 {
        let mut sums = [0.0; PARTIAL];
        for (a, b) in a.chunks(PARTIAL).zip(b.chunks(PARTIAL)) {
            for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
                *sum += a.real().to_f64() * b.real().to_f64();
            }
        }
        sums.iter().sum()
    }
}
vectorized! {
    fn is_finite_piece<M: Stored, V, WIDE>(x: &[M]) -> bool {
        // 0·x is 0 for a finite x, else NaN.
        x.iter().fold(true, |finite, &x| finite & (x.real() * M::Real::ZERO == M::Real::ZERO))
    }
}
