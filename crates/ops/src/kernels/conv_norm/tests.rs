use candle_core::Result;

use super::*;
use crate::kernels::{sum, testing::*};

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

/// Joined, they are the specification. 16 channels fill every set's vectors, 5 none's: then only one map is read.
#[test]
fn maps_side_by_side_are_one_map() -> Result<()> {
    for (n, c, window) in [1, 2, 4].into_iter().flat_map(|n| {
        let windows = [Window::same((1, 1), (1, 1), (1, 1)), Window::same((3, 3), (2, 2), (1, 1))];
        windows.into_iter().flat_map(move |window| [16, 5].map(|c| (n, c, window)))
    }) {
        let xs = (0..n).map(|i| random(&[3, 7, 5, c], i as u64)).collect::<Result<Vec<_>>>()?;
        let x = sum::join(&xs)?;
        let (w, bias) = (random(&[window.kernel.0, window.kernel.1, n * c, 32], 9)?, random(&[32], 10)?);
        let apart = n == 1 || (c == 16 && window.kernel == (1, 1));
        assert_eq!(reads_beside(&xs, &w, &window)?, apart);
        if !apart {
            let refused =
                forward_beside(&xs, (&w, None), None, EPS, &window, Prelude::Relu).expect_err("it reads one");
            assert!(refused.to_string().contains("maps side by side, expected one"), "{refused}");
            continue;
        }
        for prelude in [Prelude::Identity, Prelude::Relu] {
            let joined = forward_train(&x, (&w, Some(&bias)), None, EPS, &window, prelude)?;
            let Normalized { y, z, moments } =
                forward_beside(&xs, (&w, Some(&bias)), None, EPS, &window, prelude)?.now()?;
            assert_tensors_close(&z, &joined.z, 1e-12)?;
            let gz = random(z.dims(), 11)?;
            for wanted in [Wanted::Input, Wanted::Weights, Wanted::Both] {
                let one = backward(&gz, &x, &w, &y, None, &moments, &window, prelude, wanted)?;
                let found = backward_beside(&gz, &xs, &w, &y, None, &moments, &window, prelude, wanted)?;
                assert_eq!(found.x.as_ref().map(Vec::len), (wanted != Wanted::Weights).then_some(n));
                let found_x = found.x.map(|gxs| sum::join(&gxs)).transpose()?;
                for (found, one) in [(found_x, one.x), (found.w, one.w)] {
                    assert_eq!(found.is_some(), one.is_some());
                    found
                        .zip(one)
                        .map_or(Ok(()), |(found, one)| assert_tensors_close(&found, &one, 1e-12))?;
                }
            }
        }
    }
    assert!(
        forward_beside(&[], (&random(&[1, 1, 4, 4], 1)?, None), None, EPS, &windows()[0], Prelude::Relu)
            .is_err()
    );
    let unlike = [random(&[2, 4, 4, 2], 1)?, random(&[2, 4, 2, 2], 2)?];
    let w = random(&[1, 1, 4, 4], 3)?;
    assert!(forward_beside(&unlike, (&w, None), None, EPS, &windows()[0], Prelude::Relu).is_err());
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

#[test]
fn a_narrow_map_goes_back_as_its_numbers_do() {
    let same = |k, s| Window::same((k, k), (s, s), (1, 1));
    for (side, c, c_out, window) in [(7, 16, 32, same(3, 1)), (6, 5, 17, same(3, 2)), (4, 16, 16, same(1, 1))]
    {
        let input = Map { n: 5, h: side, w: side, c, rank: 4 };
        let output = input.through(&window, c_out);
        let shape = conv::Shape { input: &input, output: &output, window: &window, prelude: Prelude::Relu };
        let w: Vec<f32> = cast(&noise(window.taps() * c * c_out, 1));
        let [(x, x32), (y, y32), (gz, gz32)] =
            [(&input, 3), (&output, 4), (&output, 5)].map(|(map, seed)| narrow(&noise(map.len(), seed)));
        let through = batch_norm::Through::of_constants(c_out, 0.5);
        for isa in sets() {
            let (found, _) = cpu::forward(isa, shape, &x, &w, None);
            assert_multiplied(isa, &found, &cpu::forward(isa, shape, &x32, &w, None).0);
            for wanted in [Wanted::Both, Wanted::Input, Wanted::Weights] {
                let (gx, gw) = cpu::backward(isa, shape, &x, &w, (&y, &gz), &through, wanted);
                let (gx32, gw32) = cpu::backward(isa, shape, &x32, &w, (&y32, &gz32), &through, wanted);
                assert_multiplied(isa, &gx.unwrap_or_default(), &gx32.unwrap_or_default());
                assert_weighed(isa, &gw.unwrap_or_default(), &gw32.unwrap_or_default());
            }
        }
    }
}
