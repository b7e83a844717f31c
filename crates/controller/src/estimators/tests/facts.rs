//! What must hold of every estimator, for any logits.

use super::*;

/// Pearson's statistic of how often each candidate was chosen in `n` draws, and how often that was.
fn chi_square(name: &str, logits: &[f64], tau: f64, n: usize, expected: &[f64]) -> Result<f64> {
    let rows = Tensor::new(logits, &Device::Cpu)?.unsqueeze(0)?.repeat((n, 1))?;
    let gates = named(name).relax(&rows, &scalar(tau)?, &mut ChaCha8Rng::seed_from_u64(7))?;
    let found = numbers(&gates.weights().sum(0)?)?;
    let n = n as f64;
    Ok(found.iter().zip(expected).map(|(count, p)| (count - n * p).powi(2) / (n * p)).sum())
}

/// Gumbel-max: softmax of (0, 1, 2). Two degrees of freedom exceed 18.4 once in ten thousand seeds.
#[test]
fn choices_follow_the_softmax_of_the_logits_at_every_temperature() -> Result<()> {
    for name in ["gumbel-st", "gdas", "st", "gumbel-rao", "reinmax", "reinforce", "exact"] {
        for tau in [0.05, 1.0, 500.0] {
            let expected = [0.090_031, 0.244_728, 0.665_241];
            let statistic = chi_square(name, &[0.0, 1.0, 2.0], tau, 20_000, &expected)?;
            assert!(statistic < 18.4, "{name} at {tau}: {statistic}");
        }
    }
    Ok(())
}

/// π = 1/2, 1/4, 1/4: the pair {0, 1} has probability 1/8·(2 + 4/3) = 5/12, as {0, 2}; {1, 2} has 1/6. Within a pair 0 wins
/// two thirds: 5/9, and 2/9 for each of the others.
#[test]
fn proxyless_runs_the_winner_of_a_pair_drawn_without_replacement() -> Result<()> {
    let statistic =
        chi_square("proxyless", &[2f64.ln(), 0.0, 0.0], 1.0, 20_000, &[5.0 / 9.0, 2.0 / 9.0, 2.0 / 9.0])?;
    assert!(statistic < 18.4, "{statistic}");
    Ok(())
}

/// A concentration is no log-probability: `drnas` is left out.
#[test]
fn a_shift_of_the_logits_changes_no_gate_and_gradients_never_ask_for_one() -> Result<()> {
    let shape = (5, 6);
    let (tau, upstream) = (scalar(0.7)?, noise(1, shape)?);
    // Multiples of 1/4 and a shift by 64 are exact, so that the choices must be the same.
    let logits = Var::from_tensor(&((noise(3, shape)? * 4.0)?.round()? / 4.0)?)?.into_inner();
    let shifted = Var::from_tensor(&(&logits + 64.0)?)?.into_inner();
    for name in NAMES.into_iter().filter(|name| *name != "drnas") {
        let gates = |logits: &Tensor| named(name).relax(logits, &tau, &mut ChaCha8Rng::seed_from_u64(2));
        let far = |x: &Tensor, y: &Tensor| -> Result<f64> { (x - y)?.abs()?.max_all()?.to_scalar() };
        let (here, there) = (gates(&logits)?, gates(&shifted)?);
        assert!(far(here.weights(), there.weights())? < 1e-12, "{name}");
        let (d_logits, _) = gradients(&here, &upstream, &logits, &tau)?;
        let (d_shifted, _) = gradients(&there, &upstream, &shifted, &tau)?;
        assert!(far(&d_logits, &d_shifted)? < 1e-12, "{name}");
        assert!(numbers(&d_logits.sum(1)?)?.iter().all(|along_ones| along_ones.abs() < 1e-12), "{name}");
    }
    Ok(())
}

