//! Loops that are compiled for every instruction set, and the vectors of each.

mod lanes;
#[cfg(target_arch = "x86_64")]
mod tiles;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m256d, __m512, __m512d};

use super::element::Real;
use lanes::Lanes;

/// Writes a loop once and compiles it for every instruction set: `fn name<T, V, WIDE>(…)` becomes a function generic
/// over `T: Real` whose first argument is the [`Isa`](crate::kernels::Isa). Inside, `V` is the set's vector of `T`, and
/// `WIDE` says that there are 32 registers rather than 16. `fn name<M: Stored, V, WIDE>(…)` is generic over the elements of maps instead, and
/// `V` a vector of `M::Real`; `fn name<M: Stored, N: Stored, V, WIDE>(…)` over two kinds of elements with the same numbers.
macro_rules! vectorized {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$T:ident, $V:ident, $WIDE:ident> $($rest:tt)*) => {
        $crate::kernels::simd::vectorized! {
            @ [$T: $crate::kernels::element::Real] [$T] [$V, $WIDE] $(#[$meta])* $vis fn $name $($rest)*
        }
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$M:ident: Stored, $V:ident, $WIDE:ident> $($rest:tt)*) => {
        $crate::kernels::simd::vectorized! {
            @ [$M: $crate::kernels::element::Stored] [$M::Real] [$V, $WIDE] $(#[$meta])* $vis fn $name $($rest)*
        }
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident<
        $M:ident: Stored, $N:ident: Stored, $V:ident, $WIDE:ident
    > $($rest:tt)*) => {
        $crate::kernels::simd::vectorized! {
            @ [$M: $crate::kernels::element::Stored, $N: $crate::kernels::element::Stored<Real = $M::Real>]
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
                $V: $crate::kernels::element::Vector<Elem = $Real>,
            $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2<$($G: $bound),+>($($arg: $ty),*) $(-> $R)? {
                body::<$($G,)+ <$Real as $crate::kernels::element::Real>::Avx2, false>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512bw,avx512dq")]
            #[allow(clippy::too_many_arguments)]
            fn avx512<$($G: $bound),+>($($arg: $ty),*) $(-> $R)? {
                body::<$($G,)+ <$Real as $crate::kernels::element::Real>::Avx512, true>($($arg),*)
            }

            match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the guard has just seen that the processor has these instructions.
                $crate::kernels::Isa::Avx2 if isa.available() => unsafe { avx2::<$($G),+>($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                $crate::kernels::Isa::Avx512 | $crate::kernels::Isa::Amx if isa.available() => unsafe { avx512::<$($G),+>($($arg),*) },
                _ => body::<$($G,)+ <$Real as $crate::kernels::element::Real>::Portable, false>($($arg),*),
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

/// As [`each_vector!`] of rows of `c` channels, each of which has some constants, repeated: slices that become vectors of the same
/// names. Where a row is one, two or four vectors, and registers are left for that, these are loaded once.
macro_rules! each_vector_of_channels {
    ($V:ident, $WIDE:ident, $len:expr, $c:expr, [$($constant:ident),+], |$at:ident, $left:ident| $body:block) => {{
        let (len, c, mut first) = ($len, $c, 0);
        let (periods, constants) = ([$($constant.len()),+], [$(stringify!($constant)),+].len());
        let period = periods[0];
        assert!(c > 0 && period >= c && period.is_multiple_of(c) && periods.iter().all(|&other| other == period));
        let room = if $WIDE { 16 } else { 8 } / constants;
        match c / $V::LANES {
            _ if !c.is_multiple_of($V::LANES) => (),
            1 if room >= 1 => $crate::kernels::simd::each_vector_of_channels!(@ 1, $V, len, first, [$($constant),+], |$at, $left| $body),
            2 if room >= 2 => $crate::kernels::simd::each_vector_of_channels!(@ 2, $V, len, first, [$($constant),+], |$at, $left| $body),
            4 if room >= 4 => $crate::kernels::simd::each_vector_of_channels!(@ 4, $V, len, first, [$($constant),+], |$at, $left| $body),
            _ => (),
        }
        while first < len {
            $crate::kernels::simd::each_vector!($V, period.min(len - first), |column, $left| {
                let $at = first + column;
                // SAFETY: constants are as many as a period has elements.
                $(let $constant = unsafe { $V::load_first($constant.as_ptr().add(column), $left) };)+
                $body
            });
            first += period;
        }
    }};
    (@ $G:literal, $V:ident, $len:ident, $first:ident, [$($constant:ident),+], |$at:ident, $left:ident| $body:block) => {{
        $(
            let mut row = [$V::splat($crate::kernels::element::Real::ZERO); $G];
            for (g, vector) in row.iter_mut().enumerate() {
                // SAFETY: constants are as many as a row has channels, or more.
                *vector = unsafe { $V::load($constant.as_ptr().add(g * $V::LANES)) };
            }
            let $constant = row;
        )+
        while $first + 8 * $V::LANES <= $len {
            for v in 0..8_usize {
                let ($at, $left) = ($first + v * $V::LANES, $V::LANES);
                $(let $constant = $constant[v & ($G - 1)];)+ // of one, two or four
                $body
            }
            $first += 8 * $V::LANES;
        }
    }};
}
pub(crate) use each_vector_of_channels;

vectorized! {
    /// How many elements are computed at once.
    pub(crate) fn lanes<T, V, WIDE>() -> usize {
        V::LANES
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    type Portable = Lanes<f32>;
    #[cfg(target_arch = "x86_64")]
    type Avx2 = __m256;
    #[cfg(target_arch = "x86_64")]
    type Avx512 = __m512;
    type Narrow = half::bf16;

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn is_nan(self) -> bool {
        self.is_nan()
    }

    #[inline(always)]
    fn to_u8(self) -> u8 {
        (self + 8_388_608.0).to_bits() as u8 // 2²³: the last bits of the sum are the number
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    type Portable = Lanes<f64>;
    #[cfg(target_arch = "x86_64")]
    type Avx2 = __m256d;
    #[cfg(target_arch = "x86_64")]
    type Avx512 = __m512d;
    type Narrow = Self;

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn is_nan(self) -> bool {
        self.is_nan()
    }

    #[inline(always)]
    fn to_u8(self) -> u8 {
        (self + 4_503_599_627_370_496.0).to_bits() as u8 // 2⁵²
    }
}
