//! The estimators against PyTorch's values, in both precisions.

use super::*;

/// One case of the fixtures, with inputs in the precision under test.
struct Case<'a> {
    name: String,
    file: &'a HashMap<String, Tensor>,
    dtype: DType,
}

impl Case<'_> {
    fn expected(&self, tensor: &str) -> &Tensor {
        &self.file[&format!("{}/{tensor}", self.name)]
    }

    fn input(&self, tensor: &str) -> Result<Tensor> {
        self.expected(tensor).to_dtype(self.dtype)
    }

    fn variable(&self, tensor: &str) -> Result<Tensor> {
        Ok(Var::from_tensor(&self.input(tensor)?)?.into_inner())
    }

    /// Largest difference over the largest magnitude of the reference; where that is below 1e-6, over 1e-6.
    #[track_caller]
    fn agrees(&self, tensor: &str, found: &Tensor) -> Result<()> {
        let (found, expected) = (numbers(found)?, numbers(self.expected(tensor))?);
        assert_eq!(found.len(), expected.len(), "{}/{tensor}", self.name);
        let scale = expected.iter().fold(1e-6, |most: f64, x| most.max(x.abs()));
        let worst = found.iter().zip(&expected).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max) / scale;
        let bound = if self.dtype == DType::F64 { 1e-9 } else { 1e-4 };
        assert!(worst <= bound, "{}/{tensor} in {:?}: {worst:e}", self.name, self.dtype);
        Ok(())
    }
}

fn every_case(check: impl Fn(&Case<'_>) -> Result<()>) -> Result<()> {
    let root = std::env::var("STRAIT_FIXTURES")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures").into());
    let file = candle_core::safetensors::load(format!("{root}/gumbel/gumbel.safetensors"), &Device::Cpu)?;
    let mut names: Vec<_> = file.keys().filter_map(|key| key.strip_suffix("/logits")).collect();
    names.sort_unstable();
    assert!(names.len() >= 8, "cases {names:?}");
    for name in names {
        for dtype in [DType::F64, DType::F32] {
            check(&Case { name: name.to_owned(), file: &file, dtype })?;
        }
    }
    Ok(())
}

#[test]
fn noise_is_minus_log_minus_log_of_the_uniform() -> Result<()> {
    every_case(|case| {
        let uniform = case.expected("uniform");
        case.agrees("gumbel", &uniform.log()?.neg()?.log()?.neg()?)
    })
}

#[test]
fn gumbel_st_runs_the_hard_sample_with_the_soft_gradient() -> Result<()> {
    every_case(|case| {
        let (logits, tau) = (case.variable("logits")?, case.variable("tau")?);
        let gates = GumbelSt::relax_with(&logits, &tau, &case.input("gumbel")?)?;
        let (d_logits, d_tau) = gradients(&gates, &case.input("upstream")?, &logits, &tau)?;
        let index = case.expected("index").to_vec1::<i64>()?.iter().map(|&k| k as usize).collect();
        assert_eq!(gates.paths(), &Paths::Single(index), "{}", case.name);
        assert_eq!(numbers(gates.weights())?, numbers(case.expected("hard"))?);
        case.agrees("g_logits_st", &d_logits)?;
        case.agrees("g_tau_st", &d_tau)
    })
}

#[test]
fn gdas_hears_the_sampled_candidate_only() -> Result<()> {
    every_case(|case| {
        let (logits, tau) = (case.variable("logits")?, case.variable("tau")?);
        let gates = Gdas::relax_with(&logits, &tau, &case.input("gumbel")?)?;
        let (d_logits, d_tau) = gradients(&gates, &case.input("upstream")?, &logits, &tau)?;
        assert_eq!(numbers(gates.weights())?, numbers(case.expected("hard"))?);
        case.agrees("g_logits_sampled_only", &d_logits)?;
        case.agrees("g_tau_sampled_only", &d_tau)
    })
}

#[test]
fn gumbel_soft_runs_the_soft_sample() -> Result<()> {
    every_case(|case| {
        let (logits, tau) = (case.variable("logits")?, case.variable("tau")?);
        let gates = GumbelSoft::relax_with(&logits, &tau, &case.input("gumbel")?)?;
        let (d_logits, d_tau) = gradients(&gates, &case.input("upstream")?, &logits, &tau)?;
        case.agrees("soft", gates.weights())?;
        case.agrees("g_logits_st", &d_logits)?;
        case.agrees("g_tau_st", &d_tau)
    })
}

#[test]
fn darts_runs_the_probabilities() -> Result<()> {
    every_case(|case| {
        let (logits, tau) = (case.variable("logits")?, case.variable("tau")?);
        let gates = Darts.relax(&logits, &tau, &mut ChaCha8Rng::seed_from_u64(0))?;
        let (d_logits, d_tau) = gradients(&gates, &case.input("upstream")?, &logits, &tau)?;
        case.agrees("prob", gates.weights())?;
        assert_eq!(numbers(&d_tau)?, [0.0]);
        case.agrees("g_logits_soft_mixture", &d_logits)
    })
}

#[test]
fn entropies_and_their_gradients_agree() -> Result<()> {
    every_case(|case| {
        let (logits, tau) = (case.variable("logits")?, case.variable("tau")?);
        let entropy = categorical::entropy(&logits)?;
        case.agrees("entropy", &entropy)?;
        let grads = entropy.sum_all()?.backward()?;
        case.agrees("g_logits_entropy", grads.get(&logits).expect("the entropy depends on the logits"))?;

        let scores = (&logits + case.input("gumbel")?)?.broadcast_div(&tau)?;
        let entropy = categorical::entropy(&scores)?;
        case.agrees("soft_entropy", &entropy)?;
        let grads = entropy.sum_all()?.backward()?;
        case.agrees("g_logits_soft_entropy", grads.get(&logits).expect("it depends on the logits"))?;
        case.agrees("g_tau_soft_entropy", grads.get(&tau).expect("it depends on the temperature"))
    })
}

#[test]
fn log_probabilities_and_their_gradients_agree() -> Result<()> {
    every_case(|case| {
        let logits = case.variable("logits")?;
        let chosen = case.expected("index").to_dtype(DType::U32)?.unsqueeze(1)?;
        let log_prob = categorical::log_softmax(&logits)?.gather(&chosen, 1)?.squeeze(1)?;
        case.agrees("log_prob", &log_prob)?;
        let grads = log_prob.sum_all()?.backward()?;
        case.agrees("g_logits_log_prob", grads.get(&logits).expect("it depends on the logits"))
    })
}
