//! Bias, variance and error of an estimator at one temperature.

use candle_core::{DType, Device, Tensor, Var};
use controller::{Demand, Estimator, Gates, Tau, estimators};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use serde::Serialize;

use crate::{Error, Loss};

/// What is measured: one choice, its loss, and how often it is drawn.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// `α`, one per candidate.
    pub logits: Vec<f64>,
    /// What the choice costs.
    pub loss: Loss,
    /// Names as in `controller::estimators`.
    pub estimators: Vec<String>,
    /// Temperatures, rising.
    pub taus: Vec<f64>,
    /// Gradients drawn for every estimator and temperature, at least 2.
    pub draws: usize,
    /// All chance derives from it; every temperature and estimator starts from the same.
    pub seed: u64,
}

/// What gradients are compared with.
#[derive(Clone, Debug)]
pub struct Truth {
    /// `g`, one number per logit.
    pub gradient: Vec<f64>,
    /// How well it is known: the root of the trace of its covariance, 0 where it is exact.
    pub error: f64,
}

/// The gradients of one estimator at one temperature, summed up around the truth.
#[derive(Debug)]
pub struct Draws<'t> {
    truth: &'t Truth,
    n: f64,
    sums: Vec<f64>,
    squares: Vec<f64>,
}

/// How far one estimator strays at one temperature, against the true gradient `g`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The estimator's name.
    pub estimator: String,
    /// The temperature.
    pub tau: f64,
    /// `‖mean − g‖ / ‖g‖`.
    pub bias: f64,
    /// `Σ_j Var`, the trace of the covariance.
    pub variance: f64,
    /// `‖mean − g‖² + variance`, what one draw is off in the mean square.
    pub mse: f64,
    /// Of `bias`: `√(variance/draws) / ‖g‖`, and the truth's own error where it has one. A bias below two of these is none
    /// that was seen.
    pub standard_error: f64,
}

/// Rows that are relaxed at once: some megabytes.
const CHUNK: usize = 8192;

impl Experiment {
    /// Logits where nobody says otherwise: four candidates, none hopeless.
    pub const LOGITS: [f64; 4] = [0.5, -0.3, -0.8, 0.1];

    /// `n` temperatures from `from` to `to`, evenly spread in the logarithm.
    ///
    /// # Errors
    /// An end is no temperature, or `n` is 0.
    pub fn temperatures(from: f64, to: f64, n: usize) -> Result<Vec<f64>, Error> {
        let (from, to) = (Tau::new(from)?.get(), Tau::new(to)?.get());
        let at = |i: usize| match i {
            0 => from,
            _ if i + 1 == n => to,
            _ => from * (to / from).powf(i as f64 / (n - 1) as f64),
        };
        if n > 0 { Ok((0..n).map(at).collect()) } else { Err(count("temperatures", n, "at least 1")) }
    }

    /// The exact gradient, `g_j = π_j (L(j) − Σ_k π_k L(k))`.
    #[must_use]
    pub fn truth(&self) -> Truth {
        let max = self.logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let powers: Vec<f64> = self.logits.iter().map(|alpha| (alpha - max).exp()).collect();
        let total: f64 = powers.iter().sum();
        let losses: Vec<f64> = (0..powers.len()).map(|k| self.loss.of_choice(k)).collect();
        let mean = powers.iter().zip(&losses).map(|(p, loss)| p / total * loss).sum::<f64>();
        let gradient = powers.iter().zip(losses).map(|(p, loss)| p / total * (loss - mean)).collect();
        Truth { gradient, error: 0.0 }
    }

    /// Measures every estimator at every temperature, in that order.
    ///
    /// # Errors
    /// A setting makes no experiment; candle's.
    pub fn run(&self) -> Result<Vec<Point>, Error> {
        self.check()?;
        let mut points = Vec::new();
        for name in &self.estimators {
            let estimator = estimators::by_name(name)?;
            for &tau in &self.taus {
                points.push(self.point(name, estimator.as_ref(), Tau::new(tau)?)?);
            }
        }
        Ok(points)
    }

    fn check(&self) -> Result<(), Error> {
        let (found, expected) = (self.logits.len(), self.loss.candidates());
        if found != expected || found < 2 {
            return Err(count("logits", found, "as many as the loss has candidates, at least 2"));
        }
        if let Some(alpha) = self.logits.iter().find(|alpha| !alpha.is_finite()) {
            return Err(Error::Setting {
                what: "logits",
                found: alpha.to_string(),
                accepted: "finite numbers",
            });
        }
        if self.draws < 2 {
            return Err(count("draws", self.draws, "at least 2"));
        }
        self.truth().steep()
    }

    fn point(&self, name: &str, estimator: &dyn Estimator, tau: Tau) -> Result<Point, Error> {
        let truth = self.truth();
        let mut draws = Draws::around(&truth);
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut left = self.draws;
        while left > 0 {
            let rows = left.min(CHUNK);
            let gradients = gradients(estimator, &self.logits, tau, &self.loss, rows, &mut rng)?;
            gradients.iter().for_each(|gradient| draws.push(gradient));
            left -= rows;
        }
        Ok(draws.point(name, tau.get()))
    }
}

