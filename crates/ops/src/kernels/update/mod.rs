//! Optimizer steps on one weight tensor, as PyTorch defines them.

mod cpu;
#[cfg(test)]
mod tests;

use candle_core::{Result, Tensor, bail};

use super::{
    Isa, sum,
    values::{Values, dense, for_real, same_shape, tensor},
};

/// Settings of a step of stochastic gradient descent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdStep {
    /// Learning rate.
    pub lr: f64,
    /// Weight of the old velocity.
    pub momentum: f64,
    /// Whether the step looks ahead along the velocity.
    pub nesterov: bool,
    /// Factor of `w` in the gradient.
    pub weight_decay: f64,
    /// Factor of the gradient before all else, as from clipping a norm.
    pub grad_scale: f64,
}

/// Settings of a step of Adam.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the gradient's mean.
    pub beta1: f64,
    /// Decay of the squared gradient's mean.
    pub beta2: f64,
    /// Added to the root of the squared gradient's mean.
    pub eps: f64,
    /// Factor of `w` in the gradient (L2, not decoupled).
    pub weight_decay: f64,
    /// Number of this step, from 1.
    pub step: u64,
}

/// `(w', v')` after a step of stochastic gradient descent; without a velocity, the first.
///
/// ```text
/// g = grad_scale·g + weight_decay·w
/// v' = momentum·v + g                          at first g
/// w' = w − lr·(nesterov ? g + momentum·v' : v')
/// ```
///
/// # Errors
/// Shapes or types do not fit.
pub fn sgd(w: &Tensor, g: &Tensor, velocity: Option<&Tensor>, step: SgdStep) -> Result<(Tensor, Tensor)> {
    same_shape(w, g)?;
    if let Some(v) = velocity {
        same_shape(w, v)?;
    }
    let dims = w.dims();
    let (w, g, v) = (dense(w)?, dense(g)?, velocity.map(dense).transpose()?);
    for_real!(w, T => {
        let (w, g) = (Values::<T>::of(&w)?, Values::of(&g)?);
        let v = v.as_ref().map(Values::of).transpose()?;
        let (w, v) = cpu::sgd(Isa::detect(), &w, &g, v.as_deref(), step);
        Ok((tensor(w, dims)?, tensor(v, dims)?))
    })
}

/// `(w', m', v')` after a step of Adam (Kingma & Ba, 2015), with L2 decay in the gradient:
///
/// ```text
/// g = g + weight_decay·w
/// m' = β₁·m + (1 − β₁)·g,   v' = β₂·v + (1 − β₂)·g²
/// w' = w − lr · m'/(1 − β₁ᵗ) / (√(v'/(1 − β₂ᵗ)) + ε)
/// ```
///
/// # Errors
/// Shapes or types do not fit, or the step's number is 0.
pub fn adam(
    w: &Tensor,
    g: &Tensor,
    m: &Tensor,
    v: &Tensor,
    step: AdamStep,
) -> Result<(Tensor, Tensor, Tensor)> {
    if step.step == 0 {
        bail!("found step 0 of Adam; steps count from 1");
    }
    for other in [g, m, v] {
        same_shape(w, other)?;
    }
    let dims = w.dims();
    let (w, g, m, v) = (dense(w)?, dense(g)?, dense(m)?, dense(v)?);
    for_real!(w, T => {
        let (w, g) = (Values::<T>::of(&w)?, Values::of(&g)?);
        let (w, m, v) = cpu::adam(Isa::detect(), &w, &g, &Values::of(&m)?, &Values::of(&v)?, step);
        Ok((tensor(w, dims)?, tensor(m, dims)?, tensor(v, dims)?))
    })
}

/// `Σ gᵢ²`, accumulated in `f64`.
///
/// # Errors
/// The elements are neither `f32` nor `f64`, or not on the CPU.
pub fn norm_squared(g: &Tensor) -> Result<f64> {
    sum::dot(g, g)
}
