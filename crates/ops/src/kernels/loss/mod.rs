//! Cross-entropy of a batch of logits, with its gradient.

mod cpu;
#[cfg(test)]
mod tests;

use candle_core::{Result, Tensor, bail};

use super::values::{Values, dense, for_real, tensor};

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

/// Mean cross-entropy of `logits` `(N, O)` against labels in `0..O`, smoothed as in Szegedy et al. (2016), §7:
///
/// ```text
/// loss = −1/N · Σ_n Σ_o t[n, o] · log_softmax(logits)[n, o],   t = (1 − s) · one_hot(label) + s / O
/// ```
///
/// # Errors
/// The shapes do not fit, or a label is `O` or above.
pub fn cross_entropy(logits: &Tensor, labels: &[u32], smoothing: f64) -> Result<LossHead> {
    let (n, classes) = logits.dims2()?;
    if n != labels.len() || n == 0 || classes == 0 {
        bail!("logits of shape [{n}, {classes}] with {} labels; expected one label per row", labels.len());
    }
    if let Some(label) = labels.iter().find(|&&label| label as usize >= classes) {
        bail!("found label {label}, expected one below {classes}");
    }
    let logits = dense(logits)?;
    for_real!(logits, T => {
        let (loss, correct, grad) = cpu::cross_entropy::<T>(&Values::of(&logits)?, labels, smoothing, classes);
        Ok(LossHead { loss, correct, grad: tensor(grad, &[n, classes])? })
    })
}
