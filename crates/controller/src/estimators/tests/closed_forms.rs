//! What single estimators are, by hand.

use statrs::function::gamma::{digamma, gamma_lr, ln_gamma};

use super::*;

/// `(1, K)`, a variable.
fn row(values: &[f64]) -> Result<Tensor> {
    Ok(Var::from_tensor(&Tensor::new(values, &Device::Cpu)?.unsqueeze(0)?)?.into_inner())
}

/// The gradient of `v · gates` for one edge, and the candidate that ran.
fn one_edge(name: &str, logits: &[f64], tau: f64, v: &[f64], seed: u64) -> Result<(Vec<f64>, usize)> {
    let (logits, tau) = (row(logits)?, scalar(tau)?);
    let gates = named(name).relax(&logits, &tau, &mut ChaCha8Rng::seed_from_u64(seed))?;
    let upstream = row(v)?;
    let (d_logits, _) = gradients(&gates, &upstream, &logits, &tau)?;
    Ok((numbers(&d_logits)?, argmax(&numbers(gates.weights())?)))
}

#[track_caller]
fn close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    let worst = found.iter().zip(expected).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-12, "{found:?}, expected {expected:?}");
}

/// softmax((0, ln 4)/2) = (1/3, 2/3): a derivative of 2/9 per unit of α/τ.
#[test]
fn straight_through_has_the_derivative_of_the_tempered_probabilities() -> Result<()> {
    for seed in 0..4 {
        let (gradient, _) = one_edge("st", &[0.0, 4f64.ln()], 2.0, &[5.0, 1.0], seed)?;
        close(&gradient, &[4.0 / 9.0, -4.0 / 9.0]);
    }
    Ok(())
}

/// π = (1/2, 1/2), p = (3/4, 1/4) or its mirror: 2·3/16 − ½·1/4 = 1/4, the true derivative of a linear loss.
#[test]
fn reinmax_is_the_trapezoid_of_two_equal_candidates() -> Result<()> {
    for seed in 0..4 {
        let (gradient, _) = one_edge("reinmax", &[0.3, 0.3], 1.0, &[5.0, 1.0], seed)?;
        close(&gradient, &[1.0, -1.0]);
    }
    Ok(())
}

/// ∂ ln π(k)/∂α = one_hot(k) − π, times the credit that fills the answer.
#[test]
fn reinforce_has_the_derivative_of_the_log_probability() -> Result<()> {
    for seed in 0..4 {
        let (gradient, k) = one_edge("reinforce", &[0.0, 3f64.ln()], 0.1, &[2.0, 2.0], seed)?;
        close(&gradient, &if k == 0 { [1.5, -1.5] } else { [-0.5, 0.5] });
    }
    Ok(())
}

/// π = (1/4, 3/4): Σ_k (∂π_k/∂α_0)·E[L | k] = 3/16·(7 − 3).
#[test]
fn exact_weighs_expected_losses_with_the_derivative_of_the_probabilities() -> Result<()> {
    let (gradient, _) = one_edge("exact", &[0.0, 3f64.ln()], 0.1, &[7.0, 3.0], 0)?;
    close(&gradient, &[0.75, -0.75]);
    Ok(())
}

/// Within the pair p = softmax(α_a, α_b); the third candidate has no part.
#[test]
fn proxyless_compares_two_and_leaves_the_rest_alone() -> Result<()> {
    let logits = Var::new(&[[0.0, 3f64.ln(), 0.0]], &Device::Cpu)?.into_inner();
    for seed in 0..8 {
        let gates = Proxyless.relax(&logits, &scalar(1.0)?, &mut ChaCha8Rng::seed_from_u64(seed))?;
        let Paths::Pair(pairs) = gates.paths() else { panic!("no pair") };
        let (a, b) = (pairs[0][0].min(pairs[0][1]), pairs[0][0].max(pairs[0][1]));
        assert!(a < b);
        let (gradient, _) =
            gradients(&gates, &Tensor::new(&[[7.0, 3.0, -1.0]], &Device::Cpu)?, &logits, &scalar(1.0)?)?;
        let expected = match (a, b) {
            (0, 1) => [0.75, -0.75, 0.0],
            (0, 2) => [2.0, 0.0, -2.0],
            _ => [0.0, 0.75, -0.75],
        };
        close(&numbers(&gradient)?, &expected);
    }
    Ok(())
}

