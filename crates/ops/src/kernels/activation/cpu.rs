//! Functions of single elements, on slices.

use candle_core::WithDType as _;

use crate::kernels::{
    element::Real as _,
    simd::{each_vector, vectorized},
};

vectorized! {
    pub(in crate::kernels) fn relu<M: Stored, N: Stored, V, WIDE>(x: &[M], y: &mut [N]) -> () {
        assert!(x.len() == y.len());
        each_vector!(V, x.len(), |at, left| {
            // SAFETY: that many elements are left of both.
            unsafe { N::store_first(M::load_first::<V>(x.as_ptr().add(at), left).relu(), y.as_mut_ptr().add(at), left) };
        });
    }
}

vectorized! {
    pub(super) fn relu6<M: Stored, V, WIDE>(x: &[M], y: &mut [M::Real]) -> () {
        let six = M::Real::from_f64(6.0);
        for (y, &x) in y.iter_mut().zip(x) {
            let x = x.real().relu();
            *y = if x > six { six } else { x };
        }
    }
}

vectorized! {
    /// `gx = gy` where `0 < x < below`, else 0.
    pub(super) fn mask<M: Stored, V, WIDE>(x: &[M], gy: &[M], below: f64, gx: &mut [M::Real]) -> () {
        let (zero, below) = (M::Real::ZERO, M::Real::from_f64(below));
        for ((gx, &gy), &x) in gx.iter_mut().zip(gy).zip(x) {
            let x = x.real();
            *gx = if x > zero && x < below { gy.real() } else { zero };
        }
    }
}

vectorized! {
    /// Clears a gradient where the ReLU's input was not positive.
    pub(in crate::kernels) fn relu_mask<M: Stored, N: Stored, V, WIDE>(x: &[M], gx: &mut [N]) -> () {
        assert!(x.len() == gx.len());
        each_vector!(V, x.len(), |at, left| {
            // SAFETY: that many elements are left of both.
            unsafe {
                let gx = gx.as_mut_ptr().add(at);
                let kept = N::load_first::<V>(gx, left).where_positive(M::load_first(x.as_ptr().add(at), left));
                N::store_first(kept, gx, left);
            }
        });
    }
}
