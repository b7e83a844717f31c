//! Optimizer steps on one weight tensor, as PyTorch defines them.

mod cpu;
#[cfg(any(feature = "cuda", feature = "emulate"))]
mod cuda;
#[cfg(test)]
mod tests;

use candle_core::{Result, Tensor, WithDType as _, bail};

use super::{
    Isa,
    gpu::on_gpu,
    later::Later,
    sum,
    threads::collect,
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
    on_gpu!(w, gpu => {
        let mut moved = cuda::sgd(&gpu, &[(w, g, velocity)], step, None)?;
        Ok(moved.swap_remove(0))
    });
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
    on_gpu!(w, gpu => cuda::adam(&gpu, [w, g, m, v], step));
    let dims = w.dims();
    let (w, g, m, v) = (dense(w)?, dense(g)?, dense(m)?, dense(v)?);
    for_real!(w, T => {
        let (w, g) = (Values::<T>::of(&w)?, Values::of(&g)?);
        let (w, m, v) = cpu::adam(Isa::detect(), &w, &g, &Values::of(&m)?, &Values::of(&v)?, step);
        Ok((tensor(w, dims)?, tensor(m, dims)?, tensor(v, dims)?))
    })
}

/// What [`sgd_of_many`] made.
#[derive(Debug)]
pub struct Moved {
    norm_squared: Later,
    /// `(w', v')` of every tensor; none where the host knows that the norm is not finite.
    pub moved: Vec<(Tensor, Tensor)>,
}

impl Moved {
    /// What [`Later::settle`] makes known, so that the other numbers of a step come with it.
    pub fn number(&mut self) -> &mut Later {
        &mut self.norm_squared
    }

    /// `Σ gᵢ²` over all gradients, before clipping. Waits for the device, unless it is settled.
    ///
    /// # Errors
    /// The device fails.
    pub fn norm_squared(&self) -> Result<f64> {
        self.norm_squared.get()
    }
}

/// [`sgd`] of every `(w, g, velocity)`, their gradients shortened together to a norm of at most `clip`:
/// `grad_scale = min(1, clip / (‖g‖ + 1e-6))`, as in PyTorch. Does not wait for the device.
///
/// # Errors
/// Shapes or types do not fit.
pub fn sgd_of_many(
    tensors: &[(&Tensor, &Tensor, Option<&Tensor>)],
    step: SgdStep,
    clip: Option<f64>,
) -> Result<Moved> {
    for (w, g, v) in tensors {
        same_shape(w, g)?;
        v.map_or(Ok(()), |v| same_shape(w, v))?;
    }
    if let Some((_first, ..)) = tensors.first() {
        on_gpu!(_first, gpu => {
            let gradients: Vec<&Tensor> = tensors.iter().map(|(_, g, _)| *g).collect();
            let squares = cuda::norm_squared(&gpu, &gradients)?;
            let moved = cuda::sgd(&gpu, tensors, step, clip.map(|clip| (&squares, clip)))?;
            Ok(Moved { norm_squared: Later::OnDevice(squares), moved })
        });
    }
    let sizes: Vec<_> = tensors.iter().map(|(w, ..)| w.elem_count()).collect();
    let squares = of_each(&sizes, |i| norm_squared(tensors[i].1));
    let squares =
        squares.into_iter().try_fold(0.0, |sum, square| Ok::<_, candle_core::Error>(sum + square?))?;
    let norm_squared = Later::Known(squares);
    if !squares.is_finite() {
        return Ok(Moved { norm_squared, moved: Vec::new() });
    }
    let grad_scale = clip.map_or(step.grad_scale, |clip| (clip / (squares.sqrt() + 1e-6)).min(1.0));
    let step = SgdStep { grad_scale, ..step };
    let moved = of_each(&sizes, |i| {
        let (w, g, v) = tensors[i];
        sgd(w, g, v, step)
    });
    Ok(Moved { norm_squared, moved: moved.into_iter().collect::<Result<_>>()? })
}

/// Elements beyond which a tensor is shared by all threads.
const LARGE: usize = 1 << 17;

/// Results for tensors of these sizes, in order: for large ones one after the other, whose loops have pieces for all threads,
/// then for the others beside each other.
fn of_each<R: Send>(sizes: &[usize], each: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
    let mut large: Vec<_> =
        sizes.iter().enumerate().map(|(i, &size)| (size > LARGE).then(|| each(i))).collect();
    let small: Vec<_> = (0..sizes.len()).filter(|&i| sizes[i] <= LARGE).collect();
    let work = small.iter().map(|&i| sizes[i]).sum();
    let found = collect(small.len(), work, |j| each(small[j]));
    small.iter().zip(found).for_each(|(&i, found)| large[i] = Some(found));
    large.into_iter().flatten().collect()
}

/// `(1 − m)·old + m·new` of every `(old, new, m)`.
///
/// # Errors
/// Shapes or types do not fit.
pub fn blend(tensors: &[(&Tensor, &Tensor, f64)]) -> Result<Vec<Tensor>> {
    for (old, new, _) in tensors {
        same_shape(old, new)?;
    }
    if let Some((_first, ..)) = tensors.first() {
        on_gpu!(_first, gpu => cuda::blend(&gpu, tensors));
    }
    tensors.iter().map(|&(old, new, m)| blend_one(&dense(old)?, &dense(new)?, m)).collect()
}

fn blend_one(old: &Tensor, new: &Tensor, m: f64) -> Result<Tensor> {
    for_real!(old, T => {
        let (kept, taken) = (T::from_f64(1.0 - m), T::from_f64(m));
        let (values, news) = (Values::<T>::of(old)?, Values::<T>::of(new)?);
        tensor(values.iter().zip(&*news).map(|(&old, &new)| kept * old + taken * new).collect(), old.dims())
    })
}

/// `Σ gᵢ²` over all tensors, accumulated in `f64`. Waits for the device, once.
///
/// # Errors
/// As [`norm_squared`].
pub fn norm_squared_of_many(tensors: &[&Tensor]) -> Result<f64> {
    if let Some(_first) = tensors.first() {
        on_gpu!(_first, gpu => Later::OnDevice(cuda::norm_squared(&gpu, tensors)?).get());
    }
    tensors.iter().try_fold(0.0, |sum, g| Ok(sum + norm_squared(g)?))
}

/// `Σ gᵢ²`, accumulated in `f64`.
///
/// # Errors
/// The elements are neither `f32` nor `f64`, or not on the CPU.
pub fn norm_squared(g: &Tensor) -> Result<f64> {
    sum::dot(g, g)
}
