use candle_core::{DType, Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use search_space::{ChoiceGroup, OpSpec};

use super::ArchParams;
use crate::{Error, Estimator, Tau, estimators::GumbelSoft};

fn group(name: &str, edges: &[(usize, usize)], labels: &[&str]) -> ChoiceGroup {
    let op = |label: &&str| OpSpec { word: (*label).into(), params: [].into(), label: (*label).into() };
    ChoiceGroup {
        name: name.into(),
        kind: name.into(),
        cell: None,
        candidates: labels.iter().map(op).collect(),
        edges: edges.to_vec(),
    }
}

/// Two groups: `normal` with three edges and two candidates, `reduce` with one edge and three.
fn params(seed: u64) -> Result<ArchParams, Error> {
    let groups = [
        group("normal", &[(0, 1), (0, 2), (1, 2)], &["none", "skip_connect"]),
        group("reduce", &[(0, 1)], &["none", "skip_connect", "sep_conv_3x3"]),
    ];
    ArchParams::new(&groups, DType::F64, &Device::Cpu, &mut ChaCha8Rng::seed_from_u64(seed))
}

fn set(params: &mut ArchParams, group: usize, row: [f64; 3]) -> Result<(), Error> {
    params.set_logits(group, &Tensor::new(&[row], &Device::Cpu)?)
}

#[test]
fn initial_logits_are_small_distinct_and_functions_of_the_generator() -> Result<(), Error> {
    let logits = |seed| -> Result<_, Error> { Ok(params(seed)?.logits(0).to_vec2::<f64>()?) };
    assert_eq!(logits(1)?, logits(1)?);
    assert_ne!(logits(1)?, logits(2)?);
    // Five standard deviations.
    assert!(logits(1)?.iter().flatten().all(|alpha| *alpha != 0.0 && alpha.abs() < 5e-3));
    Ok(())
}

#[test]
fn probabilities_entropies_margins_and_argmax_are_those_of_the_softmax() -> Result<(), Error> {
    let mut params = params(0)?;
    set(&mut params, 1, [0.0, 3f64.ln(), 0.0])?; // π = 1/5, 3/5, 1/5
    let entropy = -0.6 * 0.6f64.ln() - 0.4 * 0.2f64.ln();
    for (found, expected) in params.probabilities(1)?[0].iter().zip([0.2, 0.6, 0.2]) {
        assert!((found - expected).abs() < 1e-15);
    }
    assert!((params.entropy(1)?[0] - entropy).abs() < 1e-15);
    assert!((params.margins(1)?[0] - 0.4).abs() < 1e-15);
    assert_eq!(params.argmax(1)?, [1]);
    Ok(())
}

#[test]
fn a_tie_is_argmax_at_the_lowest_index_with_no_margin() -> Result<(), Error> {
    let mut params = params(0)?;
    set(&mut params, 1, [-1.0, 2.0, 2.0])?;
    assert_eq!((params.argmax(1)?, params.margins(1)?), (vec![1], vec![0.0]));
    Ok(())
}

/// ∂(v·y)/∂α_j = y_j (v_j − v·y)/τ, with the soft sample y itself as measured.
#[test]
fn gradients_are_the_jacobian_times_the_answer() -> Result<(), Error> {
    let params = params(3)?;
    let tau = Tau::new(0.5).expect("above zero").to_tensor(DType::F64, &Device::Cpu)?;
    let gates = GumbelSoft.relax(params.logits(0), &tau, &mut ChaCha8Rng::seed_from_u64(0))?;
    let answer = Tensor::new(&[[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]], &Device::Cpu)?;
    let (d_alpha, _) = params.gradient(0, &gates, &answer, &tau)?;
    let (y, v) = (gates.weights().to_vec2::<f64>()?, answer.to_vec2::<f64>()?);
    for (edge, row) in d_alpha.to_vec2::<f64>()?.into_iter().enumerate() {
        let inner: f64 = y[edge].iter().zip(&v[edge]).map(|(y, v)| y * v).sum();
        for (k, found) in row.into_iter().enumerate() {
            assert!((found - y[edge][k] * (v[edge][k] - inner) / 0.5).abs() < 1e-14, "edge {edge}, {k}");
        }
    }
    Ok(())
}

#[test]
fn a_constant_temperature_has_gradient_zero() -> Result<(), Error> {
    let (params, tau) = (params(0)?, Tensor::new(1.0, &Device::Cpu)?);
    let gates = GumbelSoft.relax(params.logits(1), &tau, &mut ChaCha8Rng::seed_from_u64(0))?;
    let (_, d_tau) = params.gradient(1, &gates, &params.logits(1).ones_like()?, &tau)?;
    assert_eq!(d_tau.to_scalar::<f64>()?, 0.0);
    Ok(())
}

#[test]
fn gates_from_before_a_step_have_no_gradient_after_it() -> Result<(), Error> {
    let (mut params, tau) = (params(0)?, Tensor::new(1.0, &Device::Cpu)?);
    let gates = GumbelSoft.relax(params.logits(1), &tau, &mut ChaCha8Rng::seed_from_u64(0))?;
    set(&mut params, 1, [0.0, 1.0, 2.0])?;
    let error = params
        .gradient(1, &gates, &params.logits(1).ones_like()?, &tau)
        .map(drop)
        .expect_err("old gates were taken");
    let expected =
        "group `reduce`: gates of other logits; expected gates relaxed from this group since its last step";
    assert_eq!(error.to_string(), expected);
    Ok(())
}

#[test]
fn logits_of_another_shape_are_refused() -> Result<(), Error> {
    let error = set(&mut params(0)?, 0, [0.0, 1.0, 2.0]).expect_err("a row was taken");
    assert_eq!(error.to_string(), "group `normal`: logits of shape [1, 3]; expected [3, 2]");
    Ok(())
}

#[test]
fn setting_logits_leaves_earlier_copies_alone() -> Result<(), Error> {
    let mut params = params(0)?;
    let before = params.logits(1).clone();
    let values = before.to_vec2::<f64>()?;
    set(&mut params, 1, [7.0, 8.0, 9.0])?;
    assert_eq!(before.to_vec2::<f64>()?, values);
    assert_eq!(params.logits(1).to_vec2::<f64>()?, [[7.0, 8.0, 9.0]]);
    Ok(())
}

#[test]
fn a_diverged_logit_is_named_by_group_edge_and_candidate() -> Result<(), Error> {
    let mut params = params(0)?;
    params.check_finite()?;
    params.set_logits(0, &Tensor::new(&[[0.0, 1.0], [0.0, 1.0], [0.0, f64::NAN]], &Device::Cpu)?)?;
    let expected =
        "group `normal`, edge 1 → 2, candidate `skip_connect`: logit NaN; expected a finite number";
    assert_eq!(params.check_finite().expect_err("NaN was taken").to_string(), expected);
    Ok(())
}
