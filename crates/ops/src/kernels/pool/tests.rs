use candle_core::{Device, Result, Tensor};

use super::*;
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
        let (y, winners) = cpu::max(Isa::Portable, &x, &map, &output, &window);
        let gx = cpu::max_gradient(Isa::Portable, &gy, &winners, &map, &output, &window);
        let (x32, gy32) = (cast::<f32>(&x), cast::<f32>(&gy));
        let (y32, winners32) = cpu::max(isa, &x32, &map, &output, &window);
        assert_eq!(winners32, winners);
        assert_close(&y32, &y, 1e-6);
        assert_close(&cpu::max_gradient(isa, &gy32, &winners, &map, &output, &window), &gx, 1e-6);
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
