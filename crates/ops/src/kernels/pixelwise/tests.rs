use candle_core::{DType, WithDType};

use super::{
    readers::{Read, Reader},
    *,
};
use crate::kernels::{conv, sum, testing::*};

const EPS: f64 = 1e-3;

fn windows(stride: (usize, usize)) -> [Window; 2] {
    let window = Window::same((1, 1), stride, (1, 1));
    [window, Window { pad: (1 - stride.0 as isize, 1 - stride.1 as isize), ..window }]
}

/// One convolution after the other, joined and normalized, is the specification: even and odd sides, one image and several,
/// one map and several, images and series, strides of 2 and 3.
#[test]
fn convolutions_beside_each_other_are_those_one_by_one() -> Result<()> {
    let sizes: [(&[usize], (usize, usize)); 7] = [
        (&[3, 8, 8], (2, 2)),
        (&[1, 7, 5], (2, 2)),
        (&[9, 2, 34], (2, 2)),
        (&[2, 1, 1], (2, 2)),
        (&[2, 9, 7], (3, 3)),
        (&[5, 12], (1, 2)),
        (&[2, 7], (1, 2)),
    ];
    for ((pixels, stride), maps) in sizes.into_iter().flat_map(|size| [(size, 1), (size, 3), (size, 6)]) {
        let xs = (0..maps).map(|i| random(&[pixels, &[16]].concat(), i)).collect::<Result<Vec<_>>>()?;
        let (x, windows) = (sum::join(&xs)?, windows(stride));
        let ws = [random(&[1, 1, 16 * maps as usize, 32], 5)?, random(&[1, 1, 16 * maps as usize, 16], 6)?];
        let convolutions: Vec<_> =
            ws.iter().zip(&windows).map(|(w, window)| Convolution { w, window }).collect();
        let (scale, shift) = (random(&[48], 7)?, random(&[48], 8)?);
        let affine = Some((&scale, &shift));
        assert!(fits(&xs, &convolutions)?);
        for prelude in [Prelude::Identity, Prelude::Relu] {
            let one_by_one = ws.iter().zip(&windows).map(|(w, window)| conv::forward(&x, w, window, prelude));
            let y = sum::join(&one_by_one.collect::<Result<Vec<_>>>()?)?;
            let (moments, _) = batch_norm::forward_waiting(&y, affine, EPS)?;
            let found = forward_waiting(&xs, &convolutions, prelude, affine, EPS)?;
            assert_tensors_close(&found.y, &y, 1e-12)?;
            assert_tensors_close(&found.moments.var_unbiased, &moments.var_unbiased, 1e-12)?;
            let gz = random(y.dims(), 9)?;
            if let [x] = &xs[..] {
                let probed = probe(&gz, x, &convolutions, prelude, affine, EPS)?.get()?;
                let z = batch_norm::apply(&y, &found.by)?;
                assert_close(&[probed], &[sum::dot(&gz, &z)?], 1e-10);
            }
            let through = batch_norm::backward(&y, &gz, affine, &moments)?;
            let gys = sum::split_channels(&through.x, &[32, 16])?;
            let (mut gx, mut gws) = (x.zeros_like()?, Vec::new());
            for ((gy, w), window) in gys.iter().zip(&ws).zip(&windows) {
                gx = sum::add(&gx, &conv::input_gradient(gy, w, &x, window, prelude)?)?;
                gws.push(conv::weight_gradient(&x, gy, window, prelude)?);
            }
            for wanted in [Wanted::Input, Wanted::Weights, Wanted::Both] {
                let found =
                    backward(&gz, &xs, &convolutions, prelude, (&found.y, &found.moments), affine, wanted)?;
                assert_eq!(found.xs.is_some(), wanted != Wanted::Weights);
                assert_eq!(found.ws.is_some(), wanted != Wanted::Input);
                if let Some(gxs) = found.xs {
                    assert_tensors_close(&sum::join(&gxs)?, &gx, 1e-10)?;
                }
                for (found, expected) in found.ws.iter().flatten().zip(&gws) {
                    assert_tensors_close(found, expected, 1e-10)?;
                }
                let (of_scale, of_shift) = found.scale_shift.expect("a scale was given");
                let (scale, shift) = through.scale_shift.as_ref().expect("a scale was given");
                assert_tensors_close(&of_scale, scale, 1e-10)?;
                assert_tensors_close(&of_shift, shift, 1e-10)?;
            }
        }
    }
    Ok(())
}

