//! ReinMax: straight-through of second order.

use candle_core::{DType, Result, Tensor};
use rand_chacha::ChaCha8Rng;

use super::sample::{differential, draw, one_hot};
use crate::{Demand, Estimator, Gates, categorical};

/// ReinMax: a hard sample forward, Heun's rule between the choices backward.
///
/// ```text
/// D    ~ π = softmax(α)                    hard sample
/// p    = (D + softmax(α/τ))/2
/// gate = D in value,   ∂gate/∂α = 2·(diag(p) − p pᵀ) − ½·(diag(π) − π πᵀ)
/// ```
///
/// Straight-through is Euler's rule for the difference `L(i) − L(j)` of two choices; this is the trapezoid's, exact for
/// losses that are at most quadratic, at `τ = 1`. It prefers `τ ≥ 1`: a colder one makes `p` one-hot and leaves
/// nothing but the second term. `τ` weighs the average and is no parameter: `∂L/∂τ` is 0.
///
/// All outputs and one backward ([`Demand::Outputs`]).
///
/// # References
/// - Liu, Dong, Liu, Yu & Gao, *Bridging Discrete and Backpropagation: Straight-Through and Beyond*, 2023, Algorithm 2,
///   <https://arxiv.org/abs/2304.08612>
#[derive(Clone, Copy, Debug, Default)]
pub struct ReinMax;

impl Estimator for ReinMax {
    fn demand(&self) -> Demand {
        Demand::Outputs
    }

    fn relax(&self, logits: &Tensor, tau: &Tensor, rng: &mut ChaCha8Rng) -> Result<Gates> {
        let chosen = draw(logits, rng)?;
        let centered = categorical::centered(logits)?; // (E, K), f64
        let tempered = centered.broadcast_div(&tau.to_dtype(DType::F64)?)?;
        let hard = one_hot(&chosen, logits.dim(1)?, logits.device())?;
        let between = ((&hard + categorical::softmax(&tempered.detach())?)? / 2.0)?;
        let step = differential(&centered)?;
        let second = (jacobian(&between, &step)? * 2.0)?;
        let first = (jacobian(&categorical::softmax(&centered.detach())?, &step)? * 0.5)?;
        Ok(Gates::single(((hard + second)? - first)?.to_dtype(logits.dtype())?, chosen))
    }
}

/// `(diag(q) − q qᵀ)·v` of every row: the derivative of softmax at the constant `q`, along `v`.
fn jacobian(q: &Tensor, v: &Tensor) -> Result<Tensor> {
    let weighted = (q * v)?; // (E, K)
    &weighted - q.broadcast_mul(&weighted.sum_keepdim(1)?)?
}
