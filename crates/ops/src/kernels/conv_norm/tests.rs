use candle_core::Result;

use super::*;
use crate::kernels::testing::*;

const EPS: f64 = 1e-3;

/// One after the other, they are the specification.
#[test]
fn fused_passes_compute_what_the_two_layers_compute() -> Result<()> {
    for (map, window) in
        maps().into_iter().flat_map(|map| windows().into_iter().map(move |window| (map, window)))
    {
        let x = random(&map.dims(), 1)?;
        let w = random(&[window.kernel.0, window.kernel.1, map.c, 5], 2)?;
        let (bias, scale, shift) = (random(&[5], 3)?, random(&[5], 4)?, random(&[5], 5)?);
        let prelude = Prelude::Relu;
        let y = conv::forward_biased(&x, &w, &bias, &window, prelude)?;
        let (z, moments) = batch_norm::forward_train(&y, Some((&scale, &shift)), EPS)?;
        let found = forward_train(&x, (&w, Some(&bias)), Some((&scale, &shift)), EPS, &window, prelude)?;
        assert_tensors_close(&found.y, &y, 1e-12)?;
        assert_tensors_close(&found.z, &z, 1e-10)?;
        assert_tensors_close(&found.moments.var_unbiased, &moments.var_unbiased, 1e-12)?;
        let gz = random(z.dims(), 6)?;
        let through = batch_norm::backward(&y, &gz, Some((&scale, &shift)), &moments)?;
        let gy = through.x;
        let (of_scale, of_shift) = through.scale_shift.expect("a scale was given");
        let (gx, gw) = (
            conv::input_gradient(&gy, &w, &x, &window, prelude)?,
            conv::weight_gradient(&x, &gy, &window, prelude)?,
        );
        for wanted in [Wanted::Input, Wanted::Weights, Wanted::Both] {
            let found =
                backward(&gz, &x, &w, &y, Some((&scale, &shift)), &moments, &window, prelude, wanted)?;
            assert_eq!(
                (found.x.is_some(), found.w.is_some()),
                (wanted != Wanted::Weights, wanted != Wanted::Input)
            );
            found.x.map_or(Ok(()), |found| assert_tensors_close(&found, &gx, 1e-10))?;
            found.w.map_or(Ok(()), |found| assert_tensors_close(&found, &gw, 1e-10))?;
            let (found_scale, found_shift) = found.scale_shift.expect("a scale was given");
            assert_tensors_close(&found_scale, &of_scale, 1e-10)?;
            assert_tensors_close(&found_shift, &of_shift, 1e-10)?;
        }
    }
    Ok(())
}

#[test]
fn gradients_are_the_slopes_of_the_forward() -> Result<()> {
    for window in windows() {
        let (x, w) = (random(&[3, 4, 3, 3], 1)?, random(&[window.kernel.0, window.kernel.1, 3, 2], 2)?);
        let run = |x: &Tensor, w: &Tensor| forward_train(x, (w, None), None, EPS, &window, Prelude::Identity);
        let Normalized { y, z, moments } = run(&x, &w)?;
        let gz = random(z.dims(), 3)?;
        let found = backward(&gz, &x, &w, &y, None, &moments, &window, Prelude::Identity, Wanted::Both)?;
        assert_gradient(&x, &found.x.expect("it was wanted"), &gz, |x| Ok(run(x, &w)?.z))?;
        assert_gradient(&w, &found.w.expect("it was wanted"), &gz, |w| Ok(run(&x, w)?.z))?;
    }
    Ok(())
}

#[test]
fn bytes_do_not_depend_on_threads() -> Result<()> {
    let f32s = |dims: &[usize], seed| random(dims, seed)?.to_dtype(candle_core::DType::F32);
    let (x, w) = (f32s(&[21, 8, 8, 16], 1)?, f32s(&[3, 3, 16, 16], 2)?);
    let window = Window::same((3, 3), (1, 1), (1, 1));
    assert_same_on_any_threads(|| {
        let run = || {
            let Normalized { y, z, moments } =
                forward_train(&x, (&w, None), None, EPS, &window, Prelude::Relu)?;
            let found = backward(&z, &x, &w, &y, None, &moments, &window, Prelude::Relu, Wanted::Both)?;
            let all = [Some(y), Some(z), Some(moments.mean), found.x, found.w];
            all.into_iter().flatten().map(|x| values(&x)).collect::<Result<Vec<_>>>()
        };
        run().expect("the shapes fit")
    });
    Ok(())
}
