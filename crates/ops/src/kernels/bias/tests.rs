use candle_core::{Device, Result, Tensor};

use super::*;
use crate::kernels::testing::*;

#[test]
fn a_bias_gets_every_pixels_gradient() -> Result<()> {
    let x = Tensor::new(&[[[1.0, 2.0], [3.0, 4.0]]], &Device::Cpu)?;
    assert_eq!(values(&gradient(&x)?)?, [4.0, 6.0]);
    Ok(())
}

#[test]
fn every_instruction_set_computes_the_portable_one() {
    for (isa, c) in sets().flat_map(|isa| [1, 3, 16, 200].map(|c| (isa, c))) {
        let x = noise(601 * c, 1);
        let x32 = cast::<f32>(&x);
        assert_close(&cpu::gradient(isa, &x32, c), &cpu::gradient(Isa::Portable, &x, c), 1e-6);
    }
}