#[test]
fn settling_a_pair_keeps_every_other_probability() -> Result<()> {
    let before = Tensor::new(&[[0.1, -0.4, 1.3, 0.0]], &Device::Cpu)?;
    let after = Tensor::new(&[[0.2, -0.9, 1.9, 0.3]], &Device::Cpu)?; // an optimizer with momentum moves all
    let settled = Proxyless::settle(&before, &after, &[[2, 0]])?;
    let (old, new) = (numbers(&categorical::softmax(&before)?)?, numbers(&categorical::softmax(&settled)?)?);
    close(&[new[1], new[3]], &[old[1], old[3]]);
    let rows = numbers(&settled)?;
    close(&[rows[2] - rows[0]], &[1.9 - 0.2]);
    Ok(())
}

/// Noise drawn on the condition that candidate k wins makes it win, and over k ~ π it is Gumbel noise again: mean 0.577,
/// within five standard errors of n = 4 · 5 000 draws.
#[test]
fn conditional_noise_agrees_with_the_choice_and_is_gumbel_on_average() -> Result<()> {
    let (logits, mut rng) = ([0.5, -1.0, 2.0, 0.0], ChaCha8Rng::seed_from_u64(0));
    let mut draws = Vec::new();
    for _ in 0..5_000 {
        let k = sample::draw(&Tensor::new(&[logits], &Device::Cpu)?, &mut rng)?[0];
        let noise = gumbel_rao::conditional(&logits, k, &mut rng);
        let perturbed: Vec<f64> = logits.iter().zip(&noise).map(|(alpha, g)| alpha + g).collect();
        assert_eq!(argmax(&perturbed), k);
        draws.extend(noise);
    }
    let mean = draws.iter().sum::<f64>() / draws.len() as f64;
    assert!((mean - 0.577_216).abs() < 5.0 * 1.2825 / (draws.len() as f64).sqrt(), "{mean}");
    Ok(())
}

/// d ln G/dc at a fixed quantile, −(∂F/∂c)/(x·p), with F of statrs by central differences. Its gamma_lr is good to about
/// 1e-13 of F, the step is 1e-4 of c: 1e-9/(x·p) from rounding; truncation is (step/√c)² = 1e-8·c of
/// the slope.
#[test]
fn the_gamma_draws_slope_is_that_of_its_distribution_function() {
    for c in [0.05_f64, 0.3, 1.0, 2.5, 10.0, 300.0] {
        for x in [(c - 2.0 * c.sqrt()).max(0.05 * c), c, c + c.sqrt(), c + 3.0 * c.sqrt() + 1.0] {
            let step = 1e-4 * c;
            let by_c = (gamma_lr(c + step, x) - gamma_lr(c - step, x)) / (2.0 * step);
            let density = (c * x.ln() - x - ln_gamma(c)).exp(); // x·p(x)
            let (found, expected) = (drnas::slope(c, x.ln()), -by_c / density);
            let tolerance = (1e-6 + 1e-8 * c) * expected.abs() + 1e-9 / c / density;
            assert!((found - expected).abs() < tolerance, "c {c}, x {x}: {found}, expected {expected}");
        }
    }
}

/// Where series and continued fraction meet, they agree.
#[test]
fn the_slope_has_no_seam() {
    for c in [1e-3_f64, 0.7, 3.0, 40.0, 1e4] {
        let seam: f64 = c + 1.0 + 2.0 * c.sqrt();
        let sides = [1.0 - 1e-9, 1.0 + 1e-9].map(|factor| drnas::slope(c, (seam * factor).ln()));
        assert!((sides[0] / sides[1] - 1.0).abs() < 1e-6, "c {c}: {sides:?}");
    }
}

/// KL(Dir(c) ‖ Dir(1)) in closed form, by central differences.
#[test]
fn the_divergence_pulls_concentrations_towards_one() -> Result<()> {
    let divergence = |alpha: &[f64]| {
        let c: Vec<f64> = alpha.iter().map(|a| if *a > 0.0 { a + 1.0 } else { a.exp() }).collect();
        let total: f64 = c.iter().sum();
        let each = |c: &f64| (c - 1.0) * (digamma(*c) - digamma(total)) - ln_gamma(*c);
        ln_gamma(total) - ln_gamma(c.len() as f64) + c.iter().map(each).sum::<f64>()
    };
    let alpha = [0.7, -0.3, 2.0, -1.5];
    let found = numbers(&Drnas::divergence(&Tensor::new(&[alpha], &Device::Cpu)?)?)?;
    for (k, found) in found.into_iter().enumerate() {
        let shifted = |by: f64| {
            divergence(&std::array::from_fn::<f64, 4, _>(|i| alpha[i] + if i == k { by } else { 0.0 }))
        };
        let expected = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
        assert!((found - expected).abs() < 1e-8, "{k}: {found}, expected {expected}");
    }
    assert_eq!(numbers(&Drnas::divergence(&Tensor::zeros((1, 4), DType::F64, &Device::Cpu)?)?)?, [0.0; 4]);
    Ok(())
}
