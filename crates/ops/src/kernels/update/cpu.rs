//! Optimizer steps on slices; tensors of weights are small, so one thread does for each.

use super::{AdamStep, SgdStep};
use crate::kernels::{Isa, element::Real, simd::vectorized};

pub(super) fn sgd<T: Real>(isa: Isa, w: &[T], g: &[T], v: Option<&[T]>, step: SgdStep) -> (Vec<T>, Vec<T>) {
    // At first the velocity is the gradient, as if it had been 0.
    let (mut w, mut v) = (w.to_vec(), v.map_or_else(|| vec![T::ZERO; g.len()], <[T]>::to_vec));
    descend(isa, &mut w, g, &mut v, step);
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
    fn descend<T, V, WIDE>(w: &mut [T], g: &[T], v: &mut [T], step: SgdStep) -> () {
        let [lr, momentum, decay, scale] =
            [step.lr, step.momentum, step.weight_decay, step.grad_scale].map(T::from_f64);
        let ahead = if step.nesterov { momentum } else { T::ONE };
        let now = if step.nesterov { T::ONE } else { T::ZERO };
        for ((w, &g), v) in w.iter_mut().zip(g).zip(v) {
            let g = scale * g + decay * *w;
            *v = momentum * *v + g;
            *w -= lr * (now * g + ahead * *v);
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
