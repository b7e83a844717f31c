use candle_core::{Device, Result, Tensor};

use super::*;
use crate::kernels::testing::{assert_rounded, narrow, noise, sets, values};

fn points() -> Result<Tensor> {
    Tensor::new(&[-1.0, -0.0, 0.0, 0.5, 6.0, 7.0], &Device::Cpu)
}

#[test]
fn relu_keeps_what_is_positive() -> Result<()> {
    assert_eq!(values(&relu(&points()?)?)?, [0.0, 0.0, 0.0, 0.5, 6.0, 7.0]);
    let ones = points()?.ones_like()?;
    assert_eq!(values(&relu_gradient(&points()?, &ones)?)?, [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    Ok(())
}

#[test]
fn relu6_keeps_what_is_between_0_and_6() -> Result<()> {
    assert_eq!(values(&relu6(&points()?)?)?, [0.0, 0.0, 0.0, 0.5, 6.0, 6.0]);
    let ones = points()?.ones_like()?;
    assert_eq!(values(&relu6_gradient(&points()?, &ones)?)?, [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    Ok(())
}

#[test]
fn nan_stays_nan() -> Result<()> {
    let nan = Tensor::new(&[f32::NAN], &Device::Cpu)?;
    assert!(values(&relu(&nan)?)?[0].is_nan() && values(&relu6(&nan)?)?[0].is_nan());
    Ok(())
}

#[test]
fn a_narrow_map_is_cut_and_masked_as_its_numbers_are() {
    let ((x, x32), (gy, gy32)) = (narrow(&noise(1001, 1)), narrow(&noise(1001, 2)));
    for isa in sets() {
        let (mut found, mut expected) = (vec![0.0; 1001], vec![0.0; 1001]);
        cpu::relu(isa, &x, &mut found);
        cpu::relu(isa, &x32, &mut expected);
        assert_eq!(found, expected);
        cpu::mask(isa, &x, &gy, 0.5, &mut found);
        cpu::mask(isa, &x32, &gy32, 0.5, &mut expected);
        assert_eq!(found, expected);
        let (mut found, mut expected) = (gy.clone(), gy32.clone());
        relu_mask(isa, &x32, &mut found);
        relu_mask(isa, &x, &mut expected);
        assert_rounded(&found, &expected);
    }
}