/// Central differences with step 1e-5 in f64: truncation about 1e-10, rounding about 1e-11.
#[test]
fn the_soft_gradient_is_that_of_finite_differences() -> Result<()> {
    let shape = (2, 4);
    let (noise, upstream, start) = (noise(1, shape)?, super::noise(2, shape)?, super::noise(3, shape)?);
    let value = |logits: &Tensor, tau: f64| -> Result<f64> {
        let soft = GumbelSoft::relax_with(logits, &scalar(tau)?, &noise)?;
        (soft.weights() * &upstream)?.sum_all()?.to_scalar()
    };
    let (logits, tau) = (Var::from_tensor(&start)?.into_inner(), scalar(0.8)?);
    let gates = GumbelSt::relax_with(&logits, &tau, &noise)?;
    let (d_logits, d_tau) = gradients(&gates, &upstream, &logits, &tau)?;
    let step = 1e-5;
    for (i, slope) in numbers(&d_logits)?.into_iter().enumerate() {
        let mut direction = vec![0.0; 8];
        direction[i] = step;
        let direction = Tensor::from_vec(direction, shape, &Device::Cpu)?;
        let difference = value(&(&start + &direction)?, 0.8)? - value(&(&start - &direction)?, 0.8)?;
        assert!((difference / (2.0 * step) - slope).abs() < 1e-8, "logit {i}");
    }
    let difference = value(&start, 0.8 + step)? - value(&start, 0.8 - step)?;
    assert!((difference / (2.0 * step) - numbers(&d_tau)?[0]).abs() < 1e-8);
    Ok(())
}

#[test]
fn a_single_candidate_is_certain_and_gets_no_gradient() -> Result<()> {
    for name in NAMES {
        let (logits, tau) = (Var::new(&[[3.0], [-2.0]], &Device::Cpu)?.into_inner(), scalar(0.5)?);
        let gates = named(name).relax(&logits, &tau, &mut ChaCha8Rng::seed_from_u64(0))?;
        let (d_logits, d_tau) = gradients(&gates, &logits.ones_like()?, &logits, &tau)?;
        assert_eq!(numbers(gates.weights())?, [1.0, 1.0], "{name}");
        assert_eq!(numbers(&d_logits)?, [0.0, 0.0], "{name}");
        assert_eq!(numbers(&d_tau)?, [0.0], "{name}");
    }
    Ok(())
}

#[test]
fn sixty_four_candidates_are_chosen_among() -> Result<()> {
    let logits = Var::zeros((50, 64), DType::F32, &Device::Cpu)?.into_inner();
    for name in NAMES {
        let gates = named(name).relax(&logits, &scalar(1000.0)?, &mut ChaCha8Rng::seed_from_u64(0))?;
        let sums = numbers(&gates.weights().sum(1)?)?;
        assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-6), "{name}: {sums:?}");
        let ever = numbers(&gates.weights().sum(0)?)?.iter().filter(|weight| **weight > 0.0).count();
        // Of 64 candidates 50 fair draws reach 35 on average, with a deviation below 3.
        assert!(ever > 20, "{name} reached {ever}");
    }
    Ok(())
}

/// As many temperatures as edges do to each edge what a single one does.
#[test]
fn a_column_of_temperatures_gives_each_edge_its_own() -> Result<()> {
    let logits = Var::from_tensor(&noise(1, (3, 5))?)?.into_inner();
    let upstream = noise(2, (3, 5))?;
    for name in NAMES {
        let by = |tau: &Tensor| -> Result<(Vec<f64>, Vec<f64>)> {
            let gates = named(name).relax(&logits, tau, &mut ChaCha8Rng::seed_from_u64(3))?;
            let (d_logits, d_tau) = gradients(&gates, &upstream, &logits, tau)?;
            Ok((numbers(&d_logits)?, numbers(&d_tau)?))
        };
        let column = Var::new(&[[0.7], [0.7], [0.7]], &Device::Cpu)?.into_inner();
        let (d_logits, d_tau) = by(&scalar(0.7)?)?;
        let (same, parts) = by(&column)?;
        assert_eq!(d_logits, same, "{name}");
        assert!((d_tau[0] - parts.iter().sum::<f64>()).abs() < 1e-12, "{name}");
    }
    Ok(())
}

#[test]
fn extreme_temperatures_and_logits_stay_finite_in_f32() -> Result<()> {
    let rows: [[f32; 4]; 4] = [
        [1e4, -1e4, 0.0, 1.0],
        [-1e4, -1e4, -1e4, -1e4],
        [1e4, 1e4, -1e4, 9999.0],
        [0.0, 1e-30, -1e-30, 0.0],
    ];
    for name in NAMES {
        for tau in [1e-3, 0.1, 1.0, 1e3] {
            let logits = Var::new(&rows, &Device::Cpu)?.into_inner();
            let tau = Tau::new(tau).expect("above zero").to_tensor(DType::F32, &Device::Cpu)?;
            let gates = named(name).relax(&logits, &tau, &mut ChaCha8Rng::seed_from_u64(3))?;
            let upstream = Tensor::new(&[[1e3f32, -1e3, 1.0, 0.0]], &Device::Cpu)?.repeat((4, 1))?;
            let (d_logits, d_tau) = gradients(&gates, &upstream, &logits, &tau)?;
            for tensor in [gates.weights(), &d_logits, &d_tau] {
                assert!(numbers(tensor)?.iter().all(|x| x.is_finite()), "{name} at {tau}: {tensor}");
            }
        }
    }
    Ok(())
}

