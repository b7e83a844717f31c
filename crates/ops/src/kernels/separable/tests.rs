use candle_core::Result;

use super::*;
use crate::kernels::{depthwise, testing::*};

const EPS: f64 = 1e-3;

struct Case {
    x: Tensor,
    d: Tensor,
    w: Tensor,
    bias: Tensor,
    across: Window,
    window: Window,
}

impl Case {
    fn new(map: Map, across: Window, window: Window) -> Result<Self> {
        let ((dh, dw), (kh, kw)) = (across.kernel, window.kernel);
        let (d, w) = (random(&[dh, dw, map.c], 2)?, random(&[kh, kw, map.c, 5], 3)?);
        Ok(Self { x: random(&map.dims(), 1)?, d, w, bias: random(&[5], 4)?, across, window })
    }

    fn convolutions(&self) -> Convolutions<'_> {
        let Self { d, w, bias, across, window, .. } = self;
        Convolutions { norm: None, d, across, prelude: Prelude::Relu, w, bias: Some(bias), window }
    }
}

fn cases() -> Result<Vec<Case>> {
    let point = Window::same((1, 1), (1, 1), (1, 1));
    let pairs = windows()
        .into_iter()
        .flat_map(|across| [(across, point), (across, Window::same((3, 3), (2, 2), (1, 1)))]);
    let pairs: Vec<_> = pairs.collect();
    maps()
        .into_iter()
        .flat_map(|map| pairs.iter().map(move |&(across, window)| Case::new(map, across, window)))
        .collect()
}

/// One after the other, they are the specification.
#[test]
fn fused_passes_compute_what_the_three_layers_compute() -> Result<()> {
    for case in cases()? {
        let Case { x, d, w, bias, across, window } = &case;
        let (scale, shift) = (random(&[5], 5)?, random(&[5], 6)?);
        let a = depthwise::forward(x, d, across, Prelude::Relu)?;
        let y = conv::forward_biased(&a, w, bias, window, Prelude::Identity)?;
        let (z, moments) = batch_norm::forward_train(&y, Some((&scale, &shift)), EPS)?;
        let found = forward_train(x, case.convolutions(), Some((&scale, &shift)), EPS)?;
        assert_tensors_close(&found.y, &y, 1e-12)?;
        assert_tensors_close(&found.z, &z, 1e-9)?;
        let gz = random(z.dims(), 7)?;
        let gy = batch_norm::backward(&y, &gz, Some((&scale, &shift)), &moments)?.x;
        let ga = conv::input_gradient(&gy, w, &a, window, Prelude::Identity)?;
        let gw = conv::weight_gradient(&a, &gy, window, Prelude::Identity)?;
        let gx = depthwise::input_gradient(&ga, d, x, across, Prelude::Relu)?;
        let gd = depthwise::weight_gradient(x, &ga, across, Prelude::Relu)?;
        for wanted in [Wanted::Input, Wanted::Weights, Wanted::Both] {
            let found =
                backward(&gz, x, case.convolutions(), (&y, &moments), Some((&scale, &shift)), wanted)?;
            let (has_x, has_weights) = (found.x.is_some(), found.weights.is_some());
            assert_eq!((has_x, has_weights), (wanted != Wanted::Weights, wanted != Wanted::Input));
            found.x.map_or(Ok(()), |found| assert_tensors_close(&found, &gx, 1e-9))?;
            if let Some((found_d, found_w)) = found.weights {
                assert_tensors_close(&found_d, &gd, 1e-9)?;
                assert_tensors_close(&found_w, &gw, 1e-9)?;
            }
        }
    }
    Ok(())
}

#[test]
fn gradients_are_the_slopes_of_the_forward() -> Result<()> {
    let map = Map { n: 3, h: 4, w: 3, c: 2, rank: 4 };
    for across in windows() {
        let case = Case::new(map, across, Window::same((1, 1), (1, 1), (1, 1)))?;
        let Normalized { y, z, moments } = forward_train(&case.x, case.convolutions(), None, EPS)?;
        let gz = random(z.dims(), 8)?;
        let found = backward(&gz, &case.x, case.convolutions(), (&y, &moments), None, Wanted::Both)?;
        let (gd, gw) = found.weights.expect("they were wanted");
        let z = |x: &Tensor, d: &Tensor, w: &Tensor| {
            Ok(forward_train(x, Convolutions { d, w, ..case.convolutions() }, None, EPS)?.z)
        };
        assert_gradient(&case.x, &found.x.expect("it was wanted"), &gz, |x| z(x, &case.d, &case.w))?;
        assert_gradient(&case.d, &gd, &gz, |d| z(&case.x, d, &case.w))?;
        assert_gradient(&case.w, &gw, &gz, |w| z(&case.x, &case.d, w))?;
    }
    Ok(())
}

#[test]
fn bytes_do_not_depend_on_threads() -> Result<()> {
    let map = Map { n: 21, h: 8, w: 8, c: 16, rank: 4 };
    let window = |k| Window::same((k, k), (1, 1), (1, 1));
    let mut case = Case::new(map, window(3), window(1))?;
    for tensor in [&mut case.x, &mut case.d, &mut case.w, &mut case.bias] {
        *tensor = tensor.to_dtype(candle_core::DType::F32)?;
    }
    assert_same_on_any_threads(|| {
        let run = || {
            let Normalized { y, z, moments } = forward_train(&case.x, case.convolutions(), None, EPS)?;
            let found = backward(&z, &case.x, case.convolutions(), (&y, &moments), None, Wanted::Both)?;
            let (gd, gw) = found.weights.expect("they were wanted");
            let all = [Some(y), Some(z), found.x, Some(gd), Some(gw)];
            all.into_iter().flatten().map(|x| values(&x)).collect::<Result<Vec<_>>>()
        };
        run().expect("the shapes fit")
    });
    Ok(())
}
