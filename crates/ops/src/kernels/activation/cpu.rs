//! Functions of single elements, on slices.

use crate::kernels::simd::{each_vector, vectorized};

vectorized! {
    pub(in crate::kernels) fn relu<T, V, WIDE>(x: &[T], y: &mut [T]) -> () {
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
        assert!(x.len() == gx.len());
        each_vector!(V, x.len(), |at, left| {
            // SAFETY: that many elements are left of both.
            unsafe {
                let gx = gx.as_mut_ptr().add(at);
                V::load_first(gx, left).where_positive(V::load_first(x.as_ptr().add(at), left)).store_first(gx, left);
            }
        });
    }
}