/// Every set in `f32` against the portable one in `f64`: as many pixels as fill blocks and pieces, or not; one map and
/// several, of one vector of channels and of two, which become few and many; with strides and without, and outputs cut apart.
#[test]
fn every_instruction_set_agrees() -> Result<()> {
    let sizes = [(1, 1, 1), (5, 3, 5), (2, 33, 31), (5, 9, 12)];
    let channels = [(1, 16, 16), (3, 16, 32), (2, 32, 16), (9, 32, 48)];
    for (size, channels) in sizes.into_iter().flat_map(|size| channels.map(|channels| (size, channels))) {
        for (stride, cut) in
            [((1, 1), false), ((2, 2), false), ((1, 1), channels.2 > 16), ((2, 2), channels.2 > 16)]
        {
            let expected = run_all(Isa::Portable, DType::F64, size, channels, stride, cut)?;
            for isa in sets() {
                let found = run_all(isa, DType::F32, size, channels, stride, cut)?;
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(&expected) {
                    assert_close(found, expected, 5e-5);
                }
            }
        }
    }
    Ok(())
}

/// Outputs and gradients of all that is computed, and the gradients at the maps where these alone are wanted; the output of an
/// only convolution perhaps cut into a map of 16 channels and the rest.
fn run_all(
    isa: Isa,
    dtype: DType,
    (n, h, w): (usize, usize, usize),
    (maps, c, to): (usize, usize, usize),
    stride: (usize, usize),
    cut: bool,
) -> Result<Vec<Vec<f64>>> {
    let cast = |dims: &[usize], seed| random(dims, seed)?.to_dtype(dtype);
    let xs = (0..maps).map(|i| cast(&[n, h, w, c], i as u64)).collect::<Result<Vec<_>>>()?;
    let paths = if stride == (1, 1) || cut { 1 } else { 2 };
    let windows = &windows(stride)[..paths];
    let ws = (0..paths).map(|p| cast(&[1, 1, maps * c, to], 20 + p as u64)).collect::<Result<Vec<_>>>()?;
    let convolutions: Vec<_> = ws.iter().zip(windows).map(|(w, window)| Convolution { w, window }).collect();
    let (h, w, to) = (h.div_ceil(stride.0), w.div_ceil(stride.1), paths * to);
    let outs = if cut { vec![16, to - 16] } else { vec![to] };
    let gzs = outs.iter().map(|c| cast(&[n, h, w, *c], 30 + *c as u64)).collect::<Result<Vec<_>>>()?;
    let bias = cast(&[to], 29)?;
    for_real!(bias, T => {
        let mut layout = Layout::fitting::<T>(&xs, &convolutions, isa)?;
        if cut {
            layout = layout.cut(outs.clone(), lanes::<T>(isa)).expect("16 channels are whole vectors");
        }
        let dense = Dense::of(&xs, &convolutions)?;
        let (xs, ws) = dense.values::<T>()?;
        let pixelwise = Pixelwise::new(isa, &layout, Prelude::Relu, &xs, &ws);
        let outputs = pixelwise.forward(Some(&Values::<T>::of(&bias)?));
        let mut all: Vec<_> = outputs.into_iter().map(|(y, _)| y).collect();
        let (ys, gzs) = (all.clone(), values_of::<T>(&gzs)?);
        let through: Vec<_> = outs.iter().map(|c| batch_norm::Through::of_constants(*c, *c as f64 / 32.0)).collect();
        let returning: Vec<_> = (ys.iter().zip(&gzs).zip(&through))
            .map(|((y, gz), through)| Returning { y, gz, through })
            .collect();
        for wanted in [Wanted::Both, Wanted::Input, Wanted::Weights] {
            let (gxs, gws) = pixelwise.backward(&returning, wanted);
            all.extend(gxs.into_iter().chain(gws).flatten());
        }
        Ok(all.into_iter().map(|values| values.into_iter().map(|x| x.to_f64()).collect()).collect())
    })
}

