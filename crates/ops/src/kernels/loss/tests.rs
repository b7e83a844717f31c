use candle_core::{Device, Result, Tensor};

use super::*;
use crate::kernels::testing::*;

#[test]
fn equal_logits_cost_the_logarithm_of_the_classes() -> Result<()> {
    let head = cross_entropy(&Tensor::zeros((2, 4), candle_core::DType::F64, &Device::Cpu)?, &[0, 3], 0.0)?;
    assert_close(&[head.loss], &[4f64.ln()], 1e-15);
    assert_eq!(head.correct, 1); // of equal logits the first counts
    assert_close(&values(&head.grad)?, &[-0.375, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, -0.375], 1e-15);
    Ok(())
}

#[test]
fn huge_logits_stay_finite() -> Result<()> {
    let head = cross_entropy(&Tensor::new(&[[1e4f32, -1e4]], &Device::Cpu)?, &[1], 0.0)?;
    assert_close(&[head.loss], &[2e4], 1e-12);
    assert_eq!(values(&head.grad)?, [1.0, -1.0]);
    Ok(())
}

#[test]
fn gradients_are_the_slopes_of_the_loss() -> Result<()> {
    let (logits, labels, one) = (random(&[3, 5], 1)?, [0, 4, 2], Tensor::new(&[1.0], &Device::Cpu)?);
    for smoothing in [0.0, 0.1] {
        let grad = cross_entropy(&logits, &labels, smoothing)?.grad;
        let loss =
            |logits: &Tensor| Tensor::new(&[cross_entropy(logits, &labels, smoothing)?.loss], &Device::Cpu);
        assert_gradient(&logits, &grad, &one, loss)?;
    }
    Ok(())
}

#[test]
fn a_label_beyond_the_classes_is_an_error() -> Result<()> {
    let error =
        cross_entropy(&random(&[1, 5], 1)?, &[5], 0.0).expect_err("label 5 of 5 classes was accepted");
    assert!(error.to_string().contains("found label 5, expected one below 5"));
    assert!(cross_entropy(&random(&[1, 5], 1)?, &[], 0.0).is_err());
    Ok(())
}
