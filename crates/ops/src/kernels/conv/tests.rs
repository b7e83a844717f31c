use candle_core::Result;

use super::{Shape, cpu, forward, input_gradient, weight_gradient};
use crate::kernels::{
    Isa, Prelude, Window,
    element::{Real, Stored},
    map::Map,
    testing::*,
};

const C_OUT: usize = 19;

/// The definition: `visit` sees every product's places in `x`, `w` and `y`.
fn each_product(input: &Map, output: &Map, window: &Window, mut visit: impl FnMut(usize, usize, usize)) {
    let read = |o: usize, s: usize, k: usize, d: usize, pad: isize| (o * s + k * d) as isize - pad;
    let pixels = |map: &Map| (0..map.n * map.h * map.w).collect::<Vec<_>>();
    for p in pixels(output) {
        let (n, oy, ox) = (p / output.w / output.h, p / output.w % output.h, p % output.w);
        for tap in 0..window.taps() {
            let (ky, kx) = (tap / window.kernel.1, tap % window.kernel.1);
            let y = read(oy, window.stride.0, ky, window.dilation.0, window.pad.0);
            let x = read(ox, window.stride.1, kx, window.dilation.1, window.pad.1);
            if !(0..input.h as isize).contains(&y) || !(0..input.w as isize).contains(&x) {
                continue;
            }
            let pixel = (n * input.h + y as usize) * input.w + x as usize;
            for (ci, co) in (0..input.c).flat_map(|ci| (0..output.c).map(move |co| (ci, co))) {
                visit(pixel * input.c + ci, (tap * input.c + ci) * output.c + co, p * output.c + co);
            }
        }
    }
}

struct Case {
    input: Map,
    output: Map,
    window: Window,
    prelude: Prelude,
    x: Vec<f64>,
    w: Vec<f64>,
    gy: Vec<f64>,
}

impl Case {
    /// With numbers drawn, behind each prelude.
    fn of(input: Map, window: Window, c_out: usize) -> [Self; 2] {
        let output = input.through(&window, c_out);
        let (x, gy) = (noise(input.len(), 1), noise(output.len(), 3));
        let w = noise(window.taps() * input.c * c_out, 2);
        [Prelude::Identity, Prelude::Relu].map(|prelude| {
            let (x, w, gy) = (x.clone(), w.clone(), gy.clone());
            Self { input, output, window, prelude, x, w, gy }
        })
    }
}

fn cases() -> Vec<Case> {
    let of = |map| windows().into_iter().flat_map(move |window| Case::of(map, window, C_OUT));
    maps().into_iter().flat_map(of).collect()
}

/// To maps of at most four pixels: with strides, pixels and taps that nobody reads beside others, pieces of more images than a
/// block has rows, and none.
fn small_cases() -> Vec<Case> {
    let map = |n, h, w, c| Map { n, h, w, c, rank: 4 };
    let same = |kernel, stride, dilation| Window::same(kernel, (stride, stride), (dilation, dilation));
    let apart = Window { pad: (2, 2), ..same((2, 2), 2, 1) };
    let beside = Window { pad: (0, -1), ..same((3, 3), 2, 1) };
    [
        (map(5, 2, 2, 16), same((3, 3), 1, 1), 32),
        (map(600, 1, 2, 16), same((1, 3), 1, 1), 16),
        (map(1, 2, 2, 17), same((5, 5), 1, 1), 16),
        (map(3, 2, 2, 32), same((3, 3), 1, 2), 17),
        (map(3, 1, 1, 16), same((3, 3), 1, 1), 16),
        (map(9, 1, 3, 16), same((1, 3), 1, 1), 16),
        (map(64, 4, 4, 16), same((3, 3), 2, 1), 32),
        (map(9, 4, 4, 16), same((3, 3), 2, 1), 16),
        (map(70, 5, 4, 3), same((3, 3), 3, 1), 16),
        (map(66, 7, 1, 16), same((5, 1), 2, 1), 16),
        (map(65, 2, 2, 16), same((2, 2), 2, 1), 16),
        (map(65, 4, 4, 16), apart, 16),
        (map(65, 4, 4, 16), beside, 16),
        (map(65, 6, 6, 16), same((2, 2), 3, 1), 16),
        (map(0, 2, 2, 16), same((3, 3), 1, 1), 16),
    ]
    .into_iter()
    .flat_map(|(map, window, c_out)| Case::of(map, window, c_out))
    .collect()
}

