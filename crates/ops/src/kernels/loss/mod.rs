//! Cross-entropy of a batch of logits, with its gradient.

mod cpu;
#[cfg(any(feature = "cuda", feature = "emulate"))]
mod cuda;
#[cfg(test)]
mod tests;

use candle_core::{Result, Tensor, bail};

use super::{
    gpu::on_gpu,
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
    figures: Figures,
    /// `∂ loss / ∂ logits` `(N, O)`.
    pub grad: Tensor,
}

#[derive(Debug)]
enum Figures {
    Known(f64, usize),
    /// `(N, 2)`: each sample's loss, and 1 where it is right.
    #[cfg(any(feature = "cuda", feature = "emulate"))]
    OnDevice(Tensor),
}

impl PendingLoss {
    /// The loss, where the host knows it.
    #[must_use]
    pub fn known(&self) -> Option<f64> {
        match self.figures {
            Figures::Known(loss, _) => Some(loss),
            #[cfg(any(feature = "cuda", feature = "emulate"))]
            Figures::OnDevice(_) => None,
        }
    }

    /// Loss and number of right samples; waits for the device.
    ///
    /// # Errors
    /// The device fails.
    pub fn wait(&self) -> Result<(f64, usize)> {
        match &self.figures {
            Figures::Known(loss, correct) => Ok((*loss, *correct)),
            #[cfg(any(feature = "cuda", feature = "emulate"))]
            Figures::OnDevice(samples) => {
                super::gpu::send()?;
                let samples = samples.to_vec2::<f64>()?;
                let loss = samples.iter().map(|sample| sample[0]).sum::<f64>() / samples.len() as f64;
                Ok((loss, samples.iter().filter(|sample| sample[1] == 1.0).count()))
            }
        }
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
    let pending = cross_entropy_later(logits, labels, smoothing)?;
    let (loss, correct) = pending.wait()?;
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
        let (losses, grad) = cuda::cross_entropy(&gpu, logits, labels, smoothing)?;
        Ok(PendingLoss { figures: Figures::OnDevice(losses), grad })
    });
    let logits = dense(logits)?;
    for_real!(logits, T => {
        let (loss, correct, grad) = cpu::cross_entropy::<T>(&Values::of(&logits)?, labels, smoothing, classes);
        Ok(PendingLoss { figures: Figures::Known(loss, correct), grad: tensor(grad, &[n, classes])? })
    })
}
