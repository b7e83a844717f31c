use candle_core::{Result, Tensor};

use super::{cpu, forward, input_gradient, weight_gradient};
use crate::kernels::{
    Isa, Prelude, Window,
    conv::{self, Shape},
    element::Real,
    map::Map,
    testing::*,
};

/// The dense kernel `(kh, kw, C, C)` that has `w` `(kh, kw, C)` on its diagonal.
fn diagonal(w: &Tensor) -> Result<Tensor> {
    let eye = Tensor::eye(w.dims()[2], w.dtype(), w.device())?;
    w.unsqueeze(2)?.broadcast_mul(&eye)
}

/// The diagonal of a dense kernel.
fn of_diagonal(w: &Tensor) -> Result<Tensor> {
    let eye = Tensor::eye(w.dims()[2], w.dtype(), w.device())?;
    w.broadcast_mul(&eye)?.sum(2)
}

fn agrees<T: Real>(isa: Isa, map: &Map, window: &Window, prelude: Prelude, tolerance: f64) -> Result<()> {
    let output = map.through(window, map.c);
    let x = random(&map.dims(), 1)?;
    let (w, gy) = (random(&[window.kernel.0, window.kernel.1, map.c], 2)?, random(&output.dims(), 3)?);
    let y = conv::forward(&x, &diagonal(&w)?, window, prelude)?;
    let gx = conv::input_gradient(&gy, &diagonal(&w)?, &x, window, prelude)?;
    let gw = of_diagonal(&conv::weight_gradient(&x, &gy, window, prelude)?)?;
    let shape = Shape { input: map, output: &output, window, prelude };
    let slice = |x: &Tensor| Ok::<_, candle_core::Error>(cast::<T>(&values(x)?));
    let (x, w, gy) = (slice(&x)?, slice(&w)?, slice(&gy)?);
    assert_close(&cpu::forward(isa, shape, &x, &w), &values(&y)?, tolerance);
    let found = cpu::input_gradient(isa, shape, &gy, &w, &x);
    assert_close(&found, &values(&gx)?, tolerance);
    assert_close(&cpu::weight_gradient(isa, shape, &x, &gy), &values(&gw)?, tolerance);
    Ok(())
}

#[test]
fn every_instruction_set_computes_a_dense_convolution_with_a_diagonal_kernel() -> Result<()> {
    for (isa, map) in sets().flat_map(|isa| maps().into_iter().map(move |map| (isa, map))) {
        for window in windows() {
            agrees::<f32>(isa, &map, &window, Prelude::Relu, 1e-5)?;
            agrees::<f64>(isa, &map, &window, Prelude::Identity, 1e-13)?;
        }
    }
    Ok(())
}

#[test]
fn pixels_that_share_what_they_load_of_a_row_of_taps_are_summed_like_any_others() -> Result<()> {
    for (kernel, apart) in [(3, 1), (5, 1), (3, 2), (5, 2)] {
        let window = Window::same((kernel, kernel), (1, 1), (apart, apart));
        for (w, c) in [(8, 16), (9, 20), (17, 1), (26, 33)] {
            let map = Map { n: 2, h: 5, w, c, rank: 4 };
            for isa in sets() {
                agrees::<f32>(isa, &map, &window, Prelude::Relu, 1e-5)?;
            }
        }
    }
    Ok(())
}

#[test]
fn gradients_are_the_slopes_of_the_forward() -> Result<()> {
    for window in windows() {
        let (x, w) = (random(&[2, 4, 3, 3], 1)?, random(&[window.kernel.0, window.kernel.1, 3], 2)?);
        let y = forward(&x, &w, &window, Prelude::Relu)?;
        let gy = random(y.dims(), 3)?;
        let gx = input_gradient(&gy, &w, &x, &window, Prelude::Relu)?;
        assert_gradient(&x, &gx, &gy, |x| forward(x, &w, &window, Prelude::Relu))?;
        let gw = weight_gradient(&x, &gy, &window, Prelude::Relu)?;
        assert_gradient(&w, &gw, &gy, |w| forward(&x, w, &window, Prelude::Relu))?;
    }
    Ok(())
}

