//! Numbers, how they lie in memory, and vectors of them: three traits that know each other.

use std::ops::DerefMut;

use candle_core::WithDType;
use half::bf16;

use super::panels::{Panels, Run};

/// The element types of the kernels: `f32` to train, `f64` to check the mathematics.
pub(crate) trait Real: WithDType {
    const ZERO: Self;
    const ONE: Self;
    /// Vectors for each instruction set.
    type Portable: Vector<Elem = Self>;
    #[cfg(target_arch = "x86_64")]
    type Avx2: Vector<Elem = Self>;
    #[cfg(target_arch = "x86_64")]
    type Avx512: Vector<Elem = Self>;
    /// The shortest elements that are computed with as these numbers.
    type Narrow: Stored<Real = Self>;

    fn sqrt(self) -> Self;

    fn is_nan(self) -> bool;

    /// The same number, a whole one of 0 … 255.
    fn to_u8(self) -> u8;

    /// `max(self, 0)`, of NaN NaN.
    #[inline(always)]
    fn relu(self) -> Self {
        if self < Self::ZERO { Self::ZERO } else { self }
    }
}

/// An element of a map.
pub(crate) trait Stored: WithDType {
    /// What it is computed with as.
    type Real: Real;

    /// Memory for the numbers of a piece.
    type Numbers: DerefMut<Target = [Self::Real]>;

    /// Such memory, of any values; none where the elements are numbers themselves.
    fn numbers(len: usize) -> Option<Self::Numbers>;

    /// The number.
    fn real(self) -> Self::Real;

    /// The element nearest to a number.
    fn nearest(x: Self::Real) -> Self;

    /// The elements, where they are numbers to compute with as they are.
    fn as_real(elements: &[Self]) -> Option<&[Self::Real]>;

    /// As [`Stored::as_real`], to be written.
    fn as_real_mut(elements: &mut [Self]) -> Option<&mut [Self::Real]>;

    /// As [`Vector::load`].
    ///
    /// # Safety
    /// As there.
    unsafe fn load<V: Vector<Elem = Self::Real>>(from: *const Self) -> V;

    /// As [`Vector::load_first`].
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn load_first<V: Vector<Elem = Self::Real>>(from: *const Self, n: usize) -> V {
        // SAFETY: only elements below `n` are read.
        unsafe {
            if n >= V::LANES {
                return Self::load(from);
            }
            let mut some = [Self::Real::ZERO; MAX_LANES];
            for (i, to) in some.iter_mut().enumerate().take(n) {
                *to = (*from.add(i)).real();
            }
            V::load(some.as_ptr())
        }
    }

    /// As [`Vector::store`], each number as the nearest element.
    ///
    /// # Safety
    /// As there.
    unsafe fn store<V: Vector<Elem = Self::Real>>(x: V, to: *mut Self);

    /// As [`Vector::store_first`], each number as the nearest element.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn store_first<V: Vector<Elem = Self::Real>>(x: V, to: *mut Self, n: usize) {
        // SAFETY: only elements below `n` are written.
        unsafe {
            if n >= V::LANES {
                return Self::store(x, to);
            }
            let mut some = [Self::Real::ZERO; MAX_LANES];
            x.store(some.as_mut_ptr());
            for (i, &x) in some.iter().enumerate().take(n) {
                *to.add(i) = Self::nearest(x);
            }
        }
    }
}

/// The most lanes that a [`Vector`] has.
pub(crate) const MAX_LANES: usize = 16;

/// Rows of a tile two vectors wide that [`Vector::paired`] knows how to sum, and [`Vector::evenly`] where there are 16 registers.
pub(crate) const PAIRED: usize = 6;

/// A few numbers in one register. Only for use inside `vectorized!`, where the processor is known to have it.
pub(crate) trait Vector: Copy {
    type Elem: Real;
    const LANES: usize;

    fn splat(x: Self::Elem) -> Self;

    /// `self·b + c`, with one rounding where there is an instruction for it.
    fn mul_add(self, b: Self, c: Self) -> Self;

    fn add(self, b: Self) -> Self;

    fn sub(self, b: Self) -> Self;

    fn mul(self, b: Self) -> Self;

    /// Lane by lane the larger of 0 and `self`, of NaN NaN.
    fn relu(self) -> Self;

    /// Lane by lane `self` where `x > 0`, otherwise 0.
    fn where_positive(self, x: Self) -> Self;