impl Truth {
    /// The mean of many gradients of an unbiased estimator.
    ///
    /// # Errors
    /// There are fewer than two.
    pub fn of(gradients: &[Vec<f64>]) -> Result<Self, Error> {
        let [first, _, ..] = gradients else {
            return Err(count("gradients of a reference", gradients.len(), "at least 2"));
        };
        let origin = Self { gradient: vec![0.0; first.len()], error: 0.0 };
        let mut draws = Draws::around(&origin);
        gradients.iter().for_each(|gradient| draws.push(gradient));
        let (gradient, variance) = draws.moments();
        Ok(Self { gradient, error: (variance / gradients.len() as f64).sqrt() })
    }

    /// Refuses a gradient of zeros: nothing strays from it.
    ///
    /// # Errors
    /// [`Error::Flat`].
    pub fn steep(&self) -> Result<(), Error> {
        if norm(&self.gradient) == 0.0 { Err(Error::Flat) } else { Ok(()) }
    }
}

impl<'t> Draws<'t> {
    /// None yet.
    #[must_use]
    pub fn around(truth: &'t Truth) -> Self {
        let zeros = vec![0.0; truth.gradient.len()];
        Self { truth, n: 0.0, sums: zeros.clone(), squares: zeros }
    }

    /// One more, as long as the truth.
    pub fn push(&mut self, gradient: &[f64]) {
        self.n += 1.0;
        for (j, (x, g)) in gradient.iter().zip(&self.truth.gradient).enumerate() {
            let off = x - g; // sums around the truth: at warm τ the squares' mean is nearly the mean's square
            self.sums[j] += off;
            self.squares[j] += off * off;
        }
    }

    /// What they come to; of at least two.
    #[must_use]
    pub fn point(&self, estimator: &str, tau: f64) -> Point {
        let ((means, variance), scale) = (self.moments(), norm(&self.truth.gradient));
        let off = norm(&means);
        Point {
            estimator: estimator.to_owned(),
            tau,
            bias: off / scale,
            variance,
            mse: off * off + variance,
            standard_error: (variance / self.n + self.truth.error.powi(2)).sqrt() / scale,
        }
    }

    /// Mean around the truth, and the trace of the covariance.
    fn moments(&self) -> (Vec<f64>, f64) {
        let n = self.n;
        let means: Vec<f64> = self.sums.iter().map(|sum| sum / n).collect();
        let spread =
            self.squares.iter().zip(&means).map(|(square, mean)| (square - n * mean * mean) / (n - 1.0));
        let variance = spread.sum::<f64>().max(0.0);
        (means, variance)
    }
}

/// `rows` independent gradients `∂L/∂α` of one choice, `K` numbers each.
///
/// # Errors
/// candle's; a logit is not finite.
pub fn gradients(
    estimator: &dyn Estimator,
    logits: &[f64],
    tau: Tau,
    loss: &Loss,
    rows: usize,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<Vec<f64>>, Error> {
    let repeated = Tensor::from_vec(logits.repeat(rows), (rows, logits.len()), &Device::Cpu)?;
    let logits = Var::from_tensor(&repeated)?.into_inner();
    let tau = tau.to_tensor(DType::F64, &Device::Cpu)?;
    let mut draw = || estimator.relax(&logits, &tau, rng);
    let pull = |gates: &Gates, answer: Vec<Vec<f64>>| -> Result<Tensor, Error> {
        let grads = gates.pullback(&Tensor::new(answer, &Device::Cpu)?)?;
        Ok(grads.get(&logits).cloned().map_or_else(|| logits.zeros_like(), Ok)?)
    };
    let gradient = match estimator.demand() {
        Demand::Losses(samples) => {
            let samples: Vec<Gates> = (0..samples).map(|_| draw()).collect::<Result<_, _>>()?;
            let hosts: Vec<Vec<Vec<f64>>> =
                samples.iter().map(|gates| gates.weights().to_vec2()).collect::<Result<_, _>>()?;
            let credits: Vec<Vec<f64>> = (0..rows)
                .map(|row| estimator.credit(&hosts.iter().map(|h| loss.value(&h[row])).collect::<Vec<_>>()))
                .collect();
            let mut sum = logits.zeros_like()?;
            for (s, gates) in samples.iter().enumerate() {
                let answer = credits.iter().map(|credit| vec![credit[s]; loss.candidates()]).collect();
                sum = (sum + pull(gates, answer)?)?;
            }
            sum
        }
        Demand::Enumeration(_) => {
            let losses: Vec<f64> = (0..loss.candidates()).map(|k| loss.of_choice(k)).collect();
            pull(&draw()?, vec![losses; rows])?
        }
        Demand::Chosen | Demand::Outputs | Demand::Mixture | Demand::Joint => {
            let gates = draw()?;
            let hosts: Vec<Vec<f64>> = gates.weights().to_vec2()?;
            pull(&gates, hosts.iter().map(|h| loss.slope(h)).collect())?
        }
    };
    Ok(gradient.to_vec2()?)
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn count(what: &'static str, found: usize, accepted: &'static str) -> Error {
    Error::Setting { what, found: found.to_string(), accepted }
}