fn agrees<T: Real>(isa: Isa, cases: Vec<Case>, tolerance: f64) {
    for Case { input, output, window, prelude, x, w, gy } in cases {
        let seen: Vec<f64> = x.iter().map(|&x| if prelude == Prelude::Relu { x.relu() } else { x }).collect();
        let (mut y, mut gx, mut gw) = (vec![0.0; gy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
        each_product(&input, &output, &window, |i, j, o| {
            y[o] += seen[i] * w[j];
            gx[i] += if prelude == Prelude::Identity || x[i] > 0.0 { gy[o] * w[j] } else { 0.0 };
            gw[j] += seen[i] * gy[o];
        });
        let (x, w, gy) = (cast::<T>(&x), cast::<T>(&w), cast::<T>(&gy));
        let shape = Shape { input: &input, output: &output, window: &window, prelude };
        assert_close(&cpu::forward(isa, shape, &x, &w, None), &y, tolerance);
        let bias = noise(output.c, 4);
        let shifted: Vec<f64> =
            y.chunks(output.c).flat_map(|y| y.iter().zip(&bias).map(|(y, b)| y + b)).collect();
        let found = cpu::forward(isa, shape, &x, &w, Some(&cast(&bias)));
        assert_close(&found, &shifted, tolerance);
        let found = cpu::input_gradient(isa, shape, &gy, &w, &x);
        assert_close(&found, &gx, tolerance);
        let sums: Vec<f64> =
            (0..output.c).map(|c| gy.iter().skip(c).step_by(output.c).map(|gy| gy.to_f64()).sum()).collect();
        let both = cpu::Added::WeightsAndBias;
        let (of_weight, of_bias) = cpu::weight_gradient(isa, shape, both, &x, &gy);
        assert_close(&of_weight, &gw, tolerance);
        assert_close(&of_bias, &sums, tolerance);
    }
}

#[test]
fn every_instruction_set_computes_the_definition() {
    for isa in sets() {
        agrees::<f32>(isa, cases(), 1e-5);
        agrees::<f64>(isa, cases(), 1e-13);
    }
}

#[test]
fn small_maps_follow_the_definition_too() {
    for isa in sets() {
        agrees::<f32>(isa, small_cases(), 1e-5);
        agrees::<f64>(isa, small_cases(), 1e-13);
    }
}

#[test]
fn gradients_are_the_slopes_of_the_forward() -> Result<()> {
    for window in windows() {
        let (x, w) = (random(&[2, 4, 3, 3], 1)?, random(&[window.kernel.0, window.kernel.1, 3, 2], 2)?);
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
fn series_and_vectors_are_images_of_one_row_and_one_pixel() -> Result<()> {
    let (x, w) = (random(&[2, 6, 3], 1)?, random(&[1, 3, 3, 4], 2)?);
    let window = Window::same((1, 3), (1, 2), (1, 1));
    let y = forward(&x, &w, &window, Prelude::Identity)?;
    let image = forward(&x.unsqueeze(1)?, &w, &window, Prelude::Identity)?;
    assert_eq!(y.dims(), [2, 3, 4]);
    assert_tensors_close(&y, &image.squeeze(1)?, 0.0)?;
    let dense = forward(
        &random(&[5, 3], 3)?,
        &random(&[1, 1, 3, 4], 4)?,
        &Window::same((1, 1), (1, 1), (1, 1)),
        Prelude::Relu,
    )?;
    assert_eq!(dense.dims(), [5, 4]);
    Ok(())
}

#[test]
fn bytes_do_not_depend_on_threads() {
    same_bytes_on_any_threads::<f32>();
    same_bytes_on_any_threads::<half::bf16>();
}

fn same_bytes_on_any_threads<M: Stored<Real = f32> + std::fmt::Debug>() {
    for (n, side) in [(21, 8), (100, 2)] {
        let input = Map { n, h: side, w: side, c: 16, rank: 4 };
        let window = Window::same((3, 3), (1, 1), (1, 1));
        let x: Vec<M> = noise(input.len(), 1).iter().map(|&x| M::nearest(x as f32)).collect();
        let w: Vec<f32> = cast(&noise(9 * 16 * 16, 2));
        assert_same_on_any_threads(|| {
            let shape = Shape { input: &input, output: &input, window: &window, prelude: Prelude::Relu };
            let y = cpu::forward(Isa::detect(), shape, &x, &w, None);
            let gw = cpu::weight_gradient(Isa::detect(), shape, cpu::Added::WeightsAndBias, &x, &y);
            let gx = cpu::input_gradient(Isa::detect(), shape, &y, &w, &x);
            (y, gw, gx)
        });
    }
}

#[test]
fn misfits_are_errors() -> Result<()> {
    let window = Window::same((3, 3), (1, 1), (1, 1));
    let error = forward(&random(&[1, 4, 4, 3], 1)?, &random(&[3, 3, 2, 4], 2)?, &window, Prelude::Identity);
    let message = error.expect_err("weights for two channels were accepted for three").to_string();
    assert!(message.contains("found shape [3, 3, 2, 4], expected [3, 3, 3, c_out]"), "{message}");
    Ok(())
}

/// Odd sizes, batches of one, channels that fill no vector: whatever comes, each path in `f32` follows the portable one in
/// `f64`.
#[test]
fn random_shapes_agree_with_the_portable_path() {
    let mut draw = Draws(7);
    for _ in 0..60 {
        let input =
            Map { n: draw.below(5), h: draw.below(13), w: draw.below(13), c: draw.below(40), rank: 4 };
        let (kernel, c_out) = (2 * draw.below(3) - 1, draw.below(40));
        let window = Window::same((kernel, kernel), (draw.below(2), 1), (draw.below(2), 1));
        let output = input.through(&window, c_out);
        let (x, w) = (noise(input.len(), draw.next()), noise(window.taps() * input.c * c_out, draw.next()));
        let gy = noise(output.len(), draw.next());
        let (x32, w32, gy32) = (cast::<f32>(&x), cast::<f32>(&w), cast::<f32>(&gy));
        let shape = Shape { input: &input, output: &output, window: &window, prelude: Prelude::Relu };
        let portable = Isa::Portable;
        let y = cpu::forward(portable, shape, &x, &w, None);
        let gx = cpu::input_gradient(portable, shape, &gy, &w, &x);
        let (gw, _) = cpu::weight_gradient(portable, shape, cpu::Added::Weights, &x, &gy);
        for isa in sets() {
            assert_close(&cpu::forward(isa, shape, &x32, &w32, None), &y, 2e-5);
            assert_close(&cpu::input_gradient(isa, shape, &gy32, &w32, &x32), &gx, 2e-5);
            let (found, _) = cpu::weight_gradient(isa, shape, cpu::Added::Weights, &x32, &gy32);
            assert_close(&found, &gw, 2e-5);
        }
    }
}

/// Threads take pieces in any order, and one lends its memory to the next.
#[test]
fn a_piece_is_the_same_whatever_was_computed_before() {
    pieces_are_the_same::<f32>();
    pieces_are_the_same::<half::bf16>();
}

fn pieces_are_the_same<M: Stored<Real = f32> + std::fmt::Debug>() {
    let large = [(1, 17, 16), (1, 17, 19), (3, 17, 16), (3, 17, 19), (3, 16, 48)];
    let sides = large.map(|sizes| (7, 6, sizes)).into_iter().chain([(2, 2, (3, 16, 16))]);
    for (h, w, (kernel, c, c_out)) in sides {
        let input = Map { n: 3, h, w, c, rank: 4 };
        let output = Map { c: c_out, ..input };
        let window = Window::same((kernel, kernel), (1, 1), (1, 1));
        let shape = Shape { input: &input, output: &output, window: &window, prelude: Prelude::Relu };
        let (x, gy): (Vec<f32>, Vec<f32>) = (cast(&noise(input.len(), 1)), cast(&noise(output.len(), 2)));
        let w: Vec<f32> = cast(&noise(window.taps() * input.c * c_out, 3));
        let all = |first: usize| {
            let outputs = cpu::Outputs::new::<M>(Isa::detect(), shape, &w, None, input.n);
            let inputs = cpu::Inputs::new::<M>(Isa::detect(), shape, &w, input.n);
            let weights = cpu::Weights::new::<M>(Isa::detect(), shape, input.n);
            let run = |n: usize| {
                let (x, gy) = (&x[..n * input.image()], &gy[..n * output.image()]);
                let (mut y, mut gx) = (vec![M::zero(); gy.len()], vec![M::zero(); x.len()]);
                outputs.write(x, &mut y);
                inputs.write(gy, x, &mut gx);
                (y, gx, weights.part(x, gy).to_vec())
            };
            run(first);
            run(input.n)
        };
        assert_eq!(all(1), all(input.n));
    }
}

/// Products of small whole numbers, and their sums, are exact in any order: what matrix units make of odd maps, of several images a
/// piece, of taps that nobody reads through or that fill no three, is the definition to the bit, maps rounded once.
#[test]
fn matrix_units_add_whole_numbers_exactly() {
    let same = |kernel, dilation| Window::same(kernel, (1, 1), dilation);
    let mut draw = Draws(11);
    let mut cases = vec![
        ((3, 3, 3), same((5, 5), (2, 1)), (16, 32)),
        ((20, 4, 3), same((1, 7), (1, 1)), (16, 16)),
        ((40, 5, 6), same((3, 3), (1, 1)), (32, 16)),
    ];
    for kernel in [(3, 3), (1, 7), (5, 5), (3, 1), (2, 2)].into_iter().cycle().take(15) {
        let dilation = (draw.below(2), draw.below(2));
        let sizes = (draw.below(20), 2 + draw.below(20), 2 + draw.below(20));
        cases.push((sizes, same(kernel, dilation), (16 * draw.below(3), 16 * draw.below(3))));
    }
    let whole =
        |len: usize, seed| -> Vec<f64> { noise(len, seed).iter().map(|x| (4.0 * x).round()).collect() };
    for ((n, h, w), window, (c, c_out)) in cases {
        let input = Map { n, h, w, c, rank: 4 };
        let output = input.through(&window, c_out);
        let (x, gy) = (whole(input.len(), draw.next()), whole(output.len(), draw.next()));
        let weights = whole(window.taps() * c * c_out, draw.next());
        let (mut y, mut gx, mut gw) = (vec![0.0; gy.len()], vec![0.0; x.len()], vec![0.0; weights.len()]);
        each_product(&input, &output, &window, |i, j, o| {
            y[o] += x[i].max(0.0) * weights[j];
            gx[i] += if x[i] > 0.0 { gy[o] * weights[j] } else { 0.0 };
            gw[j] += x[i].max(0.0) * gy[o];
        });
        let ((x, _), (gy, gy32), weights) = (narrow(&x), narrow(&gy), cast::<f32>(&weights));
        let shape = Shape { input: &input, output: &output, window: &window, prelude: Prelude::Relu };
        for isa in sets() {
            let (found, _) = cpu::weight_gradient(isa, shape, cpu::Added::Weights, &x, &gy);
            let of_all = cpu::Weights::new::<half::bf16>(isa, shape, n).part(&x, &gy32);
            for found in [&found[..], &of_all] {
                assert_close(found, &gw, if isa == Isa::Amx { 0.0 } else { 1e-5 });
            }
            if isa == Isa::Amx {
                assert_rounded(&cpu::forward(isa, shape, &x, &weights, None), &cast::<f32>(&y));
                assert_rounded(&cpu::input_gradient(isa, shape, &gy, &weights, &x), &cast::<f32>(&gx));
            }
        }
    }
}

/// More than one piece of the sum over images.
#[test]
fn thousands_of_outputs_have_weights_without_a_bias() -> Result<()> {
    let (x, gy) = (random(&[2, 1], 1)?, random(&[2, 5_000], 2)?);
    let gw = weight_gradient(&x, &gy, &Window::same((1, 1), (1, 1), (1, 1)), Prelude::Identity)?;
    assert_eq!(gw.dims(), [1, 1, 1, 5_000]);
    Ok(())
}

/// Of every kind of convolution: tap by tap, at Winograd's points, pixel by pixel, to small maps.
#[test]
fn a_narrow_map_is_convolved_as_its_numbers_are() {
    let same = |k, s| Window::same((k, k), (s, s), (1, 1));
    let kinds = [
        (5, 5, 16, 32, same(3, 2)),
        (5, 7, 16, 32, same(3, 1)),
        (5, 6, 32, 16, same(1, 1)),
        (5, 2, 16, 16, same(3, 1)),
        (64, 4, 16, 32, same(3, 2)),
        (5, 6, 48, 16, same(3, 1)),
        (5, 9, 32, 48, Window::same((5, 5), (1, 1), (2, 2))),
        (3, 32, 16, 16, same(3, 1)),
        (5, 8, 16, 16, Window::same((1, 7), (1, 1), (1, 1))),
    ];
    for ((n, side, c, c_out, window), prelude) in
        kinds.into_iter().flat_map(|kind| [Prelude::Identity, Prelude::Relu].map(|prelude| (kind, prelude)))
    {
        let input = Map { n, h: side, w: side, c, rank: 4 };
        let output = input.through(&window, c_out);
        let shape = Shape { input: &input, output: &output, window: &window, prelude };
        let w: Vec<f32> = cast(&noise(window.taps() * c * c_out, 1));
        let bias: Vec<f32> = cast(&noise(c_out, 2));
        let ((x, x32), (gy, gy32)) = (narrow(&noise(input.len(), 3)), narrow(&noise(output.len(), 4)));
        for isa in sets() {
            let y = cpu::forward(isa, shape, &x32, &w, Some(&bias));
            assert_multiplied(isa, &cpu::forward(isa, shape, &x, &w, Some(&bias)), &y);
            let gx = cpu::input_gradient(isa, shape, &gy32, &w, &x32);
            assert_multiplied(isa, &cpu::input_gradient(isa, shape, &gy, &w, &x), &gx);
            let added = cpu::Added::WeightsAndBias;
            let of_weights = cpu::weight_gradient(isa, shape, added, &x32, &gy32);
            let found = cpu::weight_gradient(isa, shape, added, &x, &gy);
            // Both factors are narrow already: where matrix units multiply, only the order of the sum is another.
            let expected: Vec<_> = of_weights.0.iter().map(|&x| f64::from(x)).collect();
            assert_close(&found.0, &expected, if isa == Isa::Amx { 1e-5 } else { 0.0 });
            assert_eq!(found.1, of_weights.1);
        }
    }
}