    /// Lane by lane `(x, tap)` where `x > best` or `x` is NaN, otherwise `(best, who)`.
    fn larger(x: Self, tap: Self, best: Self, who: Self) -> (Self, Self);

    /// Lane by lane `self + x` where the winner is `tap`, otherwise `self`.
    ///
    /// # Safety
    /// `LANES` elements from `x` on and from `winners` on are readable.
    unsafe fn add_where(self, x: *const Self::Elem, winners: *const u8, tap: u8) -> Self;

    /// # Safety
    /// `LANES` elements from `from` on are readable.
    unsafe fn load(from: *const Self::Elem) -> Self;

    /// # Safety
    /// `LANES` elements from `to` on are writable.
    unsafe fn store(self, to: *mut Self::Elem);

    /// Loads the first `n` elements, at most a vector, with zeros beyond.
    ///
    /// # Safety
    /// That many elements from `from` on are readable.
    #[inline(always)]
    unsafe fn load_first(from: *const Self::Elem, n: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::Elem::load_first(from, n) }
    }

    /// Stores the first `n` elements, at most a vector, and drops what lies beyond.
    ///
    /// # Safety
    /// That many elements from `to` on are writable.
    #[inline(always)]
    unsafe fn store_first(self, to: *mut Self::Elem, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { Self::Elem::store_first(self, to, n) }
    }

    /// Loads as many `bf16`.
    ///
    /// # Safety
    /// `LANES` elements from `from` on are readable.
    #[inline(always)]
    unsafe fn widen(from: *const bf16) -> Self {
        let mut some = [Self::Elem::ZERO; MAX_LANES];
        // SAFETY: the caller's promise; no vector is longer than the longest.
        unsafe {
            for (i, to) in some.iter_mut().enumerate().take(Self::LANES) {
                *to = Self::Elem::from_f64((*from.add(i)).to_f64());
            }
            Self::load(some.as_ptr())
        }
    }

    /// Stores as many `bf16`, the nearest, of two equally near the even one; for what is below their normal ones, perhaps 0.
    ///
    /// # Safety
    /// `LANES` elements from `to` on are writable.
    #[inline(always)]
    unsafe fn narrow(self, to: *mut bf16) {
        let mut some = [Self::Elem::ZERO; MAX_LANES];
        // SAFETY: as of `widen`.
        unsafe {
            self.store(some.as_mut_ptr());
            for (i, x) in some.iter().enumerate().take(Self::LANES) {
                *to.add(i) = nearest(x.to_f64() as f32);
            }
        }
    }

    /// Whether [`Vector::evenly`] does something: with 32 registers for 16 rows or 8 of one vector and 8 of two, with 16 for 6 or 4 of two.
    const EVENS: bool = false;

    /// As [`Vector::paired`], of rows `apart` elements apart, the first of which begins at `from`.
    ///
    /// # Safety
    /// Every offset of `run` is readable from each of `P` such rows; else as there.
    #[inline(always)]
    unsafe fn evenly<const P: usize, const Q: usize>(
        _acc: &mut [[Self; Q]; P],
        _from: *const Self::Elem,
        _apart: usize,
        _run: Run,
        _at: *const Self::Elem,
        _b: Panels<'_, Self::Elem>,
    ) -> bool {
        false
    }

    /// Whether [`Vector::paired`] does something for [`PAIRED`] rows of two vectors.
    const PAIRS: bool = false;

    /// Adds one run's products to a tile, if this set has a loop of its own for the tile's size:
    /// `acc[p][q] += Σ_i from[p][first + i·step] · b[i, q]`, the rows of `b` from `at` on.
    ///
    /// # Safety
    /// Every offset of `run` is readable from every `from`, and `run.len` rows of `b` from `at` on, `Q` vectors wide.
    #[inline(always)]
    unsafe fn paired<const P: usize, const Q: usize>(
        _acc: &mut [[Self; Q]; P],
        _from: &[*const Self::Elem; P],
        _run: Run,
        _at: *const Self::Elem,
        _b: Panels<'_, Self::Elem>,
    ) -> bool {
        false
    }
}

/// The `bf16` nearest to a number, of two equally near the even one. Without a branch, so that loops of it are vectorized; as
/// [`Vector::narrow`].
#[inline(always)]
pub(crate) fn nearest(x: f32) -> bf16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    bf16::from_bits((if x.is_nan() { bits | 0x40_0000 } else { rounded } >> 16) as u16)
}
