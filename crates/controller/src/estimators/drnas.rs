//! DrNAS: a distribution over mixtures.

use candle_core::{DType, Result, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Gamma};
use statrs::function::gamma::digamma;

use super::sample::differential;
use crate::{Demand, Estimator, Gates, categorical, gates::to_finite_host, gates::to_host, noise::uniform};

/// DrNAS: every candidate runs, weighted by a draw from a Dirichlet distribution whose concentrations are learned.
///
/// ```text
/// c    = elu(α) + 1                        concentrations, at least 1e-3
/// G_k  ~ Gamma(c_k, 1)
/// gate = w = G/ΣG                          so w ~ Dirichlet(c), E[w] = c/Σc
///
/// ∂G/∂c = −(∂F(G; c)/∂c)/p(G; c)           F the distribution function, p the density of Gamma(c, 1)
/// ```
///
/// `K` forwards and `K` backwards ([`Demand::Mixture`]). The gradient is pathwise, exact and unbiased for the expected loss
/// of a mixture, which is not that of a choice. The logits are no log-probabilities here: a shift of a row changes the
/// concentrations, and with them how near to one choice a draw is. `τ` takes no part: `∂L/∂τ` is 0.
///
/// The paper's regularizer holds `c` near 1: its authors' code has two, a weight decay of the logits and
/// `λ·Σ KL(Dir(c) ‖ Dir(1))`. [`Drnas::divergence`] is the second.
///
/// # References
/// - Chen, Wang, Cheng, Tang & Hsieh, *DrNAS: Dirichlet Neural Architecture Search*, 2021, §3, <https://arxiv.org/abs/2006.10355>
/// - Figurnov, Mohamed & Mnih, *Implicit Reparameterization Gradients*, 2018, <https://arxiv.org/abs/1805.08498>
#[derive(Clone, Copy, Debug, Default)]
pub struct Drnas;

/// Below it a concentration has no gradient: draws are one-hot to the last bit long before.
const LEAST: f64 = 1e-3;

impl Drnas {
    /// The concentrations `c = elu(α) + 1`, `(E, K)`, on the graph of the logits.
    ///
    /// # Errors
    /// candle's, when `logits` are no floats.
    pub fn concentrations(logits: &Tensor) -> Result<Tensor> {
        (logits.to_dtype(DType::F64)?.elu(1.0)? + 1.0)?.maximum(LEAST)
    }

    /// The gradient of `KL(Dir(c) ‖ Dir(1))`, summed over edges, by the logits: `(E, K)`.
    ///
    /// ```text
    /// KL = ln Γ(c₀) − Σ ln Γ(c_k) − ln Γ(K) + Σ (c_k − 1)(ψ(c_k) − ψ(c₀)),   c₀ = Σ c_k
    /// ∂KL/∂c_k = (c_k − 1)·ψ'(c_k) − (c₀ − K)·ψ'(c₀)
    /// ```
    ///
    /// # Errors
    /// candle's, when `logits` is no matrix of floats.
    pub fn divergence(logits: &Tensor) -> Result<Tensor> {
        let rows = to_host(&Self::concentrations(&logits.detach())?)?;
        let alphas = to_host(logits)?;
        let gradient = rows.iter().zip(&alphas).flat_map(|(row, alphas)| {
            let total: f64 = row.iter().sum();
            let shared = (total - row.len() as f64) * trigamma(total);
            let by_alpha = move |(&c, &alpha): (&f64, &f64)| {
                let slope = if alpha > 0.0 { 1.0 } else { alpha.exp() };
                ((c - 1.0) * trigamma(c) - shared) * slope
            };
            row.iter().zip(alphas).map(by_alpha).collect::<Vec<_>>()
        });
        Tensor::from_vec(gradient.collect(), logits.shape(), logits.device())
    }
}

impl Estimator for Drnas {
    fn demand(&self) -> Demand {
        Demand::Mixture
    }

    fn relax(&self, logits: &Tensor, _tau: &Tensor, rng: &mut ChaCha8Rng) -> Result<Gates> {
        to_finite_host(logits)?;
        let concentrations = Self::concentrations(logits)?;
        let (mut logs, mut slopes) = (Vec::new(), Vec::new());
        for c in to_host(&concentrations.detach())?.into_iter().flatten() {
            let log = log_draw(c, rng);
            slopes.push(slope(c, log));
            logs.push(log);
        }
        let tensor = |values| Tensor::from_vec(values, logits.dims2()?, logits.device());
        let along = (differential(&concentrations)? * tensor(slopes)?)?;
        let gates = categorical::softmax(&(tensor(logs)? + along)?)?; // w = softmax(ln G), (E, K)
        Gates::weighted(gates.to_dtype(logits.dtype())?)
    }
}

