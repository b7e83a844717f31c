//! What theory says of bias and variance, and what a measurement says to it.

use serde::Serialize;

use crate::{Curve, Point};

/// How fast a variance grows where the temperature falls: the slope of its logarithm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Slope {
    /// The estimator's name.
    pub estimator: String,
    /// The lower end of the range.
    pub from: f64,
    /// The upper end.
    pub to: f64,
    /// `d ln variance / d ln τ`, by least squares over the range.
    pub slope: f64,
    /// What theory expects in this range, where it expects anything.
    pub law: Option<f64>,
    /// Why, in one sentence.
    pub reason: &'static str,
}

/// Where the temperature balances bias and variance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Balance {
    /// The estimator's name.
    pub estimator: String,
    /// The temperature with the least mean squared error of those measured; `None` where it takes no part.
    pub tau: Option<f64>,
    /// That error.
    pub mse: f64,
    /// The bias at the lowest temperature measured: the limit for `τ → 0`, if that is low.
    pub cold_bias: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// What theory says of that limit.
    pub reason: &'static str,
}

/// Below it a soft sample is one-hot but for near-ties.
const COLD: f64 = 0.1;
/// Above it the softmax is nearly linear in its arguments.
const WARM: f64 = 10.0;

/// Least-squares slope of `ln variance` against `ln τ` over the points with `τ` in `[from, to]`; `None` under two points,
/// or where a variance is 0.
#[must_use]
pub fn slope(points: &[Point], from: f64, to: f64) -> Option<f64> {
    let within = points.iter().filter(|p| p.tau >= from * (1.0 - 1e-9) && p.tau <= to * (1.0 + 1e-9));
    let logs: Vec<(f64, f64)> = within.map(|p| (p.tau.ln(), p.variance.ln())).collect();
    let n = logs.len() as f64;
    let (x, y) = (logs.iter().map(|l| l.0).sum::<f64>() / n, logs.iter().map(|l| l.1).sum::<f64>() / n);
    let square = logs.iter().map(|l| (l.0 - x).powi(2)).sum::<f64>();
    let product = logs.iter().map(|l| (l.0 - x) * (l.1 - y)).sum::<f64>();
    Some(product / square).filter(|slope| slope.is_finite())
}

/// The slopes of one estimator in the cold, the middle and the warm part of what was measured; `curve` is `None` where a
/// network makes the loss, which is bent.
#[must_use]
pub fn slopes(points: &[Point], curve: Option<Curve>) -> Vec<Slope> {
    let Some(first) = points.first() else { return Vec::new() };
    let ranges = [(0.0, COLD), (COLD, WARM), (WARM, f64::INFINITY)];
    let part = |(from, to): (f64, f64)| {
        let inside: Vec<&Point> = points.iter().filter(|p| p.tau >= from && p.tau <= to).collect();
        let (from, to) = (inside.first()?.tau, inside.last()?.tau);
        let (law, reason) = law(&first.estimator, curve, to);
        let slope = slope(points, from, to)?;
        Some(Slope { estimator: first.estimator.clone(), from, to, slope, law, reason })
    };
    ranges.into_iter().filter_map(part).collect()
}

fn law(estimator: &str, curve: Option<Curve>, to: f64) -> (Option<f64>, &'static str) {
    let word = estimator.split(':').next().unwrap_or_default();
    let relaxes = matches!(word, "gumbel-st" | "gdas" | "gumbel-soft" | "snas");
    let soft =
        matches!(word, "gumbel-soft" | "snas") || (word == "gumbel-st" && curve == Some(Curve::Linear));
    match word {
        _ if relaxes && to <= COLD => {
            (Some(-1.0), "y is one-hot but for near-ties, of probability ∝ τ and a Jacobian ∝ 1/τ")
        }
        _ if soft && to > WARM => {
            (Some(-4.0), "the slope does not vary, the Jacobian only by the noise over τ: 1/τ² of 1/τ")
        }
        "gumbel-st" | "gdas" if to > WARM => {
            (Some(-2.0), "the slope varies with the choice, the Jacobian is 1/τ: the popular law")
        }
        _ if relaxes => (None, "between the two, no power law"),
        "gumbel-rao" => (None, "averaging removes what the choice does not decide"),
        "reinforce" | "drnas" | "proxyless" | "darts" => (None, "the temperature takes no part"),
        "exact" => (None, "nothing is left to chance"),
        _ => (None, "the Jacobian is that of the tempered probabilities, without noise"),
    }
}

/// Where one estimator's error is least, and where its bias ends in the cold; `curve` as in [`slopes`].
#[must_use]
pub fn balance(points: &[Point], curve: Option<Curve>) -> Option<Balance> {
    let best = points.iter().min_by(|a, b| a.mse.total_cmp(&b.mse))?;
    let cold = points.iter().min_by(|a, b| a.tau.total_cmp(&b.tau))?;
    let worst = points.iter().map(|p| p.mse).fold(0.0, f64::max);
    Some(Balance {
        estimator: best.estimator.clone(),
        tau: (worst > best.mse * (1.0 + 1e-9)).then_some(best.tau),
        mse: best.mse,
        cold_bias: cold.bias,
        standard_error: cold.standard_error,
        reason: limit(&best.estimator, curve),
    })
}

fn limit(estimator: &str, curve: Option<Curve>) -> &'static str {
    let word = estimator.split(':').next().unwrap_or_default();
    let bent = matches!(curve, None | Some(Curve::Exponential | Curve::Cubic));
    match word {
        "gumbel-soft" | "snas" => "as τ → 0 the mixture becomes the choice, and the bias vanishes",
        "gumbel-st" | "gumbel-rao" if bent => {
            "as τ → 0 near-ties average the slopes at both ends: the error of a trapezoid rule stays"
        }
        "gumbel-st" | "gumbel-rao" => {
            "as τ → 0 near-ties average the slopes at both ends, which is exact here: the bias vanishes"
        }
        "gdas" => "the unchosen candidates' share is missing at every τ; of a linear loss, half",
        "reinforce" | "exact" => "unbiased at every τ",
        "reinmax" if bent => "of second order at τ = 1; the third stays",
        "reinmax" => "exact at τ = 1, biased at any other",
        "drnas" | "darts" => "the gradient of a mixture's loss, not of a choice's; τ takes no part",
        "proxyless" => "two candidates are compared as if there were no third; τ takes no part",
        _ => "the slope at the choice only; of a linear loss unbiased at τ = 1",
    }
}