#[test]
fn bytes_do_not_depend_on_threads() {
    let input = Map { n: 21, h: 16, w: 16, c: 16, rank: 4 };
    let window = Window::same((5, 5), (1, 1), (2, 2));
    let (x, w): (Vec<f32>, Vec<f32>) = (cast(&noise(input.len(), 1)), cast(&noise(25 * 16, 2)));
    assert_same_on_any_threads(|| {
        let shape = Shape { input: &input, output: &input, window: &window, prelude: Prelude::Relu };
        let y = cpu::forward(Isa::detect(), shape, &x, &w);
        let gw = cpu::weight_gradient(Isa::detect(), shape, &x, &y);
        let gx = cpu::input_gradient(Isa::detect(), shape, &y, &w, &x);
        (y, gw, gx)
    });
}

#[test]
fn random_shapes_agree_with_the_portable_path() {
    let mut draw = Draws(8);
    for _ in 0..60 {
        let input =
            Map { n: draw.below(5), h: draw.below(13), w: draw.below(13), c: draw.below(40), rank: 4 };
        let kernel = 2 * draw.below(3) - 1;
        let window = Window::same((kernel, kernel), (draw.below(2), 1), (draw.below(2), draw.below(2)));
        let output = input.through(&window, input.c);
        let (x, w) = (noise(input.len(), draw.next()), noise(window.taps() * input.c, draw.next()));
        let gy = noise(output.len(), draw.next());
        let (x32, w32, gy32) = (cast::<f32>(&x), cast::<f32>(&w), cast::<f32>(&gy));
        let shape = Shape { input: &input, output: &output, window: &window, prelude: Prelude::Relu };
        let portable = Isa::Portable;
        let y = cpu::forward(portable, shape, &x, &w);
        let gx = cpu::input_gradient(portable, shape, &gy, &w, &x);
        let gw = cpu::weight_gradient(portable, shape, &x, &gy);
        for isa in sets() {
            assert_close(&cpu::forward(isa, shape, &x32, &w32), &y, 1e-5);
            assert_close(&cpu::input_gradient(isa, shape, &gy32, &w32, &x32), &gx, 1e-5);
            assert_close(&cpu::weight_gradient(isa, shape, &x32, &gy32), &gw, 1e-5);
        }
    }
}

#[test]
fn a_narrow_map_is_convolved_as_its_numbers_are() {
    let kinds = [(1, 1, 1, 16), (3, 1, 1, 17), (5, 1, 2, 32), (3, 2, 1, 16)];
    for ((k, s, d, c), prelude) in
        kinds.into_iter().flat_map(|kind| [Prelude::Identity, Prelude::Relu].map(|prelude| (kind, prelude)))
    {
        let window = Window::same((k, k), (s, s), (d, d));
        let input = Map { n: 3, h: 9, w: 11, c, rank: 4 };
        let output = input.through(&window, c);
        let shape = Shape { input: &input, output: &output, window: &window, prelude };
        let w: Vec<f32> = cast(&noise(window.taps() * c, 1));
        let ((x, x32), (gy, gy32)) = (narrow(&noise(input.len(), 2)), narrow(&noise(output.len(), 3)));
        for isa in sets() {
            assert_rounded(&cpu::forward(isa, shape, &x, &w), &cpu::forward(isa, shape, &x32, &w));
            let gx = cpu::input_gradient(isa, shape, &gy32, &w, &x32);
            assert_rounded(&cpu::input_gradient(isa, shape, &gy, &w, &x), &gx);
            let gw = cpu::weight_gradient(isa, shape, &x32, &gy32);
            assert_eq!(cpu::weight_gradient(isa, shape, &x, &gy), gw);
        }
    }
}