/// `ln G` with `G ~ Gamma(c, 1)`; in the logarithm, because for small `c` the draw itself underflows.
fn log_draw(c: f64, rng: &mut ChaCha8Rng) -> f64 {
    let boost = if c < 1.0 { uniform(rng).ln() / c } else { 0.0 }; // G(c) = G(c + 1)·U^(1/c)
    let shape = if c < 1.0 { c + 1.0 } else { c };
    let gamma = Gamma::new(shape, 1.0).expect("a concentration is finite and at least 1");
    gamma.sample(rng).ln() + boost
}

/// `d ln G/dc` along a fixed quantile of `Gamma(c, 1)`: `−(∂F/∂c)/(x·p)` at `ln x = log_x`.
pub(super) fn slope(c: f64, log_x: f64) -> f64 {
    let x = log_x.exp();
    if x <= c + 1.0 + 2.0 * c.sqrt() { below(c, x, log_x) } else { above(c, x, log_x) }
}

/// By the series `F = xᶜe⁻ˣ/Γ(c + 1)·S`, `S = Σ t_n`, `t_n = t_{n−1}·x/(c + n)`; with `x·p = c·xᶜe⁻ˣ/Γ(c + 1)`
/// everything but `S` and `S' = ∂S/∂c` cancels.
fn below(c: f64, x: f64, log_x: f64) -> f64 {
    let (mut term, mut d_term) = (1.0, 0.0);
    let (mut sum, mut d_sum) = (1.0, 0.0);
    for n in 1..100_000 {
        let next = c + f64::from(n);
        (term, d_term) = (term * x / next, (d_term - term / next) * x / next);
        (sum, d_sum) = (sum + term, d_sum + d_term);
        if term <= sum * 1e-17 && d_term.abs() <= (sum + d_sum.abs()) * 1e-17 {
            break;
        }
    }
    -(sum * (log_x - digamma(c + 1.0)) + d_sum) / c
}

/// By the continued fraction `1 − F = xᶜe⁻ˣ/Γ(c)·h` and `h' = ∂h/∂c` (Lentz's method, value and derivative side by side);
/// `x·p = xᶜe⁻ˣ/Γ(c)` cancels.
fn above(c: f64, x: f64, log_x: f64) -> f64 {
    let (mut b, mut c_n, mut dc_n) = (x + 1.0 - c, 1e300, 0.0);
    let (mut d, mut dd) = (1.0 / b, 1.0 / (b * b));
    let (mut h, mut dh) = (d, dd);
    for n in 1..100_000 {
        let n = f64::from(n);
        let (a, da) = (-n * (n - c), n); // and db = −1
        b += 2.0;
        let (below, d_below) = (a * d + b, da * d + a * dd - 1.0);
        (dc_n, c_n) = (-1.0 + (da - a * dc_n / c_n) / c_n, b + a / c_n);
        (d, dd) = (1.0 / below, -d_below / (below * below));
        let (factor, d_factor) = (d * c_n, dd * c_n + d * dc_n);
        (h, dh) = (h * factor, dh * factor + h * d_factor);
        if (factor - 1.0).abs() < 1e-15 && d_factor.abs() < 1e-15 {
            break;
        }
    }
    h * (log_x - digamma(c)) + dh
}

/// `ψ'(x)` for `x > 0`, by recurrence to `x ≥ 10` and the asymptotic series there (Abramowitz & Stegun, 6.4.12).
fn trigamma(x: f64) -> f64 {
    let (mut x, mut sum) = (x, 0.0);
    while x < 10.0 {
        sum += 1.0 / (x * x);
        x += 1.0;
    }
    let y = 1.0 / (x * x);
    let tail = y * (1.0 / 6.0 - y * (1.0 / 30.0 - y * (1.0 / 42.0 - y * (1.0 / 30.0 - y * 5.0 / 66.0))));
    sum + 1.0 / x + y / 2.0 + tail / x
}
