use candle_core::{Device, Result, Tensor};

use super::*;
use crate::kernels::testing::*;

#[test]
fn every_pixel_gets_the_bias_and_the_bias_every_pixels_gradient() -> Result<()> {
    let x = Tensor::new(&[[[1.0, 2.0], [3.0, 4.0]]], &Device::Cpu)?;
    let y = add(&x, &Tensor::new(&[10.0, 20.0], &Device::Cpu)?)?;
    assert_eq!(values(&y)?, [11.0, 22.0, 13.0, 24.0]);
    assert_eq!(values(&gradient(&x)?)?, [4.0, 6.0]);
    Ok(())
}

#[test]
fn every_instruction_set_computes_the_portable_one() {
    for (isa, c) in sets().flat_map(|isa| [1, 3, 16, 200].map(|c| (isa, c))) {
        let (x, b) = (noise(601 * c, 1), noise(c, 2));
        let (x32, b32) = (cast::<f32>(&x), cast::<f32>(&b));
        assert_close(&cpu::add(isa, &x32, &b32), &cpu::add(Isa::Portable, &x, &b), 1e-6);
        assert_close(&cpu::gradient(isa, &x32, c), &cpu::gradient(Isa::Portable, &x, c), 1e-6);
    }
}
