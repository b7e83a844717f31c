use candle_core::{Device, Result, Tensor};

use super::*;
use crate::kernels::testing::*;

#[test]
fn a_layer_is_a_product_and_a_shift() -> Result<()> {
    let x = Tensor::new(&[[1.0, 2.0]], &Device::Cpu)?;
    let w = Tensor::new(&[[1.0, 0.0, 2.0], [0.0, 1.0, 3.0]], &Device::Cpu)?;
    let b = Tensor::new(&[10.0, 20.0, 30.0], &Device::Cpu)?;
    assert_eq!(values(&forward(&x, &w, &b)?)?, [11.0, 22.0, 38.0]);
    Ok(())
}

#[test]
fn gradients_are_the_slopes_of_the_forward() -> Result<()> {
    let (x, w, b, gy) = (random(&[5, 7], 1)?, random(&[7, 3], 2)?, random(&[3], 3)?, random(&[5, 3], 4)?);
    assert_gradient(&x, &input_gradient(&gy, &w)?, &gy, |x| forward(x, &w, &b))?;
    let (gw, gb) = weight_gradient(&x, &gy)?;
    assert_gradient(&w, &gw, &gy, |w| forward(&x, w, &b))?;
    assert_gradient(&b, &gb, &gy, |b| forward(&x, &w, b))
}