/// As everywhere: a NaN goes on, and gets no gradient.
#[test]
fn nan_passes_a_relu_and_not_its_mask() -> Result<()> {
    for isa in sets() {
        for (dtype, to) in [(DType::F32, 16), (DType::F32, 32), (DType::F64, 32)] {
            let mut x = noise(32, 1);
            (x[3], x[4], x[20]) = (f64::NAN, -1.0, f64::NAN);
            let xs = [Tensor::new(&x[..], &candle_core::Device::Cpu)?.reshape((2, 16))?.to_dtype(dtype)?];
            let w = Tensor::ones((1, 1, 16, to), dtype, xs[0].device())?;
            let window = Window::same((1, 1), (1, 1), (1, 1));
            for_real!(w, T => {
                let convolutions = [Convolution { w: &w, window: &window }];
                let layout = Layout::fitting::<T>(&xs, &convolutions, isa)?;
                let dense = Dense::of(&xs, &convolutions)?;
                let (xs, ws) = dense.values::<T>()?;
                let pixelwise = Pixelwise::new(isa, &layout, Prelude::Relu, &xs, &ws);
                let (y, _) = only(pixelwise.forward(None));
                assert!(y.iter().all(|y| y.is_nan()));
                let (y, gz) = (vec![T::ONE; 2 * to], vec![T::ONE; 2 * to]);
                let through = batch_norm::Through::of_constants(to, 0.5);
                let returning = [Returning { y: &y, gz: &gz, through: &through }];
                let (gxs, _) = pixelwise.backward(&returning, Wanted::Input);
                let gx = &gxs.expect("it was wanted")[0];
                assert!(gx[3] == T::ZERO && gx[4] == T::ZERO && gx[20] == T::ZERO);
                assert!(gx.iter().zip(&x).all(|(&gx, &x)| (gx != T::ZERO) == (x > 0.0)));
            });
        }
    }
    Ok(())
}

#[test]
fn bytes_do_not_depend_on_threads() {
    for (stride, cut) in [((1, 1), false), ((2, 2), false), ((1, 1), true)] {
        assert_same_on_any_threads(|| {
            run_all(Isa::detect(), DType::F32, (21, 8, 8), (2, 16, 32), stride, cut).expect("the shapes fit")
        });
    }
}

/// A wider kernel, a window that reaches out, unlike strides, one pixel read twice, channels that fill no vector.
#[test]
fn other_convolutions_do_not_fit() -> Result<()> {
    let x = random(&[2, 6, 6, 16], 1)?.to_dtype(DType::F32)?;
    let w = random(&[1, 1, 16, 16], 2)?.to_dtype(DType::F32)?;
    let [window, shifted] = windows((2, 2));
    let fits = |x: &Tensor, w: &Tensor, windows: [&Window; 2]| {
        fits(std::slice::from_ref(x), &windows.map(|window| Convolution { w, window }))
    };
    assert!(fits(&x, &w, [&window, &shifted])?);
    assert!(!fits(&x, &w, [&window, &window])?);
    assert!(!fits(&x, &w, [&window, &Window { pad: (1, 1), ..window }])?);
    assert!(!fits(&x, &w, [&window, &Window { stride: (2, 1), ..shifted }])?);
    let wide = random(&[3, 3, 16, 16], 3)?.to_dtype(DType::F32)?;
    assert!(!fits(&x, &wide, [&window, &shifted])?);
    assert!(!fits(&x, &Tensor::zeros((1, 1, 16, 0), DType::F32, x.device())?, [&window, &shifted])?);
    assert!(!fits(&x, &w, [&window, &Window { pad: (isize::MIN, 0), ..window }])?);
    let few = random(&[1, 1, 16, 5], 3)?.to_dtype(DType::F32)?;
    assert!(!fits(&x, &few, [&window, &shifted])?);
    let narrow = random(&[2, 6, 6, 3], 1)?.to_dtype(DType::F32)?;
    assert!(!fits(&narrow, &random(&[1, 1, 3, 16], 4)?.to_dtype(DType::F32)?, [&window, &shifted])?);
    let other = fits(&narrow, &w, [&window, &shifted]).expect_err("weights of other channels");
    assert!(other.to_string().contains("found weights for 16 channels, expected 3"), "{other}");
    let xs = std::slice::from_ref(&narrow);
    let convolution = [Convolution { w: &random(&[1, 1, 3, 16], 4)?.to_dtype(DType::F32)?, window: &window }];
    assert!(forward_waiting(xs, &convolution, Prelude::Relu, None, EPS).is_err());
    assert!(forward_waiting(xs, &[], Prelude::Relu, None, EPS).is_err());
    Ok(())
}

