//! The loops of the roofline.

use crate::kernels::{
    Isa,
    element::MAX_LANES,
    simd::{lanes, vectorized},
};

/// Independent chains: at least latency times throughput of a fused multiply-add, and no more than fit 16 registers.
const CHAINS: usize = 12;

/// Multiply-adds of one round.
pub(super) fn per_round(isa: Isa) -> usize {
    CHAINS * lanes::<f32>(isa)
}

vectorized! {
    /// Every chain is `x ← x·a + b`, which converges; the sum of them all.
    pub(super) fn chains<T, V, WIDE>(rounds: usize) -> T {
        let (a, b) = std::hint::black_box((T::from_f64(0.5), T::from_f64(0.25)));
        let (a, b) = (V::splat(a), V::splat(b));
        let mut sums = [V::splat(T::ONE); CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = sum.mul_add(a, b);
            }
        }
        let mut all = [T::ZERO; CHAINS * MAX_LANES];
        for (sum, to) in sums.into_iter().zip(all.chunks_exact_mut(MAX_LANES)) {
            // SAFETY: a chunk holds the most lanes that a vector has.
            unsafe { sum.store(to.as_mut_ptr()) };
        }
        all.into_iter().fold(T::ZERO, |sum, x| sum + x)
    }
}

vectorized! {
    pub(super) fn triad<T, V, WIDE>(a: &mut [T], b: &[T], s: T, c: &[T]) -> () {
        for ((a, &b), &c) in a.iter_mut().zip(b).zip(c) {
            *a = b + s * c;
        }
    }
}
