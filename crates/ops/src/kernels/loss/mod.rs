//! Cross-entropy of a batch of logits, with its gradient.

mod cpu;
#[cfg(any(feature = "cuda", feature = "emulate"))]
mod cuda;
#[cfg(test)]
mod tests;

use candle_core::{Result, Tensor, bail};

use super::{
    gpu::on_gpu,
    later::Later,
    values::{Values, dense, for_real, tensor},
};

/// What a batch says of its logits.
#[derive(Clone, Debug)]
pub struct LossHead {
    /// Mean cross-entropy over the batch, in nats.
    pub loss: f64,
    /// How many samples have their largest logit (the first, on ties) at their label.
    pub correct: usize,
    /// `∂ loss / ∂ logits` `(N, O)`.
    pub grad: Tensor,
}

/// A [`LossHead`] of which a device may still be computing the numbers.
#[derive(Debug)]
pub struct PendingLoss {
    loss: Later,
    correct: Later,
    /// `∂ loss / ∂ logits` `(N, O)`.
    pub grad: Tensor,
}

impl PendingLoss {
    /// What [`Later::settle`] makes known, so that the other numbers of a step come with them.
    pub fn numbers(&mut self) -> [&mut Later; 2] {
        [&mut self.loss, &mut self.correct]
    }

    /// Loss and number of right samples; waits for the device, unless they are settled.
    ///
    /// # Errors
    /// The device fails.
    pub fn get(&self) -> Result<(f64, usize)> {
        Ok((self.loss.get()?, self.correct.get()? as usize))
    }
}

/// Mean cross-entropy of `logits` `(N, O)` against labels in `0..O`, smoothed as in Szegedy et al. (2016), §7:
///
/// ```text
/// loss = −1/N · Σ_n Σ_o t[n, o] · log_softmax(logits)[n, o],   t = (1 − s) · one_hot(label) + s / O
/// ```
///
/// # Errors
/// The shapes do not fit, or a label is `O` or above.
pub fn cross_entropy(logits: &Tensor, labels: &[u32], smoothing: f64) -> Result<LossHead> {
    let mut pending = cross_entropy_later(logits, labels, smoothing)?;
    Later::settle(pending.numbers())?;
    let (loss, correct) = pending.get()?;
    Ok(LossHead { loss, correct, grad: pending.grad })
}

/// [`cross_entropy`] without waiting for the device.
///
/// # Errors
/// As [`cross_entropy`].
pub fn cross_entropy_later(logits: &Tensor, labels: &[u32], smoothing: f64) -> Result<PendingLoss> {
    let (n, classes) = logits.dims2()?;
    if n != labels.len() || n == 0 || classes == 0 {
        bail!("logits of shape [{n}, {classes}] with {} labels; expected one label per row", labels.len());
    }
    if let Some(label) = labels.iter().find(|&&label| label as usize >= classes) {
        bail!("found label {label}, expected one below {classes}");
    }
    on_gpu!(logits, gpu => {
        let (loss, correct, grad) = cuda::cross_entropy(&gpu, logits, labels, smoothing)?;
        Ok(PendingLoss { loss: Later::OnDevice(loss), correct: Later::OnDevice(correct), grad })
    });
    let logits = dense(logits)?;
    for_real!(logits, T => {
        let (loss, correct, grad) = cpu::cross_entropy::<T>(&Values::of(&logits)?, labels, smoothing, classes);
        let (loss, correct) = (Later::Known(loss), Later::Known(correct as f64));
        Ok(PendingLoss { loss, correct, grad: tensor(grad, &[n, classes])? })
    })
}
