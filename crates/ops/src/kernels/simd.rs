//! Vectors of a few numbers, and which instructions compute with them.

use std::sync::OnceLock;

use candle_core::WithDType as _;
use half::bf16;

#[cfg(target_arch = "x86_64")]
use super::tiles;
use super::{
    product::{Panels, Run},
    stored::Stored as _,
    units,
    values::Real,
};

/// An instruction set. Results are the same bytes for the same set, and agree to rounding between sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// What the build's target has; the specification of the others.
    Portable,
    /// x86-64 with AVX2 and fused multiply-add.
    Avx2,
    /// x86-64 with AVX-512 F, VL, BW and DQ.
    Avx512,
    /// The same with AMX: matrix units for tiles of `bf16`. Differs where maps are stored as that.
    Amx,
}

impl Isa {
    /// The widest set of this processor.
    #[must_use]
    pub fn detect() -> Self {
        Self::all().into_iter().rev().find(|isa| isa.available()).unwrap_or(Self::Portable)
    }

    /// All sets, narrow to wide.
    #[must_use]
    pub fn all() -> [Self; 4] {
        [Self::Portable, Self::Avx2, Self::Avx512, Self::Amx]
    }

    /// Whether this processor has the set. Every call of a kernel asks, so it is looked up once.
    #[must_use]
    pub fn available(self) -> bool {
        static AVAILABLE: OnceLock<[bool; 4]> = OnceLock::new();
        AVAILABLE.get_or_init(|| Self::all().map(Self::look_up))[self as usize]
    }

    fn look_up(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.look_up()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
            }
            Self::Amx => Self::Avx512.look_up() && units::are_there(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }
}