#[test]
fn narrow_maps_are_convolved_as_their_numbers_are() -> Result<()> {
    for (maps, c, to, stride) in
        [(1, 16, 16, (1, 1)), (3, 16, 32, (1, 1)), (2, 32, 16, (2, 2)), (4, 16, 16, (2, 2))]
    {
        let paths = if stride == (1, 1) { 1 } else { 2 };
        let windows = &windows(stride)[..paths];
        let ws = (0..paths).map(|p| random(&[1, 1, maps * c, to], p as u64)?.to_dtype(DType::F32));
        let ws = ws.collect::<Result<Vec<_>>>()?;
        let convolutions: Vec<_> =
            ws.iter().zip(windows).map(|(w, window)| Convolution { w, window }).collect();
        let xs = (0..maps).map(|i| random(&[3, 7, 5, c], 10 + i as u64)?.to_dtype(DType::BF16));
        let xs = xs.collect::<Result<Vec<_>>>()?;
        let xs32 = xs.iter().map(|x| x.to_dtype(DType::F32)).collect::<Result<Vec<_>>>()?;
        let (dense, dense32) = (Dense::of(&xs, &convolutions)?, Dense::of(&xs32, &convolutions)?);
        let ((xs, ws), (xs32, _)) = (dense.values::<half::bf16>()?, dense32.values::<f32>()?);
        let through = batch_norm::Through::of_constants(paths * to, 0.5);
        for (isa, prelude) in
            sets().flat_map(|isa| [Prelude::Identity, Prelude::Relu].map(|prelude| (isa, prelude)))
        {
            let layout = Layout::fitting::<f32>(&dense.xs, &convolutions, isa)?;
            let pixelwise = Pixelwise::new(isa, &layout, prelude, &xs, &ws);
            let pixelwise32 = Pixelwise::new(isa, &layout, prelude, &xs32, &ws);
            let (y32, _) = only(pixelwise32.forward(None));
            assert_multiplied(isa, &only(pixelwise.forward(None)).0, &y32);
            let ((y, y32), (gz, gz32)) = (narrow(&noise(y32.len(), 8)), narrow(&noise(y32.len(), 9)));
            for wanted in [Wanted::Both, Wanted::Input, Wanted::Weights] {
                let returning = [Returning { y: &y, gz: &gz, through: &through }];
                let (gxs, gws) = pixelwise.backward(&returning, wanted);
                let returning = [Returning { y: &y32, gz: &gz32, through: &through }];
                let (gxs32, gws32) = pixelwise32.backward(&returning, wanted);
                assert_multiplied(
                    isa,
                    &gxs.unwrap_or_default().concat(),
                    &gxs32.unwrap_or_default().concat(),
                );
                assert_eq!(gws, gws32);
            }
        }
    }
    Ok(())
}

