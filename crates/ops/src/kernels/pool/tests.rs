use candle_core::{Device, Result, Tensor};

use super::{norm::Pool, *};
use crate::kernels::batch_norm;
use crate::kernels::testing;
use crate::kernels::testing::{
    assert_close, assert_gradient, assert_same_on_any_threads, assert_tensors_close, cast, noise, random,
    sets, values,
};

fn image(rows: &[[f64; 3]]) -> Result<Tensor> {
    Tensor::new(rows.as_flattened(), &Device::Cpu)?.reshape((1, rows.len(), 3, 1))
}

fn three(stride: usize) -> Window {
    Window::same((3, 3), (stride, stride), (1, 1))
}

#[test]
fn padding_is_minus_infinity_to_a_maximum() -> Result<()> {
    let x = image(&[[-5.0, -3.0, -4.0], [-9.0, -8.0, -7.0]])?;
    let (y, winners) = max(&x, &three(1))?;
    assert_eq!(values(&y)?, [-3.0; 6]);
    assert_eq!(winners.flatten_all()?.to_vec1::<u8>()?, [5, 4, 3, 2, 1, 0]);
    Ok(())
}

#[test]
fn the_first_of_equal_values_gets_the_gradient() -> Result<()> {
    let x = image(&[[1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])?;
    let (y, winners) = max(&x, &three(2))?;
    let gx = max_gradient(
        &image(&[[1.0, 2.0, 4.0]])?.narrow(2, 0, 2)?.repeat((1, 2, 1, 1))?,
        &winners,
        x.dims(),
        &three(2),
    )?;
    assert_eq!(values(&y)?, [1.0; 4]);
    // Windows at the corners: (0, 0) and (0, 1) win at the top; (1, 0) and (1, 2) at the bottom.
    assert_eq!(values(&gx)?, [1.0, 2.0, 0.0, 1.0, 0.0, 2.0, 0.0, 0.0, 0.0]);
    Ok(())
}

#[test]
fn minus_infinity_and_nan_can_win() -> Result<()> {
    let x = image(&[[f64::NEG_INFINITY; 3], [f64::NEG_INFINITY, f64::NEG_INFINITY, f64::NAN]])?;
    let (y, winners) = max(&x, &three(1))?;
    assert_eq!(winners.flatten_all()?.to_vec1::<u8>()?, [4, 8, 7, 1, 5, 4]);
    assert!(values(&y)?[0].is_infinite() && values(&y)?[1].is_nan());
    Ok(())
}

/// Maps and the windows over them: those of all kernels' tests, and some that move by more than they span, or whose taps lie so
/// far apart that a row of outputs begins above the one before it; none whose places lie outside of the map.
fn places() -> impl Iterator<Item = (Map, Window)> {
    let same = |k, s, d| Window::same((k, k), (s, s), (d, d));
    let far = Window { pad: (3, 3), ..same(3, 1, 3) };
    let sparse = Window { pad: (0, 0), ..same(2, 3, 1) };
    let back = [same(2, 1, 2), same(2, 2, 3), same(3, 1, 2).shifted(1), Window::same((2, 1), (1, 1), (2, 1))];
    let windows: Vec<_> = testing::windows().into_iter().chain([far, sparse]).chain(back).collect();
    let all =
        testing::maps().into_iter().flat_map(move |map| windows.clone().into_iter().map(move |w| (map, w)));
    all.filter(|(map, window)| maps(&map.dims(), window).is_ok())
}

/// Visits every output's place, and the place of each input that it sees with the tap's number, one after the other.
fn each_seen(map: &Map, window: &Window, mut visit: impl FnMut(usize, usize, u8)) {
    let (oh, ow) = window.out(map.h, map.w);
    for place in 0..map.n * oh * ow * map.c {
        let (rest, c) = (place / map.c, place % map.c);
        let (n, oy, ox) = (rest / (oh * ow), rest / ow % oh, rest % ow);
        for tap in 0..window.taps() {
            let (ky, kx) = (tap / window.kernel.1, tap % window.kernel.1);
            let at = |o: usize, s: usize, k: usize, d: usize, pad: isize| (o * s + k * d) as isize - pad;
            let iy = at(oy, window.stride.0, ky, window.dilation.0, window.pad.0);
            let ix = at(ox, window.stride.1, kx, window.dilation.1, window.pad.1);
            if (0..map.h as isize).contains(&iy) && (0..map.w as isize).contains(&ix) {
                visit(place, ((n * map.h + iy as usize) * map.w + ix as usize) * map.c + c, tap as u8);
            }
        }
    }
}

/// One tap after the other is the specification, on few different values: equal ones, infinities and NaNs meet. What arrives
/// goes to the winner; the infinities and NaNs among it, to nobody else.
#[test]
fn the_winner_is_the_first_of_the_largest_or_the_last_nan() {
    for (map, window) in places() {
        let few = |x: f64| [-1.0, 0.0, 1.0, 1.0, f64::NAN, f64::NEG_INFINITY][(x.abs() * 6.0) as usize % 6];
        let x: Vec<f64> = noise(map.len(), 5).into_iter().map(few).collect();
        let output = map.through(&window, map.c);
        let gy: Vec<f64> = noise(output.len(), 6)
            .into_iter()
            .enumerate()
            .map(|(i, gy)| [gy, f64::NAN, f64::INFINITY][if i % 7 == 0 { 1 + i % 2 } else { 0 }])
            .collect();
        let mut found: Vec<Option<(f64, u8, usize)>> = vec![None; output.len()];
        each_seen(&map, &window, |place, from, tap| {
            if found[place].is_none_or(|(best, ..)| x[from] > best || x[from].is_nan()) {
                found[place] = Some((x[from], tap, from));
            }
        });
        let found: Vec<_> = found.into_iter().map(|found| found.expect("the window is in the map")).collect();
        let (best, who): (Vec<_>, Vec<_>) = found.iter().map(|&(best, tap, _)| (best, tap)).unzip();
        let mut gx = vec![0.0; map.len()];
        found.iter().zip(&gy).for_each(|(&(.., from), gy)| gx[from] += gy);
        let (x32, gy32) = (cast::<f32>(&x), cast::<f32>(&gy));
        for isa in sets() {
            let at = format!("{map:?} {window:?} {isa:?}");
            let (y, winners) = maximum::max(isa, &x, &map, &output, &window);
            let (y32, winners32) = maximum::max(isa, &x32, &map, &output, &window);
            assert!(winners == who && winners32 == who, "{at}");
            let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
            assert!(y.iter().zip(&best).all(|(a, b)| same(*a, *b)), "{at}");
            assert!(y32.iter().zip(&best).all(|(a, b)| same(f64::from(*a), *b)), "{at}");
            let near = |a: f64, b: f64, digits: f64| same(a, b) || (a - b).abs() <= digits;
            let g = maximum::max_gradient(isa, &gy, &who, &map, &output, &window);
            assert!(g.iter().zip(&gx).all(|(a, b)| near(*a, *b, 1e-12)), "{at}");
            let g = maximum::max_gradient(isa, &gy32, &who, &map, &output, &window);
            assert!(g.iter().zip(&gx).all(|(a, b)| near(f64::from(*a), *b, 1e-5)), "{at}");
        }
    }
}

#[test]
fn a_maximum_over_more_taps_than_bytes_can_number_is_an_error() -> Result<()> {
    let (x, window) = (random(&[1, 20, 20, 1], 1)?, Window::same((17, 16), (1, 1), (1, 1)));
    let refused = |error: candle_core::Error| error.to_string().contains("expected at most 255");
    assert!(max(&x, &window).is_err_and(refused));
    assert!(norm::forward_waiting(&x, (Pool::Max, &window), None, 1e-3).is_err_and(refused));
    assert!(norm::probe(&x, &x, (Pool::Max, &window), None, 1e-3).is_err_and(refused));
    let winners = Tensor::zeros(x.dims(), candle_core::DType::U8, &Device::Cpu)?;
    assert!(max_gradient(&x, &winners, x.dims(), &window).is_err_and(refused));
    Ok(())
}

#[test]
fn an_average_counts_the_pixels_inside() -> Result<()> {
    let x = image(&[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])?;
    assert_tensors_close(
        &average(&x, &three(1))?,
        &image(&[[3.0, 3.5, 4.0], [4.5, 5.0, 5.5], [6.0, 6.5, 7.0]])?,
        1e-15,
    )?;
    let partial = Window::same((2, 2), (2, 2), (1, 1));
    assert_eq!(values(&average(&x, &partial)?)?, [3.0, 4.5, 7.5, 9.0]);
    Ok(())
}

#[test]
fn parts_of_an_odd_map_overlap() -> Result<()> {
    let x = image(&[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])?;
    assert_eq!(values(&adaptive_average(&x, (2, 2))?)?, [3.0, 4.0, 6.0, 7.0]);
    assert_eq!(values(&global_average(&x)?)?, [5.0]);
    Ok(())
}

#[test]
fn gradients_are_the_slopes_of_the_forward() -> Result<()> {
    let x = random(&[2, 5, 4, 3], 1)?;
    for window in
        [three(1), three(2), Window::same((2, 2), (2, 2), (1, 1)), Window::same((3, 1), (1, 2), (1, 1))]
    {
        let (y, winners) = max(&x, &window)?;
        let gy = random(y.dims(), 2)?;
        let gx = max_gradient(&gy, &winners, x.dims(), &window)?;
        assert_gradient(&x, &gx, &gy, |x| Ok(max(x, &window)?.0))?;
        let gx = average_gradient(&gy, x.dims(), &window)?;
        assert_gradient(&x, &gx, &gy, |x| average(x, &window))?;
    }
    let gy = random(&[2, 2, 3, 3], 2)?;
    let gx = adaptive_average_gradient(&gy, x.dims())?;
    assert_gradient(&x, &gx, &gy, |x| adaptive_average(x, (2, 3)))?;
    let gy = random(&[2, 3], 2)?;
    assert_gradient(&x, &global_average_gradient(&gy, x.dims())?, &gy, global_average)
}

#[test]
fn every_instruction_set_computes_the_portable_one() -> Result<()> {
    let cases = sets().flat_map(|isa| testing::maps().into_iter().map(move |map| (isa, map)));
    for ((isa, map), window) in cases.flat_map(|case| [three(1), three(2)].map(|window| (case, window))) {
        let output = map.through(&window, map.c);
        let (x, gy) = (noise(map.len(), 1), noise(output.len(), 2));
        let (y, winners) = maximum::max(Isa::Portable, &x, &map, &output, &window);
        let gx = maximum::max_gradient(Isa::Portable, &gy, &winners, &map, &output, &window);
        let (x32, gy32) = (cast::<f32>(&x), cast::<f32>(&gy));
        let (y32, winners32) = maximum::max(isa, &x32, &map, &output, &window);
        assert_eq!(winners32, winners);
        assert_close(&y32, &y, 1e-6);
        assert_close(&maximum::max_gradient(isa, &gy32, &winners, &map, &output, &window), &gx, 1e-6);
        let y = mean::average(Isa::Portable, &x, &map, &output, &window);
        assert_close(&mean::average(isa, &x32, &map, &output, &window), &y, 1e-6);
        let gx = mean::average_gradient(Isa::Portable, &gy, &map, &output, &window);
        assert_close(&mean::average_gradient(isa, &gy32, &map, &output, &window), &gx, 1e-6);
    }
    Ok(())
}

#[test]
fn bytes_do_not_depend_on_threads() -> Result<()> {
    let x = random(&[21, 16, 16, 16], 1)?.to_dtype(candle_core::DType::F32)?;
    assert_same_on_any_threads(|| {
        let run = || {
            let (y, winners) = max(&x, &three(1))?;
            let gx = max_gradient(&y, &winners, x.dims(), &three(1))?;
            let all = [y, gx, average(&x, &three(1))?, average_gradient(&x, x.dims(), &three(1))?];
            all.iter().map(values).collect::<Result<Vec<_>>>()
        };
        run().expect("the shapes fit")
    });
    Ok(())
}

#[test]
fn a_window_outside_of_the_map_is_an_error() -> Result<()> {
    let outside = three(2).shifted(5);
    assert!(max(&image(&[[0.0; 3]])?, &outside).is_err());
    assert!(average(&image(&[[0.0; 3]])?, &outside).is_err());
    Ok(())
}

/// Both pools, and what each makes of a map in front of its norm.
const POOLS: [Pool; 2] = [Pool::Max, Pool::Average];

/// One after the other, they are the specification.
#[test]
fn a_pool_with_its_norm_computes_what_the_two_layers_compute() -> Result<()> {
    let cases = [[3, 6, 5, 17], [1, 1, 1, 3], [9, 13, 16, 16]]
        .into_iter()
        .flat_map(|dims| POOLS.map(|pool| (dims, pool)));
    for ((dims, pool), stride) in cases.flat_map(|case| [1, 2].map(|stride| (case, stride))) {
        let (x, window, eps) = (random(&dims, 1)?, three(stride), 1e-3);
        let (scale, shift) = (random(&dims[3..], 2)?, random(&dims[3..], 3)?);
        for affine in [None, Some((&scale, &shift))] {
            let (y, winners) = norm::pooled(&x, (pool, &window))?;
            let (z, moments) = batch_norm::forward_train(&y, affine, eps)?;
            let (found, which) = norm::forward_waiting(&x, (pool, &window), affine, eps)?;
            assert_eq!(values(&found.y)?, values(&y)?);
            let numbers =
                |winners: Option<Tensor>| winners.map(|winners| winners.flatten_all()?.to_vec1::<u8>());
            assert_eq!(numbers(which).transpose()?, numbers(winners.clone()).transpose()?);
            assert_tensors_close(&batch_norm::apply(&found.y, &found.by)?, &z, 1e-9)?;
            let gz = random(z.dims(), 4)?;
            let expected = batch_norm::backward(&y, &gz, affine, &moments)?;
            let gx = norm::pooled_gradient(&expected.x, winners.as_ref(), &dims, &window)?;
            let found = norm::backward(&gz, &dims, &window, winners.as_ref(), (&y, &moments), affine)?;
            assert_tensors_close(&found.x, &gx, 1e-9)?;
            let (sums, wanted) = (found.scale_shift, expected.scale_shift);
            assert_eq!(sums.is_some(), affine.is_some());
            for ((found, _), (wanted, _)) in sums.into_iter().zip(wanted) {
                assert_tensors_close(&found, &wanted, 1e-9)?;
            }
            let product = norm::probe(&gz, &x, (pool, &window), affine, eps)?.get()?;
            let wanted = batch_norm::dot(&gz, &y, &moments.channelwise(affine)?)?.get()?;
            assert!((product - wanted).abs() <= 1e-9 * (1.0 + wanted.abs()), "{product} {wanted}");
        }
    }
    Ok(())
}

#[test]
fn gradients_of_a_pool_with_its_norm_are_the_slopes_of_its_forward() -> Result<()> {
    let x = random(&[3, 4, 5, 2], 1)?;
    for (pool, stride) in POOLS.into_iter().flat_map(|pool| [(pool, 1), (pool, 2)]) {
        let window = three(stride);
        let forward = |x: &Tensor| {
            let (waiting, winners) = norm::forward_waiting(x, (pool, &window), None, 1e-3)?;
            Ok::<_, candle_core::Error>((batch_norm::apply(&waiting.y, &waiting.by)?, waiting, winners))
        };
        let (z, waiting, winners) = forward(&x)?;
        let gz = random(z.dims(), 2)?;
        let of = (&waiting.y, &waiting.moments);
        let found = norm::backward(&gz, x.dims(), &window, winners.as_ref(), of, None)?;
        assert_gradient(&x, &found.x, &gz, |x| Ok(forward(x)?.0))?;
    }
    Ok(())
}

#[test]
fn bytes_of_a_pool_with_its_norm_do_not_depend_on_threads() -> Result<()> {
    let x = random(&[21, 16, 16, 16], 1)?.to_dtype(candle_core::DType::F32)?;
    for pool in POOLS {
        assert_same_on_any_threads(|| {
            let run = || {
                let (waiting, winners) = norm::forward_waiting(&x, (pool, &three(1)), None, 1e-3)?;
                let of = (&waiting.y, &waiting.moments);
                let found = norm::backward(&x, x.dims(), &three(1), winners.as_ref(), of, None)?;
                let product = norm::probe(&x, &x, (pool, &three(1)), None, 1e-3)?.get()?;
                let all = [waiting.y, waiting.moments.mean, waiting.moments.inv_std, found.x];
                Ok::<_, candle_core::Error>((all.iter().map(values).collect::<Result<Vec<_>>>()?, product))
            };
            run().expect("the shapes fit")
        });
    }
    Ok(())
}

#[test]
fn maps_of_other_shapes_are_errors_of_a_pool_with_its_norm() -> Result<()> {
    let (x, window) = (random(&[2, 4, 4, 3], 1)?, three(2));
    let (waiting, winners) = norm::forward_waiting(&x, (Pool::Max, &window), None, 1e-3)?;
    let of = (&waiting.y, &waiting.moments);
    assert!(norm::backward(&x, x.dims(), &window, winners.as_ref(), of, None).is_err());
    assert!(norm::backward(&waiting.y, x.dims(), &three(1), winners.as_ref(), of, None).is_err());
    let beyond = Tensor::full(9u8, waiting.y.dims(), &Device::Cpu)?;
    let found = norm::backward(&waiting.y, x.dims(), &window, Some(&beyond), of, None);
    assert!(found.is_err_and(|error| error.to_string().contains("found tap 9, expected one below 9")));
    assert!(norm::probe(&x, &x, (Pool::Average, &window), None, 1e-3).is_err());
    assert!(norm::forward_waiting(&x, (Pool::Max, &three(2).shifted(5)), None, 1e-3).is_err());
    Ok(())
}

#[test]
fn a_narrow_map_is_pooled_as_its_numbers_are() {
    for ((isa, map), window) in sets()
        .flat_map(|isa| testing::maps().into_iter().map(move |map| (isa, map)))
        .flat_map(|case| [three(1), three(2)].map(|window| (case, window)))
    {
        let output = map.through(&window, map.c);
        let ((x, x32), (gy, gy32)) =
            (testing::narrow(&noise(map.len(), 1)), testing::narrow(&noise(output.len(), 2)));
        let ((y, winners), (y32, winners32)) =
            (maximum::max(isa, &x, &map, &output, &window), maximum::max(isa, &x32, &map, &output, &window));
        testing::assert_rounded(&y, &y32);
        assert_eq!(winners, winners32);
        let gx = maximum::max_gradient(isa, &gy32, &winners, &map, &output, &window);
        testing::assert_rounded(&maximum::max_gradient(isa, &gy, &winners, &map, &output, &window), &gx);
        let y = mean::average(isa, &x32, &map, &output, &window);
        testing::assert_rounded(&mean::average(isa, &x, &map, &output, &window), &y);
        let gx = mean::average_gradient(isa, &gy32, &map, &output, &window);
        testing::assert_rounded(&mean::average_gradient(isa, &gy, &map, &output, &window), &gx);
        let parts = map.with_pixels(1, 1);
        let y = adaptive::average(&x32, &map, &parts);
        testing::assert_rounded(&adaptive::average(&x, &map, &parts), &y);
        let (gy, gy32) = testing::narrow(&noise(parts.len(), 3));
        let gx = adaptive::average_gradient(&gy32, &map, &parts);
        testing::assert_rounded(&adaptive::average_gradient(&gy, &map, &parts), &gx);
    }
}