#[test]
fn ties_go_to_the_lowest_index() -> Result<()> {
    let logits = Tensor::new(&[[1.0, 2.0, 2.0], [5.0, 5.0, 5.0]], &Device::Cpu)?;
    let gates = GumbelSt::relax_with(&logits, &scalar(1.0)?, &logits.zeros_like()?)?;
    assert_eq!(gates.paths(), &Paths::Single(vec![1, 0]));
    Ok(())
}

#[test]
fn hard_gates_are_exactly_one_hot_in_both_precisions() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let logits = noise(4, (200, 7))?.to_dtype(dtype)?;
        for name in NAMES.into_iter().filter(|name| !named(name).demand().mixes()) {
            let gates = named(name).relax(&logits, &scalar(0.37)?, &mut ChaCha8Rng::seed_from_u64(5))?;
            assert_eq!(gates.weights().dtype(), dtype);
            let chosen: Vec<usize> = match gates.paths() {
                Paths::Single(chosen) => chosen.clone(),
                Paths::Pair(pairs) => pairs.iter().map(|pair| pair[0]).collect(),
                Paths::Weighted(_) => panic!("{name} mixes"),
            };
            for (row, k) in crate::gates::to_host(gates.weights())?.iter().zip(chosen) {
                assert!(row.iter().enumerate().all(|(j, &x)| x == f64::from(u8::from(j == k))), "{row:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn the_same_generator_relaxes_to_the_same_gates() -> Result<()> {
    let logits = noise(1, (3, 5))?;
    for name in NAMES {
        let draw = |seed| -> Result<_> {
            let gates = named(name).relax(&logits, &scalar(1.0)?, &mut ChaCha8Rng::seed_from_u64(seed))?;
            numbers(gates.weights())
        };
        assert_eq!(draw(1)?, draw(1)?, "{name}");
        assert_eq!(draw(1)? == draw(4)?, name == "darts", "{name}");
    }
    Ok(())
}

#[test]
fn a_logit_that_is_not_finite_is_an_error_that_names_its_place() -> Result<()> {
    let logits = Tensor::new(&[[0.0, 1.0], [0.0, f64::INFINITY]], &Device::Cpu)?;
    for name in NAMES {
        let error = named(name)
            .relax(&logits, &scalar(1.0)?, &mut ChaCha8Rng::seed_from_u64(0))
            .expect_err("an infinite logit was relaxed");
        assert!(error.to_string().starts_with("edge 1, candidate "), "{name}: {error}");
    }
    Ok(())
}

#[test]
fn names_without_an_estimator_are_refused_with_what_is_near() {
    let message = |name| by_name(name).expect_err("an unknown name was accepted").to_string();
    assert_eq!(message("gumble-st"), "unknown estimator `gumble-st`; did you mean `gumbel-st`?");
    assert_eq!(message("GDAS"), "unknown estimator `GDAS`; did you mean `gdas`?");
    let listed = "unknown estimator `backpropagation`; expected one of gumbel-st, gdas, gumbel-soft, darts, st, \
                  gumbel-rao, reinmax, drnas, snas, proxyless, reinforce, exact";
    assert_eq!(message("backpropagation"), listed);
    let number = "unknown estimator `reinforce:0`; expected `reinforce`; gumbel-rao, reinforce and exact take a number \
                  above 0, as in `exact:125`";
    assert_eq!(message("reinforce:0"), number);
    assert!(NAMES.iter().all(|name| summary(name).is_ok()));
}

#[test]
fn leave_one_out_credit_sums_to_zero_and_prefers_the_lower_loss() {
    let credit = GumbelSt.credit(&[1.0, 2.0, 6.0]);
    // Each loss less the mean of the other two, over three: (1 − 4)/3, (2 − 3.5)/3, (6 − 1.5)/3.
    assert_eq!(credit, [-1.0, -0.5, 1.5]);
}
