use candle_core::{Device, Result, Tensor};

use super::*;
use crate::kernels::testing::values;

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
