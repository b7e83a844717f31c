use candle_core::{DType, Device, Result, Tensor};
use controller::ArchParams;
use ops::{Gradients, ParamBuilder, ParamStore, WeightId};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use search_space::{ChoiceGroup, OpSpec};

use super::*;
use crate::{ArchConfig, WeightsConfig};

const STILL: WeightsConfig =
    WeightsConfig { lr: 0.1, lr_min: 0.0, momentum: 0.0, nesterov: false, weight_decay: 0.0, clip: None };

fn store(values: &[f64]) -> Result<(ParamStore, Vec<WeightId>)> {
    let mut params = ParamStore::new(DType::F64, &Device::Cpu);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut builder = ParamBuilder::new(&mut params, &mut rng);
    let ids = values.iter().enumerate().map(|(i, value)| builder.constant(&format!("w{i}"), 1, *value));
    let ids = ids.collect::<Result<_>>()?;
    Ok((params, ids))
}

fn value(params: &ParamStore, id: WeightId) -> Result<f64> {
    Ok(params.weight(id).to_vec1()?[0])
}

fn gradients(params: &ParamStore, of: &[(WeightId, f64)]) -> Result<Gradients> {
    let mut gradients = Gradients::new(params);
    for (id, gradient) in of {
        gradients.add(*id, Tensor::new(&[*gradient], &Device::Cpu)?)?;
    }
    Ok(gradients)
}

/// `n` steps of `settings` from w = 1 with gradient 1 at a learning rate of 0.1.
fn pushed(settings: WeightsConfig, n: usize) -> Result<f64> {
    let (mut params, ids) = store(&[1.0])?;
    let mut sgd = Sgd::new(settings);
    for _ in 0..n {
        let gradients = gradients(&params, &[(ids[0], 1.0)])?;
        sgd.step(&mut params, &gradients, 0.1)?.expect("finite");
    }
    value(&params, ids[0])
}

#[track_caller]
fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-12, "found {found}, expected {expected}");
}

/// By hand: v = 1 then 1.9, so w = 1 − 0.1 − 0.19; Nesterov steps by 1 + 0.9·1 = 1.9, then 1 + 0.9·1.9 = 2.71.
#[test]
fn momentum_and_nesterov_step_as_in_pytorch() -> Result<()> {
    close(pushed(STILL, 2)?, 0.8);
    close(pushed(WeightsConfig { momentum: 0.9, ..STILL }, 2)?, 0.71);
    close(pushed(WeightsConfig { momentum: 0.9, nesterov: true, ..STILL }, 2)?, 1.0 - 0.19 - 0.271);
    Ok(())
}

/// d = 1 + 0.5·1, then w = 1 − 0.15.
#[test]
fn weight_decay_is_part_of_the_gradient() -> Result<()> {
    close(pushed(WeightsConfig { weight_decay: 0.5, ..STILL }, 1)?, 0.85);
    Ok(())
}

/// ‖(3, 4)‖ = 5, clipped to 1: the gradients become 0.6 and 0.8 (and a millionth less: PyTorch's 1e-6); a limit of 6
/// is none.
#[test]
fn clipping_shortens_all_gradients_together() -> Result<()> {
    for (clip, expected) in [(1.0, [-0.06, -0.08]), (6.0, [-0.3, -0.4])] {
        let (mut params, ids) = store(&[0.0, 0.0])?;
        let gradients = gradients(&params, &[(ids[0], 3.0), (ids[1], 4.0)])?;
        let mut sgd = Sgd::new(WeightsConfig { clip: Some(clip), ..STILL });
        assert_eq!(sgd.step(&mut params, &gradients, 0.1)?, Ok(5.0));
        for (id, expected) in ids.into_iter().zip(expected) {
            let found = value(&params, id)?;
            assert!((found - expected).abs() < 1e-7, "found {found}, expected {expected}");
        }
    }
    Ok(())
}

#[test]
fn a_weight_without_gradient_keeps_its_place_and_its_velocity() -> Result<()> {
    let (mut params, ids) = store(&[1.0, 1.0])?;
    let mut sgd = Sgd::new(WeightsConfig { momentum: 0.9, weight_decay: 0.1, ..STILL });
    let both = gradients(&params, &[(ids[0], 1.0), (ids[1], 1.0)])?;
    sgd.step(&mut params, &both, 0.1)?.expect("finite");
    let (before, velocity) =
        (value(&params, ids[1])?, sgd.velocity(ids[1]).expect("it moved").to_vec1::<f64>()?);
    let first = gradients(&params, &[(ids[0], 1.0)])?;
    sgd.step(&mut params, &first, 0.1)?.expect("finite");
    assert_eq!(value(&params, ids[1])?, before);
    assert_eq!(sgd.velocity(ids[1]).expect("it moved").to_vec1::<f64>()?, velocity);
    Ok(())
}

