//! Vectors of AVX2 and of AVX-512.

use std::arch::{asm, x86_64::*};

use half::bf16;

use super::tiles::{even_rows, few_even_rows, six_rows};
use crate::kernels::{
    element::{PAIRED, Vector},
    panels::{Panels, Run},
};

macro_rules! vector {
    ($V:ty, $T:ty, $lanes:literal, $splat:ident, $mul_add:ident, $add:ident, $sub:ident, $mul:ident, $max:ident, $positive:ident, $larger:ident, $add_where:ident, $load:ident, $store:ident $(, $widen:ident, $narrow:ident)? $(; paired $paired:ident)? $(; evenly $evenly:ident)?) => {
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
            fn mul(self, b: Self) -> Self {
                // SAFETY: as in `splat`.
                unsafe { $mul(self, b) }
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
    _mm256_mul_ps,
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
    _mm256_mul_pd,
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
    _mm512_mul_ps,
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
    _mm512_mul_pd,
    _mm512_max_pd,
    positive_wide_pd,
    larger_wide_pd,
    add_where_wide_pd,
    _mm512_loadu_pd,
    _mm512_storeu_pd
);
