use candle_core::{DType, Device, Result, Tensor};

use super::*;
use crate::kernels::testing::*;

const EPS: f64 = 1e-5;

/// Channels and rows: less than a vector, one, two and four of them, whole blocks of rows and the rest of one, and what is no multiple.
const SIZES: [(usize, usize); 7] = [(3, 1), (8, 77), (16, 2000), (17, 3001), (32, 501), (64, 333), (128, 9)];

#[test]
fn a_batch_is_normalized_by_its_own_moments() -> Result<()> {
    let x = Tensor::new(&[[1.0, 10.0], [3.0, 10.0], [5.0, 10.0]], &Device::Cpu)?;
    let (y, moments) = forward_train(&x, None, 0.0 + EPS)?;
    let deviation = (8.0f64 / 3.0 + EPS).sqrt();
    assert_close(&values(&y)?, &[-2.0 / deviation, 0.0, 0.0, 0.0, 2.0 / deviation, 0.0], 1e-14);
    assert_eq!(values(&moments.mean)?, [3.0, 10.0]);
    assert_close(&values(&moments.var_unbiased)?, &[4.0, 0.0], 1e-14);
    assert_close(&values(&moments.inv_std)?, &[1.0 / deviation, 1.0 / EPS.sqrt()], 1e-14);
    Ok(())
}

#[test]
fn a_large_mean_costs_no_digits() -> Result<()> {
    let noise = random(&[64, 8, 8, 3], 1)?;
    let x = (noise.affine(1.0, 4096.0)?).to_dtype(DType::F32)?;
    let (y, _) = forward_train(&x, None, EPS)?;
    let (expected, _) = forward_train(&x.to_dtype(DType::F64)?, None, EPS)?;
    assert_close(&values(&y)?, &values(&expected)?, 2e-4);
    Ok(())
}

#[test]
fn given_moments_normalize_as_they_say() -> Result<()> {
    let vector = |x: &[f64; 2]| Tensor::new(x, &Device::Cpu);
    let x = Tensor::new(&[[1.0, 2.0]], &Device::Cpu)?;
    let (scale, var) = (vector(&[2.0, 3.0])?, vector(&[4.0, 9.0])?);
    let y = forward_eval(&x, Some((&scale, &vector(&[10.0, 20.0])?)), &vector(&[0.0, 5.0])?, &var, 0.0)?;
    assert_close(&values(&y)?, &[11.0, 17.0], 1e-15);
    assert_close(&values(&backward_eval(&x, Some(&scale), &var, 0.0)?)?, &[1.0, 2.0], 1e-15);
    assert_close(&values(&backward_eval(&x, None, &var, 0.0)?)?, &[0.5, 2.0 / 3.0], 1e-15);
    Ok(())
}

#[test]
fn gradients_are_the_slopes_of_the_forward() -> Result<()> {
    for dims in [&[3, 2, 2, 3][..], &[4, 3, 3], &[7, 3]] {
        let (x, gy) = (random(dims, 1)?, random(dims, 2)?);
        let (scale, shift) = (random(&[3], 3)?, random(&[3], 4)?);
        let (_, moments) = forward_train(&x, None, EPS)?;
        let found = backward(&x, &gy, None, &moments)?;
        assert!(found.scale_shift.is_none());
        assert_gradient(&x, &found.x, &gy, |x| Ok(forward_train(x, None, EPS)?.0))?;
        let found = backward(&x, &gy, Some((&scale, &shift)), &moments)?;
        let (g_scale, g_shift) = found.scale_shift.expect("a scale was given");
        assert_gradient(&x, &found.x, &gy, |x| Ok(forward_train(x, Some((&scale, &shift)), EPS)?.0))?;
        assert_gradient(&scale, &g_scale, &gy, |s| Ok(forward_train(&x, Some((s, &shift)), EPS)?.0))?;
        assert_gradient(&shift, &g_shift, &gy, |s| Ok(forward_train(&x, Some((&scale, s)), EPS)?.0))?;
    }
    Ok(())
}

