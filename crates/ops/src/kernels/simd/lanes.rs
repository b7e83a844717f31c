//! A vector for every processor.

use crate::kernels::element::{Real, Vector};

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
    fn mul(self, b: Self) -> Self {
        let (Self([a0, a1, a2, a3]), Self([b0, b1, b2, b3])) = (self, b);
        Self([a0 * b0, a1 * b1, a2 * b2, a3 * b3])
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