/// Writes a loop once and compiles it for every instruction set: `fn name<T, V, WIDE>(…)` becomes a function generic
/// over `T: Real` whose first argument is the [`Isa`]. Inside, `V` is the set's vector of `T`, and `WIDE` says that
/// there are 32 registers rather than 16. `fn name<M: Stored, V, WIDE>(…)` is generic over the elements of maps instead, and
/// `V` a vector of `M::Real`; `fn name<M: Stored, N: Stored, V, WIDE>(…)` over two kinds of elements with the same numbers.
macro_rules! vectorized {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$T:ident, $V:ident, $WIDE:ident> $($rest:tt)*) => {
        $crate::kernels::simd::vectorized! {
            @ [$T: $crate::kernels::values::Real] [$T] [$V, $WIDE] $(#[$meta])* $vis fn $name $($rest)*
        }
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$M:ident: Stored, $V:ident, $WIDE:ident> $($rest:tt)*) => {
        $crate::kernels::simd::vectorized! {
            @ [$M: $crate::kernels::stored::Stored] [$M::Real] [$V, $WIDE] $(#[$meta])* $vis fn $name $($rest)*
        }
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident<
        $M:ident: Stored, $N:ident: Stored, $V:ident, $WIDE:ident
    > $($rest:tt)*) => {
        $crate::kernels::simd::vectorized! {
            @ [$M: $crate::kernels::stored::Stored, $N: $crate::kernels::stored::Stored<Real = $M::Real>]
            [$M::Real] [$V, $WIDE] $(#[$meta])* $vis fn $name $($rest)*
        }
    };
    (@ [$($G:ident: $bound:path),+] [$Real:ty] [$V:ident, $WIDE:ident]
        $(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $R:ty)? $body:block
    ) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name<$($G: $bound),+>(isa: $crate::kernels::Isa, $($arg: $ty),*) $(-> $R)? {
            // Inlined always, for only then is it compiled with the instructions of its caller.
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body<$($G,)+ $V, const $WIDE: bool>($($arg: $ty),*) $(-> $R)?
            where
                $($G: $bound,)+
                $V: $crate::kernels::simd::Vector<Elem = $Real>,
            $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2<$($G: $bound),+>($($arg: $ty),*) $(-> $R)? {
                body::<$($G,)+ <$Real as $crate::kernels::values::Real>::Avx2, false>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512bw,avx512dq")]
            #[allow(clippy::too_many_arguments)]
            fn avx512<$($G: $bound),+>($($arg: $ty),*) $(-> $R)? {
                body::<$($G,)+ <$Real as $crate::kernels::values::Real>::Avx512, true>($($arg),*)
            }

            match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the guard has just seen that the processor has these instructions.
                $crate::kernels::Isa::Avx2 if isa.available() => unsafe { avx2::<$($G),+>($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                $crate::kernels::Isa::Avx512 | $crate::kernels::Isa::Amx if isa.available() => unsafe { avx512::<$($G),+>($($arg),*) },
                _ => body::<$($G,)+ <$Real as $crate::kernels::values::Real>::Portable, false>($($arg),*),
            }
        }
    };
}
pub(crate) use vectorized;

/// Does something for every vector of so many elements, from `at` on, of which `left` are left: as many as a vector has, which
/// the compiler knows, but for the last. A macro, since a closure that is called twice need not be inlined, and only what is
/// inlined is compiled with the instructions of its caller.
macro_rules! each_vector {
    ($V:ident, $len:expr, |$at:ident, $left:ident| $body:block) => {{
        let (len, mut $at) = ($len, 0);
        while $at + $V::LANES <= len {
            let $left = $V::LANES;
            $body
            $at += $V::LANES;
        }
        if $at < len {
            let $left = len - $at;
            $body
        }
    }};
}
pub(crate) use each_vector;

/// The most lanes that a [`Vector`] has.
pub(crate) const MAX_LANES: usize = 16;

vectorized! {
    /// How many elements are computed at once.
    pub(crate) fn lanes<T, V, WIDE>() -> usize {
        V::LANES
    }
}

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
                *to.add(i) = bf16::nearest(x.to_f64() as f32);
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

/// A vector without instructions of its own; LLVM finds those of the target.
#[derive(Clone, Copy)]
pub(crate) struct Lanes<T>([T; 4]);

impl<T: Real> Vector for Lanes<T> {
    type Elem = T;
    const LANES: usize = 4;

    #[inline(always)]
    fn splat(x: T) -> Self {
        Self([x; 4])
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        let (Self([a0, a1, a2, a3]), Self([b0, b1, b2, b3]), Self([c0, c1, c2, c3])) = (self, b, c);
        Self([a0 * b0 + c0, a1 * b1 + c1, a2 * b2 + c2, a3 * b3 + c3])
    }

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        let (Self([a0, a1, a2, a3]), Self([b0, b1, b2, b3])) = (self, b);
        Self([a0 + b0, a1 + b1, a2 + b2, a3 + b3])
    }

    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        let (Self([a0, a1, a2, a3]), Self([b0, b1, b2, b3])) = (self, b);
        Self([a0 - b0, a1 - b1, a2 - b2, a3 - b3])
    }

    #[inline(always)]
    fn relu(self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].relu()))
    }

    #[inline(always)]
    fn where_positive(self, x: Self) -> Self {
        Self(std::array::from_fn(|i| if x.0[i] > T::ZERO { self.0[i] } else { T::ZERO }))
    }

    #[inline(always)]
    fn larger(x: Self, tap: Self, best: Self, who: Self) -> (Self, Self) {
        let wins: [bool; 4] = std::array::from_fn(|i| (x.0[i] > best.0[i]) | x.0[i].is_nan());
        let choose = |a: Self, b: Self| Self(std::array::from_fn(|i| if wins[i] { a.0[i] } else { b.0[i] }));
        (choose(x, best), choose(tap, who))
    }

    #[inline(always)]
    unsafe fn add_where(self, x: *const T, winners: *const u8, tap: u8) -> Self {
        // SAFETY: the caller's promise; arrays ask for no more alignment than their elements.
        let (x, winners) = unsafe { (Self::load(x).0, *winners.cast::<[u8; 4]>()) };
        Self(std::array::from_fn(|i| if winners[i] == tap { self.0[i] + x[i] } else { self.0[i] }))
    }

    #[inline(always)]
    unsafe fn load(from: *const T) -> Self {
        // SAFETY: the caller's promise; an array asks for no more alignment than its element.
        Self(unsafe { *from.cast() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut T) {
        // SAFETY: as in `load`.
        unsafe { *to.cast() = self.0 }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::{asm, x86_64::*};

    use half::bf16;

    use super::{
        PAIRED, Panels, Run, Vector,
        tiles::{even_rows, few_even_rows, six_rows},
    };

    macro_rules! vector {
        ($V:ty, $T:ty, $lanes:literal, $splat:ident, $mul_add:ident, $add:ident, $sub:ident, $max:ident, $positive:ident, $larger:ident, $add_where:ident, $load:ident, $store:ident $(, $widen:ident, $narrow:ident)? $(; paired $paired:ident)? $(; evenly $evenly:ident)?) => {
            impl Vector for $V {
                type Elem = $T;
                const LANES: usize = $lanes;

                #[inline(always)]
                fn splat(x: $T) -> Self {
                    // SAFETY: by the trait's contract the processor has the instruction.
                    unsafe { $splat(x) }
                }

                #[inline(always)]
                fn mul_add(self, b: Self, c: Self) -> Self {
                    // SAFETY: as in `splat`.
                    unsafe { $mul_add(self, b, c) }
                }

                #[inline(always)]
                fn add(self, b: Self) -> Self {
                    // SAFETY: as in `splat`.
                    unsafe { $add(self, b) }
                }

                #[inline(always)]
                fn sub(self, b: Self) -> Self {
                    // SAFETY: as in `splat`.
                    unsafe { $sub(self, b) }
                }

                #[inline(always)]
                fn relu(self) -> Self {
                    // SAFETY: as in `splat`. Of two values of which one is NaN, the instruction returns the second.
                    unsafe { $max(Self::splat(0.0), self) }
                }

                #[inline(always)]
                fn where_positive(self, x: Self) -> Self {
                    // SAFETY: as in `splat`.
                    unsafe { $positive(self, x) }
                }

                #[inline(always)]
                fn larger(x: Self, tap: Self, best: Self, who: Self) -> (Self, Self) {
                    // SAFETY: as in `splat`.
                    unsafe { $larger(x, tap, best, who) }
                }

                #[inline(always)]
                unsafe fn add_where(self, x: *const $T, winners: *const u8, tap: u8) -> Self {
                    // SAFETY: as in `load`.
                    unsafe { $add_where(self, x, winners, tap) }
                }

                #[inline(always)]
                unsafe fn load(from: *const $T) -> Self {
                    // SAFETY: as in `splat`, and the caller's promise.
                    unsafe { $load(from) }
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut $T) {
                    // SAFETY: as in `load`.
                    unsafe { $store(to, self) }
                }

                $(
                    #[inline(always)]
                    unsafe fn widen(from: *const bf16) -> Self {
                        // SAFETY: as in `load`.
                        unsafe { $widen(from) }
                    }

                    #[inline(always)]
                    unsafe fn narrow(self, to: *mut bf16) {
                        // SAFETY: as in `load`.
                        unsafe { $narrow(self, to) }
                    }
                )?

                $(
                    const PAIRS: bool = true;

                    #[inline(always)]
                    unsafe fn paired<const P: usize, const Q: usize>(
                        acc: &mut [[Self; Q]; P],
                        from: &[*const $T; P],
                        run: Run,
                        at: *const $T,
                        b: Panels<'_, $T>,
                    ) -> bool {
                        if P != PAIRED || Q != 2 {
                            return false;
                        }
                        // SAFETY: as in `splat`, and the caller's promise.
                        unsafe { $paired(acc.as_flattened_mut(), from, run, at, b) };
                        true
                    }
                )?

                $(
                    const EVENS: bool = true;

                    #[inline(always)]
                    unsafe fn evenly<const P: usize, const Q: usize>(
                        acc: &mut [[Self; Q]; P],
                        from: *const $T,
                        apart: usize,
                        run: Run,
                        at: *const $T,
                        b: Panels<'_, $T>,
                    ) -> bool {
                        // SAFETY: as in `splat`, and the caller's promise.
                        unsafe { $evenly::<P, Q>(acc.as_flattened_mut(), from, apart, run, at, b) }
                    }
                )?
            }
        };
    }

    macro_rules! positive {
        ($name:ident, $V:ty, $features:literal, $keep:expr) => {
            #[inline]
            #[target_feature(enable = $features)]
            fn $name(kept: $V, x: $V) -> $V {
                $keep(kept, x)
            }
        };
    }

    positive!(positive_ps, __m256, "avx", |kept, x| {
        _mm256_and_ps(kept, _mm256_cmp_ps::<_CMP_GT_OQ>(x, _mm256_setzero_ps()))
    });
    positive!(positive_pd, __m256d, "avx", |kept, x| {
        _mm256_and_pd(kept, _mm256_cmp_pd::<_CMP_GT_OQ>(x, _mm256_setzero_pd()))
    });
    positive!(positive_wide_ps, __m512, "avx512f", |kept, x| {
        _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, _mm512_setzero_ps()), kept)
    });
    positive!(positive_wide_pd, __m512d, "avx512f", |kept, x| {
        _mm512_maskz_mov_pd(_mm512_cmp_pd_mask::<_CMP_GT_OQ>(x, _mm512_setzero_pd()), kept)
    });

    macro_rules! larger {
        ($name:ident, $V:ty, $features:literal, $compare:ident, $or:expr, $choose:expr) => {
            #[inline]
            #[target_feature(enable = $features)]
            fn $name(x: $V, tap: $V, best: $V, who: $V) -> ($V, $V) {
                let wins = $or($compare::<_CMP_GT_OQ>(x, best), $compare::<_CMP_UNORD_Q>(x, x));
                ($choose(wins, x, best), $choose(wins, tap, who))
            }
        };
    }

    larger!(larger_ps, __m256, "avx", _mm256_cmp_ps, |a, b| _mm256_or_ps(a, b), |wins, a, b| {
        _mm256_blendv_ps(b, a, wins)
    });
    larger!(larger_pd, __m256d, "avx", _mm256_cmp_pd, |a, b| _mm256_or_pd(a, b), |wins, a, b| {
        _mm256_blendv_pd(b, a, wins)
    });
    larger!(larger_wide_ps, __m512, "avx512f", _mm512_cmp_ps_mask, |a, b| a | b, |wins, a, b| {
        _mm512_mask_blend_ps(wins, b, a)
    });
    larger!(larger_wide_pd, __m512d, "avx512f", _mm512_cmp_pd_mask, |a, b| a | b, |wins, a, b| {
        _mm512_mask_blend_pd(wins, b, a)
    });

    macro_rules! add_where {
        ($name:ident, $V:ty, $T:ty, $features:literal, |$sum:ident, $x:ident, $winners:ident, $tap:ident| $added:expr) => {
            /// # Safety
            /// As of [`Vector::add_where`].
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn $name($sum: $V, $x: *const $T, $winners: *const u8, $tap: u8) -> $V {
                let $tap = _mm_set1_epi8($tap as i8);
                // SAFETY: the caller's promise.
                unsafe { $added }
            }
        };
    }

    add_where!(add_where_ps, __m256, f32, "avx2", |sum, x, winners, tap| {
        let won = _mm256_cvtepi8_epi32(_mm_cmpeq_epi8(_mm_loadl_epi64(winners.cast()), tap));
        _mm256_add_ps(sum, _mm256_and_ps(_mm256_castsi256_ps(won), _mm256_loadu_ps(x)))
    });
    add_where!(add_where_pd, __m256d, f64, "avx2", |sum, x, winners, tap| {
        let four = _mm_cvtsi32_si128(winners.cast::<i32>().read_unaligned());
        let won = _mm256_cvtepi8_epi64(_mm_cmpeq_epi8(four, tap));
        _mm256_add_pd(sum, _mm256_and_pd(_mm256_castsi256_pd(won), _mm256_loadu_pd(x)))
    });
    add_where!(add_where_wide_ps, __m512, f32, "avx512f,avx512vl,avx512bw", |sum, x, winners, tap| {
        let won = _mm_cmpeq_epi8_mask(_mm_loadu_si128(winners.cast()), tap);
        _mm512_mask_add_ps(sum, won, sum, _mm512_loadu_ps(x))
    });
    add_where!(add_where_wide_pd, __m512d, f64, "avx512f,avx512vl,avx512bw", |sum, x, winners, tap| {
        let won = _mm_cmpeq_epi8_mask(_mm_loadl_epi64(winners.cast()), tap) as u8;
        _mm512_mask_add_pd(sum, won, sum, _mm512_loadu_pd(x))
    });

    /// # Safety
    /// As of [`Vector::widen`].
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn widen_ps(from: *const bf16) -> __m256 {
        // SAFETY: the caller's promise.
        let narrow = _mm256_cvtepu16_epi32(unsafe { _mm_loadu_si128(from.cast()) });
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(narrow))
    }

    /// # Safety
    /// As of [`Vector::widen`].
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn widen_wide_ps(from: *const bf16) -> __m512 {
        // SAFETY: the caller's promise.
        let narrow = _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(from.cast()) });
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(narrow))
    }

    /// # Safety
    /// As of [`Vector::narrow`].
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn narrow_ps(x: __m256, to: *mut bf16) {
        let bits = _mm256_castps_si256(x);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
        // Rounding might carry a NaN's digits out of it: it is cut, and stays a quiet one.
        let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
        let is_nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
        let high = _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, is_nan));
        let packed = _mm256_permute4x64_epi64::<0b00_00_10_00>(_mm256_packus_epi32(high, high));
        // SAFETY: the caller's promise.
        unsafe { _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(packed)) };
    }

    /// # Safety
    /// As of [`Vector::narrow`].
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn narrow_wide_ps(x: __m512, to: *mut bf16) {
        if is_x86_feature_detected!("avx512bf16") {
            let narrow: __m256i;
            // SAFETY: just checked; computes in registers. (A function of that set would not be inlined here.)
            unsafe {
                asm!(
                    "vcvtneps2bf16 {narrow}, {x}",
                    x = in(zmm_reg) x,
                    narrow = lateout(ymm_reg) narrow,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            // SAFETY: the caller's promise.
            return unsafe { _mm256_storeu_si256(to.cast(), narrow) };
        }
        let bits = _mm512_castps_si512(x);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
        let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
        let kept = _mm512_mask_or_epi32(rounded, is_nan, bits, _mm512_set1_epi32(0x40_0000)); // as in `narrow_ps`
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(kept))) };
    }

    vector!(
        __m256,
        f32,
        8,
        _mm256_set1_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_max_ps,
        positive_ps,
        larger_ps,
        add_where_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        widen_ps,
        narrow_ps;
        paired six_rows;
        evenly few_even_rows
    );
    vector!(
        __m256d,
        f64,
        4,
        _mm256_set1_pd,
        _mm256_fmadd_pd,
        _mm256_add_pd,
        _mm256_sub_pd,
        _mm256_max_pd,
        positive_pd,
        larger_pd,
        add_where_pd,
        _mm256_loadu_pd,
        _mm256_storeu_pd
    );
    vector!(
        __m512,
        f32,
        16,
        _mm512_set1_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_max_ps,
        positive_wide_ps,
        larger_wide_ps,
        add_where_wide_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        widen_wide_ps,
        narrow_wide_ps;
        evenly even_rows
    );
    vector!(
        __m512d,
        f64,
        8,
        _mm512_set1_pd,
        _mm512_fmadd_pd,
        _mm512_add_pd,
        _mm512_sub_pd,
        _mm512_max_pd,
        positive_wide_pd,
        larger_wide_pd,
        add_where_wide_pd,
        _mm512_loadu_pd,
        _mm512_storeu_pd
    );
}
