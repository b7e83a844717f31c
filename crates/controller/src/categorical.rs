//! A row of logits read as a distribution over candidates: `π = softmax(α)`.
//!
//! All three functions work row by row on `(E, K)`, subtract each row's maximum first, and stay finite, forward and
//! backward, for every finite input. The maximum is a constant to the gradient: a shift of a row changes no output.
//! They compute in `f64` and round to the logits' type last: the gradients are differences of nearly equal numbers.

use candle_core::{DType, Result, Tensor};

/// Computes `π = softmax(α)` of every row of `(E, K)`.
///
/// # Errors
/// candle's, when `logits` is no matrix of floats.
pub fn softmax(logits: &Tensor) -> Result<Tensor> {
    let powers = centered(logits)?.exp()?; // (E, K), at most 1
    powers.broadcast_div(&powers.sum_keepdim(1)?)?.to_dtype(logits.dtype())
}

/// Computes `ln π` of every row of `(E, K)`; finite where `π` itself underflows to 0.
///
/// # Errors
/// candle's, when `logits` is no matrix of floats.
pub fn log_softmax(logits: &Tensor) -> Result<Tensor> {
    let centered = centered(logits)?; // (E, K)
    let log_sum = centered.exp()?.sum_keepdim(1)?.log()?; // (E, 1), in [0, ln K]
    centered.broadcast_sub(&log_sum)?.to_dtype(logits.dtype())
}

/// Computes the entropy `H = −Σ π ln π` of every row, in nats, in [0, ln K]: `(E, K)` becomes `(E,)`.
///
/// # Errors
/// candle's, when `logits` is no matrix of floats.
pub fn entropy(logits: &Tensor) -> Result<Tensor> {
    let exact = logits.to_dtype(DType::F64)?;
    (softmax(&exact)? * log_softmax(&exact)?)?.sum(1)?.neg()?.to_dtype(logits.dtype())
}

/// Subtracts each row's maximum, held constant; `f64`.
pub(crate) fn centered(logits: &Tensor) -> Result<Tensor> {
    let logits = logits.to_dtype(DType::F64)?;
    logits.broadcast_sub(&logits.detach().max_keepdim(1)?)
}
