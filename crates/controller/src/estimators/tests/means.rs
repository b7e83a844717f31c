//! Means and variances of gradients against what they should be; tolerances are standard errors.

use super::*;

/// `L(h) = a·h + ½(b·h)²`: as curved between two choices as `b` says.
struct Quadratic {
    a: [f64; 4],
    b: [f64; 4],
}

const LOSS: Quadratic = Quadratic { a: [0.3, -0.2, 0.5, 0.0], b: [1.0, -0.5, 2.0, 0.2] };
const LINEAR: Quadratic = Quadratic { a: [0.3, -1.2, 0.5, 0.0], b: [0.0; 4] };
const LOGITS: [f64; 4] = [0.5, -0.3, -0.8, 0.1];

impl Quadratic {
    fn value(&self, h: &[f64]) -> f64 {
        let dot = |v: &[f64; 4]| v.iter().zip(h).map(|(v, h)| v * h).sum::<f64>();
        dot(&self.a) + 0.5 * dot(&self.b).powi(2)
    }

    fn slope(&self, h: &[f64]) -> [f64; 4] {
        let bend: f64 = self.b.iter().zip(h).map(|(b, h)| b * h).sum();
        std::array::from_fn(|k| self.a[k] + self.b[k] * bend)
    }

    fn of_choice(&self, k: usize) -> f64 {
        self.value(&std::array::from_fn::<f64, 4, _>(|j| f64::from(u8::from(j == k))))
    }

    /// `∂/∂α_j Σ_k π_k L(k) = π_j (L(j) − Σ_k π_k L(k))`.
    fn truth(&self) -> [f64; 4] {
        let total: f64 = LOGITS.iter().map(|alpha| alpha.exp()).sum();
        let pi = LOGITS.map(|alpha| alpha.exp() / total);
        let mean: f64 = (0..4).map(|k| pi[k] * self.of_choice(k)).sum();
        std::array::from_fn(|j| pi[j] * (self.of_choice(j) - mean))
    }
}

/// Mean, standard error and the sum of all variances of `n` gradients.
struct Moments {
    mean: [f64; 4],
    error: [f64; 4],
    variance: f64,
}

impl Moments {
    fn of(rows: &[Vec<f64>]) -> Self {
        let n = rows.len() as f64;
        let mean: [f64; 4] = std::array::from_fn(|k| rows.iter().map(|row| row[k]).sum::<f64>() / n);
        let spread: [f64; 4] =
            std::array::from_fn(|k| rows.iter().map(|row| (row[k] - mean[k]).powi(2)).sum::<f64>() / n);
        Self { mean, error: spread.map(|v| (v / n).sqrt()), variance: spread.iter().sum() }
    }

    #[track_caller]
    fn is(&self, expected: [f64; 4], standard_errors: f64) {
        for k in 0..4 {
            let distance = (self.mean[k] - expected[k]).abs();
            assert!(
                distance < standard_errors * self.error[k] + 1e-12,
                "{k}: {:?}, expected {expected:?}",
                self.mean
            );
        }
    }
}

/// `n` gradients of one edge: every row of the logits is the same.
fn draws(name: &str, tau: f64, loss: &Quadratic, n: usize) -> Result<Moments> {
    let logits = Var::from_tensor(&Tensor::new(&[LOGITS], &Device::Cpu)?.repeat((n, 1))?)?.into_inner();
    let (estimator, tau, mut rng) = (named(name), scalar(tau)?, ChaCha8Rng::seed_from_u64(11));
    let answer = |rows: Vec<[f64; 4]>| Tensor::from_vec(rows.concat(), (n, 4), &Device::Cpu);
    let gates = estimator.relax(&logits, &tau, &mut rng)?;
    let gradient = match estimator.demand() {
        Demand::Losses(samples) => {
            let mut all = vec![gates];
            for _ in 1..samples {
                all.push(estimator.relax(&logits, &tau, &mut rng)?);
            }
            let losses: Vec<Vec<f64>> = all
                .iter()
                .map(|gates| {
                    Ok(gates.weights().to_vec2()?.iter().map(|h: &Vec<f64>| loss.value(h)).collect())
                })
                .collect::<Result<_>>()?;
            let mut sum = logits.zeros_like()?;
            let credits: Vec<Vec<f64>> = (0..n)
                .map(|row| estimator.credit(&losses.iter().map(|l| l[row]).collect::<Vec<_>>()))
                .collect();
            for (s, gates) in all.iter().enumerate() {
                let credit = answer(credits.iter().map(|credit| [credit[s]; 4]).collect())?;
                sum = (sum + gradients(gates, &credit, &logits, &tau)?.0)?;
            }
            sum
        }
        Demand::Enumeration(_) => {
            let answer = answer(vec![std::array::from_fn(|k| loss.of_choice(k)); n])?;
            gradients(&gates, &answer, &logits, &tau)?.0
        }
        _ => {
            let rows: Vec<Vec<f64>> = gates.weights().to_vec2()?;
            gradients(&gates, &answer(rows.iter().map(|h| loss.slope(h)).collect())?, &logits, &tau)?.0
        }
    };
    Ok(Moments::of(&gradient.to_vec2()?))
}

