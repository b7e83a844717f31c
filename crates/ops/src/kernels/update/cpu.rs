//! Optimizer steps on slices. Adam's tensors, logits, are small: one thread does for each.

use std::borrow::Cow;

use super::{AdamStep, SgdStep};
use crate::kernels::{
    Isa,
    element::Real,
    simd::vectorized,
    threads::{overwrite_pair_and_collect, piece, piece_of},
};

pub(super) fn sgd<T: Real>(isa: Isa, w: &[T], g: &[T], v: Option<&[T]>, step: SgdStep) -> (Vec<T>, Vec<T>) {
    // At first the velocity is the gradient, as if it had been 0.
    let v = v.map_or_else(|| Cow::Owned(vec![T::ZERO; g.len()]), Cow::Borrowed);
    let len = piece_of(w.len());
    let (w, v, _) = overwrite_pair_and_collect(w.len(), len, w.len(), |i, new_w, new_v| {
        let [w, g, v] = [w, g, &v].map(|all| piece(all, i, len));
        descend(isa, w, g, v, new_w, new_v, step);
    });
    (w, v)
}

pub(super) fn adam<T: Real>(
    isa: Isa,
    w: &[T],
    g: &[T],
    m: &[T],
    v: &[T],
    step: AdamStep,
) -> (Vec<T>, Vec<T>, Vec<T>) {
    let (mut w, mut m, mut v) = (w.to_vec(), m.to_vec(), v.to_vec());
    adapt(isa, &mut w, g, &mut m, &mut v, step);
    (w, m, v)
}

vectorized! {
    fn descend<T, V, WIDE>(
        w: &[T], g: &[T], v: &[T], new_w: &mut [T], new_v: &mut [T], step: SgdStep
    ) -> () {
        let [lr, momentum, decay, scale] =
            [step.lr, step.momentum, step.weight_decay, step.grad_scale].map(T::from_f64);
        let ahead = if step.nesterov { momentum } else { T::ONE };
        let now = if step.nesterov { T::ONE } else { T::ZERO };
        for ((((&w, &g), &v), new_w), new_v) in w.iter().zip(g).zip(v).zip(new_w).zip(new_v) {
            let g = scale * g + decay * w;
            let v = momentum * v + g;
            *new_w = w - lr * (now * g + ahead * v);
            *new_v = v;
        }
    }
}

vectorized! {
    fn adapt<T, V, WIDE>(w: &mut [T], g: &[T], m: &mut [T], v: &mut [T], step: AdamStep) -> () {
        let t = step.step as f64;
        let [beta1, beta2, decay, eps] = [step.beta1, step.beta2, step.weight_decay, step.eps].map(T::from_f64);
        let [rest1, rest2] = [1.0 - step.beta1, 1.0 - step.beta2].map(T::from_f64);
        let rate = T::from_f64(step.lr / (1.0 - step.beta1.powf(t)));
        let root = T::from_f64((1.0 - step.beta2.powf(t)).sqrt());
        for (((w, &g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
            let g = g + decay * *w;
            *m = beta1 * *m + rest1 * g;
            *v = beta2 * *v + rest2 * g * g;
            *w -= rate * *m / (v.sqrt() / root + eps);
        }
    }
}
