//! Vectors of a few numbers, and which instructions compute with them.

use super::values::Real;

/// An instruction set. Results are the same bytes for the same set, and agree to rounding between sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// What the build's target has; the specification of the others.
    Portable,
    /// x86-64 with AVX2 and fused multiply-add.
    Avx2,
    /// x86-64 with AVX-512 F, VL, BW and DQ.
    Avx512,
}

impl Isa {
    /// The widest set of this processor.
    #[must_use]
    pub fn detect() -> Self {
        Self::all().into_iter().rev().find(|isa| isa.available()).unwrap_or(Self::Portable)
    }

    /// All sets, narrow to wide.
    #[must_use]
    pub fn all() -> [Self; 3] {
        [Self::Portable, Self::Avx2, Self::Avx512]
    }

    /// Whether this processor has the set.
    #[must_use]
    pub fn available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }
}

/// Writes a loop once and compiles it for every instruction set: `fn name<T, V, WIDE>(…)` becomes a function generic
/// over `T: Real` whose first argument is the [`Isa`]. Inside, `V` is the set's vector of `T`, and `WIDE` says that
/// there are 32 registers rather than 16.
macro_rules! vectorized {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$T:ident, $V:ident, $WIDE:ident>(
        $($arg:ident: $ty:ty),* $(,)?
    ) $(-> $R:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name<$T: $crate::kernels::values::Real>(isa: $crate::kernels::Isa, $($arg: $ty),*) $(-> $R)? {
            // Inlined always, for only then is it compiled with the instructions of its caller.
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body<$T, $V, const $WIDE: bool>($($arg: $ty),*) $(-> $R)?
            where
                $T: $crate::kernels::values::Real,
                $V: $crate::kernels::simd::Vector<Elem = $T>,
            $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2<$T: $crate::kernels::values::Real>($($arg: $ty),*) $(-> $R)? {
                body::<$T, $T::Avx2, false>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512bw,avx512dq")]
            #[allow(clippy::too_many_arguments)]
            fn avx512<$T: $crate::kernels::values::Real>($($arg: $ty),*) $(-> $R)? {
                body::<$T, $T::Avx512, true>($($arg),*)
            }

            match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the guard has just seen that the processor has these instructions.
                $crate::kernels::Isa::Avx2 if isa.available() => unsafe { avx2::<$T>($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                $crate::kernels::Isa::Avx512 if isa.available() => unsafe { avx512::<$T>($($arg),*) },
                _ => body::<$T, $T::Portable, false>($($arg),*),
            }
        }
    };
}
pub(crate) use vectorized;

/// The most lanes that a [`Vector`] has.
pub(crate) const MAX_LANES: usize = 16;

vectorized! {
    /// How many elements are computed at once.
    pub(crate) fn lanes<T, V, WIDE>() -> usize {
        V::LANES
    }
}

/// A few numbers in one register. Only for use inside `vectorized!`, where the processor is known to have it.
pub(crate) trait Vector: Copy {
    type Elem: Real;
    const LANES: usize;

    fn splat(x: Self::Elem) -> Self;

    /// `self·b + c`, with one rounding where there is an instruction for it.
    fn mul_add(self, b: Self, c: Self) -> Self;

    /// # Safety
    /// `LANES` elements from `from` on are readable.
    unsafe fn load(from: *const Self::Elem) -> Self;

    /// # Safety
    /// `LANES` elements from `to` on are writable.
    unsafe fn store(self, to: *mut Self::Elem);
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
    use std::arch::x86_64::*;

    use super::Vector;

    macro_rules! vector {
        ($V:ty, $T:ty, $lanes:literal, $splat:ident, $mul_add:ident, $load:ident, $store:ident) => {
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
                unsafe fn load(from: *const $T) -> Self {
                    // SAFETY: as in `splat`, and the caller's promise.
                    unsafe { $load(from) }
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut $T) {
                    // SAFETY: as in `load`.
                    unsafe { $store(to, self) }
                }
            }
        };
    }

    vector!(__m256, f32, 8, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_storeu_ps);
    vector!(__m256d, f64, 4, _mm256_set1_pd, _mm256_fmadd_pd, _mm256_loadu_pd, _mm256_storeu_pd);
    vector!(__m512, f32, 16, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_storeu_ps);
    vector!(__m512d, f64, 8, _mm512_set1_pd, _mm512_fmadd_pd, _mm512_loadu_pd, _mm512_storeu_pd);
}
