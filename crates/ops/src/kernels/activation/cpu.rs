//! Functions of single elements, on slices.

use crate::kernels::simd::vectorized;

/// Elements of a choice made at once.
const BLOCK: usize = 64;

vectorized! {
    pub(super) fn relu<T, V, WIDE>(x: &[T], y: &mut [T]) -> () {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x.relu();
        }
    }
}

vectorized! {
    pub(super) fn relu6<T, V, WIDE>(x: &[T], y: &mut [T]) -> () {
        let six = T::from_f64(6.0);
        for (y, &x) in y.iter_mut().zip(x) {
            let x = x.relu();
            *y = if x > six { six } else { x };
        }
    }
}

vectorized! {
    /// `gx = gy` where `0 < x < below`, else 0.
    pub(super) fn mask<T, V, WIDE>(x: &[T], gy: &[T], below: f64, gx: &mut [T]) -> () {
        let below = T::from_f64(below);
        for ((gx, &gy), &x) in gx.iter_mut().zip(gy).zip(x) {
            *gx = if x > T::ZERO && x < below { gy } else { T::ZERO };
        }
    }
}

vectorized! {
    /// Clears a gradient where the ReLU's input was not positive.
    pub(in crate::kernels) fn relu_mask<T, V, WIDE>(x: &[T], gx: &mut [T]) -> () {
        // By way of a block: LLVM would make the choice a masked store, which is slow on some processors.
        for (gx, x) in gx.chunks_mut(BLOCK).zip(x.chunks(BLOCK)) {
            let mut kept = [T::ZERO; BLOCK];
            for ((kept, &gx), &x) in kept.iter_mut().zip(&*gx).zip(x) {
                *kept = if x > T::ZERO { gx } else { T::ZERO };
            }
            gx.copy_from_slice(&kept[..x.len()]);
        }
    }
}