/// Each convolution and its norm alone are the specification: of one map and of several, images and series, with and without
/// scale and shift, as many channels as the input has and more, in `f64` and narrow.
#[test]
fn readers_are_what_each_is_alone() -> Result<()> {
    let sizes: [&[usize]; 4] = [&[3, 8, 8], &[1, 7, 5], &[5, 12], &[2, 33, 31]];
    let cases =
        [(1, 16, 2, DType::F64), (4, 16, 2, DType::F64), (1, 48, 3, DType::F64), (3, 32, 2, DType::BF16)];
    for (pixels, (maps, to, n, dtype)) in sizes.into_iter().flat_map(|size| cases.map(|case| (size, case))) {
        let (weights, within, sums_within) = match dtype {
            DType::BF16 => (DType::F32, 3e-2, 1e-4),
            _ => (dtype, 1e-10, 1e-10),
        };
        let cast = |dims: &[usize], seed| random(dims, seed)?.to_dtype(dtype);
        let xs = (0..maps).map(|i| cast(&[pixels, &[16]].concat(), i)).collect::<Result<Vec<_>>>()?;
        let window = Window::same((1, 1), (1, 1), (1, 1));
        let of_each = |dims: &[usize], first: u64| {
            let dims = |i: usize| [dims, &[to + 16 * (i % 2)]].concat(); // not all alike
            (0..n).map(|i| random(&dims(i), first + i as u64)?.to_dtype(weights)).collect::<Result<Vec<_>>>()
        };
        let ws = of_each(&[1, 1, 16 * maps as usize], 20)?;
        let (scales, shifts) = (of_each(&[], 30)?, of_each(&[], 40)?);
        let gzs = of_each(pixels, 50)?.iter().map(|gz| gz.to_dtype(dtype)).collect::<Result<Vec<_>>>()?;
        for (prelude, affine) in [(Prelude::Relu, false), (Prelude::Identity, true)] {
            let of = |i: usize| affine.then(|| (&scales[i], &shifts[i]));
            let all: Vec<_> = ws.iter().enumerate().map(|(i, w)| Reader { w, scale_shift: of(i) }).collect();
            let found =
                readers::forward_waiting(&xs, &all, &window, prelude, EPS)?.expect("channels fill vectors");
            let alone = ws.iter().enumerate().map(|(i, w)| {
                forward_waiting(&xs, &[Convolution { w, window: &window }], prelude, of(i), EPS)
            });
            let alone = alone.collect::<Result<Vec<_>>>()?;
            for (found, alone) in found.iter().zip(&alone) {
                assert_tensors_close(&found.y, &alone.y, within)?;
                assert_tensors_close(&found.moments.mean, &alone.moments.mean, within)?;
                assert_tensors_close(&found.by.factor, &alone.by.factor, within)?;
            }
            let reads: Vec<_> = (found.iter().zip(&gzs))
                .map(|(Waiting { y, moments, .. }, gz)| Read { y, moments, gz })
                .collect();
            for wanted in [Wanted::Input, Wanted::Weights, Wanted::Both] {
                let found = readers::backward(&xs, &all, &reads, &window, prelude, wanted)?;
                let readers::Gradients { xs: gxs, of: of_each } = found.expect("channels fill vectors");
                let mut sums: Option<Vec<Tensor>> = None;
                for (i, (of, w)) in of_each.iter().zip(&ws).enumerate() {
                    let convolution = [Convolution { w, window: &window }];
                    let kept = (reads[i].y, reads[i].moments);
                    let alone =
                        backward(&gzs[i], &xs, &convolution, prelude, kept, all[i].scale_shift, wanted)?;
                    assert_eq!(of.w.is_some(), wanted != Wanted::Input);
                    if let (Some(w), Some(alone)) = (&of.w, &alone.ws) {
                        assert_tensors_close(w, &alone[0], sums_within)?;
                    }
                    assert_eq!(of.scale_shift.is_some(), affine);
                    if let (Some(of), Some(alone)) = (&of.scale_shift, &alone.scale_shift) {
                        assert_tensors_close(&of.0, &alone.0, sums_within)?;
                        assert_tensors_close(&of.1, &alone.1, sums_within)?;
                    }
                    sums = match (sums, alone.xs) {
                        (Some(sums), Some(gxs)) => {
                            Some(sums.iter().zip(&gxs).map(|(a, b)| sum::add(a, b)).collect::<Result<_>>()?)
                        }
                        (sums, gxs) => sums.or(gxs),
                    };
                }
                assert_eq!(gxs.is_some(), wanted != Wanted::Weights);
                for (gx, sum) in gxs.iter().flatten().zip(sums.iter().flatten()) {
                    assert_tensors_close(gx, sum, within)?;
                }
            }
        }
    }
    Ok(())
}

/// Channels that fill no vector once they are cut apart, other windows: nothing. Weights for other inputs, none at all, a gradient
/// too few: errors.
#[test]
fn other_readers_do_not_fit() -> Result<()> {
    let cast = |dims: &[usize], seed| random(dims, seed)?.to_dtype(DType::F32);
    let (x, window) = (cast(&[2, 6, 6, 16], 1)?, Window::same((1, 1), (1, 1), (1, 1)));
    let xs = std::slice::from_ref(&x);
    let forward = |ws: &[&Tensor], window: &Window| {
        let all: Vec<_> = ws.iter().map(|w| Reader { w, scale_shift: None }).collect();
        readers::forward_waiting(xs, &all, window, Prelude::Relu, EPS)
    };
    let (w, other, few) = (cast(&[1, 1, 16, 16], 2)?, cast(&[1, 1, 32, 16], 3)?, cast(&[1, 1, 16, 8], 4)?);
    let found = forward(&[&w, &w], &window)?.expect("they fit");
    let wide = cast(&[3, 3, 16, 16], 5)?;
    assert!(forward(&[&wide, &wide], &Window::same((3, 3), (1, 1), (1, 1)))?.is_none());
    assert!(forward(&[&few, &w], &window)?.is_none() || lanes::<f32>(Isa::detect()) <= 8);
    assert!(forward(&[&w, &other], &window).is_err());
    assert!(forward(&[], &window).is_err());
    let all = [Reader { w: &w, scale_shift: None }; 2];
    let one = [Read { y: &found[0].y, moments: &found[0].moments, gz: &x }];
    assert!(readers::backward(xs, &all, &one, &window, Prelude::Relu, Wanted::Both).is_err());
    Ok(())
}