#[test]
fn a_gradient_that_is_not_finite_is_named_and_moves_nothing() -> Result<()> {
    for bad in [f64::NAN, f64::INFINITY] {
        let (mut params, ids) = store(&[1.0, 1.0])?;
        let gradients = gradients(&params, &[(ids[0], 1.0), (ids[1], bad)])?;
        let error = Sgd::new(STILL).step(&mut params, &gradients, 0.1)?;
        assert_eq!(error, Err(NotFinite { weight: "w1".into() }));
        assert_eq!(value(&params, ids[0])?, 1.0);
    }
    Ok(())
}

/// w − ξ·(μ·b + g + λ·w) = 1 − 0.1·(0.9·1.5 + 1 + 0.5·1), with b = 1.5 from a step at w = 1.
#[test]
fn looking_ahead_goes_where_a_step_would() -> Result<()> {
    let settings = WeightsConfig { momentum: 0.9, weight_decay: 0.5, ..STILL };
    let (mut params, ids) = store(&[1.0])?;
    let mut sgd = Sgd::new(settings);
    let once = gradients(&params, &[(ids[0], 1.0)])?;
    sgd.step(&mut params, &once, 0.0)?.expect("finite");
    close(value(&sgd.look_ahead(&params, &once, 0.1)?, ids[0])?, 1.0 - 0.1 * (1.35 + 1.0 + 0.5));
    assert_eq!(value(&params, ids[0])?, 1.0);
    Ok(())
}

/// Every optimizer under test finds the bottom of (w − 3)² from 0.
#[test]
fn all_find_the_bottom_of_a_parabola() -> Result<()> {
    for settings in [
        STILL,
        WeightsConfig { momentum: 0.9, ..STILL },
        WeightsConfig { momentum: 0.9, nesterov: true, ..STILL },
        WeightsConfig { clip: Some(1.0), ..STILL },
    ] {
        let (mut params, ids) = store(&[0.0])?;
        let mut sgd = Sgd::new(settings);
        for _ in 0..300 {
            let slope = 2.0 * (value(&params, ids[0])? - 3.0);
            let gradients = gradients(&params, &[(ids[0], slope)])?;
            sgd.step(&mut params, &gradients, 0.05)?.expect("finite");
        }
        let found = value(&params, ids[0])?;
        assert!((found - 3.0).abs() < 1e-3, "{settings:?} stops at {found}");
    }
    let (mut arch, mut adam) = adam(ArchConfig { lr: 0.05, ..ArchConfig::default() })?;
    for _ in 0..600 {
        let slope = ((arch.logits(0).detach() - 3.0)? * 2.0)?;
        adam.step(&mut arch, &[slope], 0.0).map_err(candle_core::Error::wrap)?;
    }
    let found = arch.logits(0).to_vec2::<f64>()?[0][0];
    assert!((found - 3.0).abs() < 1e-3, "Adam stops at {found}");
    Ok(())
}

/// Adam's first step is the learning rate times the gradient's sign, whatever its size.
#[test]
fn adam_starts_with_a_step_of_the_learning_rate() -> Result<()> {
    let (mut arch, mut adam) = adam(ArchConfig { lr: 0.01, eps: 1e-300, ..ArchConfig::default() })?;
    let before = arch.logits(0).to_vec2::<f64>()?[0].clone();
    adam.step(&mut arch, &[Tensor::new(&[[1e-3, -7.0]], &Device::Cpu)?], 0.0)
        .map_err(candle_core::Error::wrap)?;
    let after = arch.logits(0).to_vec2::<f64>()?[0].clone();
    close(after[0] - before[0], -0.01);
    close(after[1] - before[1], 0.01);
    Ok(())
}

#[test]
fn a_restored_adam_goes_on_as_if_it_had_not_stopped() -> Result<()> {
    let settings = ArchConfig::default();
    let slope = |i: u32| Tensor::new(&[[f64::from(i), -0.5]], &Device::Cpu);
    let ((mut one, mut adam_one), (mut two, mut adam_two)) = (adam(settings)?, adam(settings)?);
    for i in 0..6 {
        if i == 3 {
            let mut fresh = Adam::new(settings, &two)?;
            fresh.restore(adam_two.steps(), adam_two.moments().to_vec());
            adam_two = fresh;
        }
        adam_one.step(&mut one, &[slope(i)?], 0.01).map_err(candle_core::Error::wrap)?;
        adam_two.step(&mut two, &[slope(i)?], 0.01).map_err(candle_core::Error::wrap)?;
    }
    assert_eq!(one.logits(0).to_vec2::<f64>()?, two.logits(0).to_vec2::<f64>()?);
    Ok(())
}

/// One edge with two candidates.
fn adam(settings: ArchConfig) -> Result<(ArchParams, Adam)> {
    let op = |label: &str| OpSpec { word: label.into(), params: Default::default(), label: label.into() };
    let group = ChoiceGroup {
        name: "cell".into(),
        kind: "cell".into(),
        cell: None,
        candidates: vec![op("a"), op("b")],
        edges: vec![(0, 1)],
    };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let arch =
        ArchParams::new(&[group], DType::F64, &Device::Cpu, &mut rng).map_err(candle_core::Error::wrap)?;
    let adam = Adam::new(settings, &arch)?;
    Ok((arch, adam))
}