#[test]
fn every_instruction_set_computes_the_portable_one() {
    for (isa, (c, rows)) in sets().flat_map(|isa| SIZES.map(|size| (isa, size))) {
        let (x, gy) = (noise(rows * c, 1), noise(rows * c, 2));
        let (x32, gy32) = (cast::<f32>(&x), cast::<f32>(&gy));
        let one = cpu::statistics(Isa::Portable, &x, c);
        let other = cpu::statistics(isa, &x32, c);
        assert_close(&other.mean, &one.mean, 1e-6);
        assert_close(&other.var, &one.var, 1e-6);
        let inv_std: Vec<f64> = one.var.iter().map(|var| 1.0 / (var + 0.1).sqrt()).collect();
        let affine = (noise(c, 3), noise(c, 4));
        let y = cpu::apply(Isa::Portable, &x, &one.mean, &inv_std, Some(affine.clone()));
        assert_close(&cpu::apply(isa, &x32, &one.mean, &inv_std, Some(affine)), &y, 1e-5);
        let sums = cpu::gradient_sums(Isa::Portable, &x, &gy, &one.mean, &inv_std);
        let found = cpu::gradient_sums(isa, &x32, &gy32, &one.mean, &inv_std);
        assert_close(&found.scale, &sums.scale, 1e-5);
        assert_close(&found.shift, &sums.shift, 1e-5);
        let through = Through::new(&one.mean, &inv_std, None, &sums, rows as f64);
        let gx = cpu::backward(Isa::Portable, &x, &gy, c, &through);
        let through = Through::new(&one.mean, &inv_std, None, &sums, rows as f64);
        assert_close(&cpu::backward(isa, &x32, &gy32, c, &through), &gx, 1e-5);
    }
}

#[test]
fn bytes_do_not_depend_on_threads() -> Result<()> {
    let x = random(&[21, 16, 16, 17], 1)?.to_dtype(DType::F32)?;
    assert_same_on_any_threads(|| {
        let run = || {
            let (y, moments) = forward_train(&x, None, EPS)?;
            let gx = backward(&x, &y, None, &moments)?.x;
            [y, gx, moments.mean, moments.inv_std].iter().map(values).collect::<Result<Vec<_>>>()
        };
        run().expect("the shapes fit")
    });
    Ok(())
}

#[test]
fn a_narrow_map_is_normalized_as_its_numbers_are() {
    for (isa, (c, rows)) in sets().flat_map(|isa| SIZES.map(|size| (isa, size))) {
        let ((x, x32), (gy, gy32)) = (narrow(&noise(rows * c, 1)), narrow(&noise(rows * c, 2)));
        let (found, expected) = (cpu::statistics(isa, &x, c), cpu::statistics(isa, &x32, c));
        assert_eq!((&found.mean, &found.var), (&expected.mean, &expected.var));
        let inv_std: Vec<f64> = found.var.iter().map(|var| 1.0 / (var + 0.1).sqrt()).collect();
        let y = cpu::apply(isa, &x32, &found.mean, &inv_std, None);
        assert_rounded(&cpu::apply(isa, &x, &found.mean, &inv_std, None), &y);
        let sums = cpu::gradient_sums(isa, &x32, &gy32, &found.mean, &inv_std);
        let narrow_sums = cpu::gradient_sums(isa, &x, &gy, &found.mean, &inv_std);
        assert_eq!((narrow_sums.scale, narrow_sums.shift), (sums.scale.clone(), sums.shift.clone()));
        let through = Through::new(&found.mean, &inv_std, None, &sums, rows as f64);
        let gx = cpu::backward(isa, &x32, &gy32, c, &through);
        assert_rounded(&cpu::backward(isa, &x, &gy, c, &through), &gx);
    }
}