#[test]
fn exact_is_the_truth_in_every_draw() -> Result<()> {
    let found = draws("exact", 1.0, &LOSS, 10)?;
    found.is(LOSS.truth(), 0.0);
    assert!(found.variance < 1e-24);
    Ok(())
}

#[test]
fn reinforce_is_unbiased_with_any_number_of_samples() -> Result<()> {
    for name in ["reinforce:1", "reinforce:2", "reinforce:5"] {
        draws(name, 0.1, &LOSS, 20_000)?.is(LOSS.truth(), 5.0);
    }
    Ok(())
}

#[test]
fn reinmax_is_unbiased_for_a_quadratic_loss_at_temperature_one() -> Result<()> {
    draws("reinmax", 1.0, &LOSS, 20_000)?.is(LOSS.truth(), 5.0);
    Ok(())
}

#[test]
fn straight_through_is_unbiased_for_a_linear_loss_at_temperature_one() -> Result<()> {
    draws("st", 1.0, &LINEAR, 100)?.is(LINEAR.truth(), 5.0);
    Ok(())
}

#[test]
fn gumbel_rao_has_the_mean_of_gumbel_st_and_no_more_variance() -> Result<()> {
    for tau in [0.03, 0.1, 0.5, 1.0, 5.0, 50.0] {
        let (st, rao) = (draws("gumbel-st", tau, &LOSS, 5_000)?, draws("gumbel-rao:8", tau, &LOSS, 5_000)?);
        for k in 0..4 {
            let error = (st.error[k].powi(2) + rao.error[k].powi(2)).sqrt();
            assert!(
                (st.mean[k] - rao.mean[k]).abs() < 5.0 * error,
                "tau {tau}: {:?} {:?}",
                st.mean,
                rao.mean
            );
        }
        assert!(rao.variance <= st.variance, "tau {tau}: {} {}", rao.variance, st.variance);
    }
    Ok(())
}

/// `E[w] = m = c/c₀` and `Var(b·w) = (Σ b²m − (b·m)²)/(c₀ + 1)` make `E[L(w)]`; its derivative by central differences.
#[test]
fn the_pathwise_gradient_of_drnas_is_unbiased() -> Result<()> {
    let expected = |alpha: [f64; 4]| {
        let c = alpha.map(|a| if a > 0.0 { a + 1.0 } else { a.exp() });
        let total: f64 = c.iter().sum();
        let m = c.map(|c| c / total);
        let dot = |v: [f64; 4]| v.iter().zip(m).map(|(v, m)| v * m).sum::<f64>();
        let variance = (dot(LOSS.b.map(|b| b * b)) - dot(LOSS.b).powi(2)) / (total + 1.0);
        LOSS.value(&m) + 0.5 * variance
    };
    let truth = std::array::from_fn(|k| {
        let shifted = |by: f64| expected(std::array::from_fn(|j| LOGITS[j] + if j == k { by } else { 0.0 }));
        (shifted(1e-5) - shifted(-1e-5)) / 2e-5
    });
    draws("drnas", 1.0, &LOSS, 50_000)?.is(truth, 5.0);
    Ok(())
}

#[test]
fn drnas_mixes_in_proportion_to_its_concentrations() -> Result<()> {
    let n = 20_000;
    let rows = Tensor::new(&[[1.0, 0.0, -2f64.ln(), 0.5]], &Device::Cpu)?.repeat((n, 1))?; // c = 2, 1, ½, 1½
    let gates = Drnas.relax(&rows, &scalar(1.0)?, &mut ChaCha8Rng::seed_from_u64(0))?;
    Moments::of(&gates.weights().to_vec2()?).is([0.4, 0.2, 0.1, 0.3], 5.0);
    Ok(())
}
