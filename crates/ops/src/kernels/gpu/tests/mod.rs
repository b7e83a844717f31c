//! What the kernels of a device compute, emulated here, is what those of the CPU compute.

mod matrix;

use candle_core::{DType, Device, Result, Tensor};

#[cfg(feature = "cuda")]
use super::Text;
use super::{Arg, Gpu, Grid, KERNELS, computed_in, emulate, emulated::MISTAKES, waits};
use crate::kernels::{
    Later, Prelude, Window, activation, batch, batch_norm, bias, conv, conv_norm, depthwise, linear, loss,
    map::Map,
    pool, separable, shuffle, sum,
    testing::{assert_tensors_close, maps, random, windows},
    update::{self, AdamStep, SgdStep},
};

const PRELUDES: [Prelude; 2] = [Prelude::Identity, Prelude::Relu];

/// Of the largest magnitude: what rounding an input or a result to bf16 may cost, twice.
const BF16: f64 = 1.0 / 256.0;

/// Compares what `f` makes of `inputs` here and on an emulated device, in both precisions and, but for the inputs
/// numbered in `weights`, with maps in bf16. Where the machine has no compiler for the kernels it says so.
#[track_caller]
fn agrees(inputs: &[Tensor], weights: &[usize], f: impl Fn(&[Tensor]) -> Result<Vec<Tensor>>) -> Result<()> {
    agrees_within(BF16, inputs, weights, f)
}

/// [`agrees`], where bf16 is rounded to more often: a convolution's weights on their way, maps between two kernels.
#[track_caller]
fn agrees_within(
    bf16: f64,
    inputs: &[Tensor],
    weights: &[usize],
    f: impl Fn(&[Tensor]) -> Result<Vec<Tensor>>,
) -> Result<()> {
    for (maps, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-5), (DType::BF16, bf16)] {
        let stored = |i: usize| if weights.contains(&i) { computed_in(maps) } else { maps };
        let cast = |x: &Tensor, dtype| if x.dtype().is_float() { x.to_dtype(dtype) } else { Ok(x.clone()) };
        let inputs =
            inputs.iter().enumerate().map(|(i, x)| cast(x, stored(i))).collect::<Result<Vec<_>>>()?;
        let expected = f(&inputs.iter().map(|x| cast(x, DType::F64)).collect::<Result<Vec<_>>>()?)?;
        let found = emulate(|| f(&inputs))?;
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.dtype().is_float(), expected.dtype().is_float());
            assert_tensors_close(found, expected, tolerance)?;
        }
    }
    Ok(())
}

/// NVRTC needs no device: all kernels become PTX for the oldest devices that this CUDA knows, and for those of today.
#[cfg(feature = "cuda")]
#[test]
fn nvrtc_accepts_every_kernel() -> Result<()> {
    let texts = [Text::F32, Text::Tf32, Text::Bf16, Text::F64];
    for (text, capability) in texts.into_iter().flat_map(|text| [(text, (8, 0)), (text, (9, 0))]) {
        let ptx = super::nvidia::compile(text, capability)?;
        for kernel in KERNELS {
            assert!(ptx.contains(&format!(".entry {kernel}(")), "{kernel} is missing");
        }
    }
    Ok(())
}

/// Leaves a test that nothing can be emulated for.
macro_rules! needs_a_compiler {
    () => {
        if let Some(reason) = $crate::kernels::gpu::unavailable() {
            eprintln!("{reason}");
            return Ok(());
        }
    };
}
use needs_a_compiler;

/// Batches of odd shapes, and one with more pixels and channels than a tile has.
fn all_maps() -> Vec<Map> {
    let mut maps = maps();
    maps.push(Map { n: 2, h: 13, w: 11, c: 37, rank: 4 });
    maps
}

/// Input, weights, bias, and the gradient at the output.
fn convolution(map: &Map, window: &Window, c_out: usize) -> Result<[Tensor; 4]> {
    let (kh, kw) = window.kernel;
    Ok([
        random(&map.dims(), 1)?,
        random(&[kh, kw, map.c, c_out], 2)?,
        random(&[c_out], 3)?,
        random(&pixels(map, window, c_out), 4)?,
    ])
}

fn pixels(map: &Map, window: &Window, c: usize) -> Vec<usize> {
    map.through(window, c).dims()
}

#[test]
fn elements_agree() -> Result<()> {
    needs_a_compiler!();
    for dims in [vec![1], vec![3, 7], vec![2, 5, 3, 17]] {
        let (x, gy) = ((random(&dims, 1)? * 9.0)?, random(&dims, 2)?);
        agrees(&[x, gy], &[], |of| {
            Ok(vec![
                activation::relu(&of[0])?,
                activation::relu6(&of[0])?,
                activation::relu_gradient(&of[0], &of[1])?,
                activation::relu6_gradient(&of[0], &of[1])?,
            ])
        })?;
    }
    Ok(())
}

#[test]
fn convolutions_agree() -> Result<()> {
    needs_a_compiler!();
    for (map, c_out) in all_maps().into_iter().zip([2, 5, 19, 40, 67]) {
        let few = if map.c > 30 { 2 } else { windows().len() }; // an emulated product takes its time
        for (window, prelude) in windows().into_iter().take(few).zip(PRELUDES.into_iter().cycle()) {
            let inputs = convolution(&map, &window, c_out)?;
            agrees_within(2.0 * BF16, &inputs, &[1, 2], |of| {
                let (gw, gb) = conv::weight_and_bias_gradients(&of[0], &of[3], &window, prelude)?;
                Ok(vec![
                    conv::forward(&of[0], &of[1], &window, prelude)?,
                    conv::forward_biased(&of[0], &of[1], &of[2], &window, prelude)?,
                    conv::input_gradient(&of[3], &of[1], &of[0], &window, prelude)?,
                    conv::weight_gradient(&of[0], &of[3], &window, prelude)?,
                    gw,
                    gb,
                ])
            })?;
        }
    }
    Ok(())
}

/// As large as makes several slices of pixels and every size of tile: 64 × 64 from 33 channels and 8,192 pixels on.
#[test]
fn large_convolutions_agree() -> Result<()> {
    needs_a_compiler!();
    for (dims, c_out, kernel) in [([3, 31, 31, 3], 16, 3), ([9, 31, 31, 2], 20, 1), ([9, 31, 31, 2], 34, 1)] {
        let window = Window::same((kernel, kernel), (1, 1), (1, 1));
        let [n, h, w, c] = dims;
        let inputs =
            [random(&dims, 1)?, random(&[kernel, kernel, c, c_out], 2)?, random(&[n, h, w, c_out], 3)?];
        agrees_within(2.0 * BF16, &inputs, &[1], |of| {
            Ok(vec![
                conv::forward(&of[0], &of[1], &window, Prelude::Relu)?,
                conv::input_gradient(&of[2], &of[1], &of[0], &window, Prelude::Relu)?,
                conv::weight_gradient(&of[0], &of[2], &window, Prelude::Relu)?,
            ])
        })?;
        // The gradient at the inputs has the tiles of its own columns.
        let inputs =
            [random(&[n, h, w, c_out], 1)?, random(&[1, 1, c_out, c], 2)?, random(&[n, h, w, c], 3)?];
        let point = Window::same((1, 1), (1, 1), (1, 1));
        agrees_within(2.0 * BF16, &inputs, &[1], |of| {
            Ok(vec![conv::input_gradient(&of[2], &of[1], &of[0], &point, Prelude::Identity)?])
        })?;
    }
    Ok(())
}

#[test]
fn linear_layers_agree() -> Result<()> {
    needs_a_compiler!();
    let inputs = [random(&[7, 33], 1)?, random(&[33, 10], 2)?, random(&[10], 3)?, random(&[7, 10], 4)?];
    agrees(&inputs, &[1, 2], |of| {
        let (gw, gb) = linear::weight_gradient(&of[0], &of[3])?;
        let y = linear::forward(&of[0], &of[1], &of[2])?;
        Ok(vec![y, linear::input_gradient(&of[3], &of[1])?, gw, gb])
    })
}

#[test]
fn depthwise_convolutions_agree() -> Result<()> {
    needs_a_compiler!();
    for map in all_maps() {
        for (window, prelude) in windows().into_iter().zip(PRELUDES.into_iter().cycle()) {
            let (kh, kw) = window.kernel;
            let inputs = [
                random(&map.dims(), 1)?,
                random(&[kh, kw, map.c], 2)?,
                random(&pixels(&map, &window, map.c), 3)?,
            ];
            agrees(&inputs, &[1], |of| {
                Ok(vec![
                    depthwise::forward(&of[0], &of[1], &window, prelude)?,
                    depthwise::input_gradient(&of[2], &of[1], &of[0], &window, prelude)?,
                    depthwise::weight_gradient(&of[0], &of[2], &window, prelude)?,
                ])
            })?;
        }
    }
    Ok(())
}

#[test]
fn batch_norms_agree() -> Result<()> {
    needs_a_compiler!();
    let large = Map { n: 33, h: 16, w: 16, c: 3, rank: 4 }; // whose rows several blocks share
    for map in all_maps().into_iter().chain([large]) {
        let c = map.c;
        let inputs = [
            (random(&map.dims(), 1)? + 5.0)?,
            random(&map.dims(), 2)?,
            random(&[c], 3)?,
            random(&[c], 4)?,
            (random(&[c], 5)?.sqr()? + 0.5)?,
        ];
        agrees(&inputs, &[2, 3, 4], |of| {
            let [x, gy, scale, shift, var] = of else { unreachable!("five inputs") };
            let mut all = vec![bias::gradient(gy)?];
            for affine in [None, Some((scale, shift))] {
                let (y, moments) = batch_norm::forward_train(x, affine, 1e-5)?;
                let found = batch_norm::backward(x, gy, affine, &moments)?;
                let product = found.product.expect("the sums give it").get()?;
                all.extend([y, found.x, moments.mean, moments.var_unbiased]);
                all.push(Tensor::new(&[product], &Device::Cpu)?);
                all.extend(found.scale_shift.into_iter().flat_map(|(scale, shift)| [scale, shift]));
                all.push(batch_norm::forward_eval(x, affine, shift, var, 1e-5)?);
                all.push(batch_norm::backward_eval(gy, affine.map(|(scale, _)| scale), var, 1e-5)?);
            }
            // One row has no spread: its inverse root is large, and so is every error of its mean.
            if map.len() == c {
                all.truncate(1);
            }
            Ok(all)
        })?;
    }
    Ok(())
}

#[test]
fn pools_agree() -> Result<()> {
    needs_a_compiler!();
    for map in all_maps() {
        for window in windows() {
            let x = (random(&map.dims(), 1)? * 3.0)?.round()?; // with ties
            let inputs = [x, random(&pixels(&map, &window, map.c), 2)?];
            if pool::max(&inputs[0], &window).is_err() {
                continue; // a window wholly outside of the map
            }
            agrees(&inputs, &[], |of| {
                let (y, winners) = pool::max(&of[0], &window)?;
                let gx = pool::max_gradient(&of[1], &winners, &map.dims(), &window)?;
                let mean = pool::average(&of[0], &window)?;
                Ok(vec![y, winners, gx, mean, pool::average_gradient(&of[1], &map.dims(), &window)?])
            })?;
        }
        for parts in [(1, 1), (2, 2), (1, 3)] {
            let inputs = [random(&map.dims(), 1)?, random(&[map.n, parts.0, parts.1, map.c], 2)?];
            agrees(&inputs, &[], |of| {
                let y = pool::adaptive_average(&of[0], parts)?;
                Ok(vec![y, pool::adaptive_average_gradient(&of[1], &map.dims())?])
            })?;
        }
        let inputs = [random(&map.dims(), 1)?, random(&[map.n, map.c], 2)?];
        agrees(&inputs, &[], |of| {
            Ok(vec![pool::global_average(&of[0])?, pool::global_average_gradient(&of[1], &map.dims())?])
        })?;
    }
    Ok(())
}

#[test]
fn composed_kernels_agree() -> Result<()> {
    needs_a_compiler!();
    let map = Map { n: 3, h: 6, w: 5, c: 9, rank: 4 };
    let across = Window::same((3, 3), (2, 2), (1, 1));
    let point = Window::same((1, 1), (1, 1), (1, 1));
    let between = map.through(&across, 9);
    let inputs = [
        random(&map.dims(), 1)?,
        random(&[3, 3, 9], 2)?,
        random(&[1, 1, 9, 7], 3)?,
        random(&[7], 4)?,
        random(&between.through(&point, 7).dims(), 5)?,
        random(&[3, 3, 9, 7], 6)?,
    ];
    agrees_within(4.0 * BF16, &inputs, &[1, 2, 3, 5], |of| {
        let [x, d, w, vector, gz, dense] = of else { unreachable!("six inputs") };
        let affine = Some((vector, vector));
        let convolutions = separable::Convolutions {
            norm: None,
            d,
            across: &across,
            prelude: Prelude::Relu,
            w,
            bias: Some(vector),
            window: &point,
        };
        let made = separable::forward_train(x, convolutions, affine, 1e-3)?;
        let of = (&made.y, &made.moments);
        let found = separable::backward(gz, x, convolutions, of, affine, conv::Wanted::Both, None)?;
        let (gd, gw) = found.weights.expect("both are wanted");
        let mut all = vec![made.y.clone(), made.z, found.x.expect("both are wanted"), gd, gw];
        let made = conv_norm::forward_train(x, (dense, Some(vector)), affine, 1e-3, &across, Prelude::Relu)?;
        let found = conv_norm::backward(
            gz,
            x,
            dense,
            &made.y,
            affine,
            &made.moments,
            &across,
            Prelude::Relu,
            conv::Wanted::Both,
        )?;
        all.extend([made.z, found.x.expect("both are wanted"), found.w.expect("both are wanted")]);
        let (of_scale, of_shift) = found.scale_shift.expect("there is a scale");
        all.extend([of_scale, of_shift]);
        let probes = [
            separable::probe(gz, x, convolutions, affine, 1e-3)?.get()?,
            conv_norm::probe(gz, x, (dense, Some(vector)), affine, 1e-3, &across, Prelude::Relu)?.get()?,
        ];
        all.push(Tensor::new(&probes, &Device::Cpu)?);
        Ok(all)
    })
}

#[test]
fn sums_agree() -> Result<()> {
    needs_a_compiler!();
    let dims = [3, 5, 4, 6];
    let inputs = (1..=6).map(|seed| random(&dims, seed)).collect::<Result<Vec<_>>>()?;
    agrees(&inputs, &[], |of| {
        let term = |(i, x): (usize, &'_ Tensor)| (i as f64 - 1.5, x.clone());
        let weighted: Vec<(f64, Tensor)> = of.iter().enumerate().map(term).collect();
        let weighted: Vec<sum::Term<'_>> =
            weighted.iter().map(|(factor, x)| sum::Term { factor: *factor, x, norm: None }).collect();
        let all: Vec<&Tensor> = of.iter().collect();
        let mut made = vec![
            sum::add(&of[0], &of[1])?,
            sum::weighted(&weighted[..1])?,
            sum::weighted(&weighted)?,
            sum::add_scaled(of[0].clone(), -0.3, &of[1])?,
            sum::scale(&of[0], 0.7)?,
            sum::scale_samples(&of[0], &[0.0, 2.0, -1.0])?,
            sum::concat_channels(&all[..2])?,
            sum::concat_channels(&all)?,
            Tensor::new(&[sum::dot(&of[0], &of[1])?], &Device::Cpu)?,
            Tensor::new(&[f64::from(u8::from(sum::is_finite(&of[0])?))], &Device::Cpu)?,
        ];
        made.extend(sum::split_channels(&of[0], &[1, 3, 2])?);
        Ok(made)
    })?;
    let channels = (7..=9).map(|seed| random(&[6], seed)).collect::<Result<Vec<_>>>()?;
    agrees_within(4.0 * BF16, &[inputs, channels].concat(), &[6, 7, 8], |of| {
        let [mean, factor, shift] = [&of[6], &of[7], &of[8]].map(Clone::clone);
        let by = batch_norm::Channelwise { mean, factor, shift };
        let term =
            |i: usize| sum::Term { norm: i.is_multiple_of(2).then_some(&by), ..sum::Term::of(0.5, &of[i]) };
        let all: Vec<_> = (0..6).map(term).collect();
        let product = batch_norm::dot(&of[0], &of[1], &by)?.get()?;
        Ok(vec![sum::weighted(&all[..1])?, sum::weighted(&all)?, Tensor::new(&[product], &Device::Cpu)?])
    })?;
    let bad = Tensor::new(&[1.0, f64::INFINITY], &Device::Cpu)?;
    assert!(!emulate(|| sum::is_finite(&bad))?);
    let long = [random(&[530_001], 1)?, random(&[530_001], 2)?]; // more than 128 slices of 4,096
    agrees(&long, &[], |of| Tensor::new(&[sum::dot(&of[0], &of[1])?], &Device::Cpu).map(|dot| vec![dot]))
}

#[test]
fn shuffled_channels_agree() -> Result<()> {
    needs_a_compiler!();
    for (parts, c) in [(2, 5), (4, 3), (3, 1)] {
        let dims = [3, 5, 4, c * parts];
        let inputs = [random(&dims, 1)?, random(&[3, 5, 4, c], 2)?, random(&[3, 5, 4, c * (parts - 1)], 3)?];
        agrees(&inputs, &[], |of| {
            let (part, rest) = shuffle::separate(&of[0], parts)?;
            Ok(vec![part, rest, shuffle::join(&of[1], &of[2], parts)?])
        })?;
    }
    Ok(())
}

/// To the bit, as bytes and as floats.
#[test]
fn batches_are_the_same() -> Result<()> {
    needs_a_compiler!();
    let (h, w, c) = (5, 4, 3);
    let picture = |i: usize| (0..h * w * c).map(move |at| ((i * 60 + at) % 256) as f32 / 255.0);
    let mut examples = [batch::Packed::with_capacity(0), batch::Packed::with_capacity(0)];
    for i in 0..7 {
        examples[0].push(&picture(i).collect::<Vec<_>>());
        examples[1].push(&picture(i).map(|value| value * 0.7 - 0.2).collect::<Vec<_>>());
    }
    let rows = [
        batch::Row { index: 6, shift: (2, -1), mirrored: true, hole: (1..3, 0..2) },
        batch::Row { index: 0, shift: (-4, 3), mirrored: false, hole: (0..0, 0..0) },
        batch::Row { index: 3, shift: (0, 0), mirrored: true, hole: (4..5, 3..4) },
    ];
    let scale = batch::Scale { mean: &[0.49, 0.48, 0.45], deviation: &[0.25, 0.24, 0.26] };
    for packed in examples {
        let held = packed.hold((h, w, c), &Device::Cpu)?;
        for scale in [None, Some(scale)] {
            let found = emulate(|| held.batch(&rows, scale))?;
            assert_tensors_close(&found, &held.batch(&rows, scale)?, 0.0)?;
        }
    }
    Ok(())
}

/// Numbers that a device is computing are added up in one launch, beside those that are known.
#[test]
fn numbers_come_together() -> Result<()> {
    needs_a_compiler!();
    let x = random(&[9_001], 1)?;
    let found = emulate(|| {
        let mut later = [sum::dot_later(&x, &x)?, Later::Known(3.0), sum::dot_later(&x, &x.neg()?)?];
        let before = waits();
        Later::settle(&mut later)?;
        let found = later.iter().map(Later::get).collect::<Result<Vec<_>>>()?;
        assert_eq!(waits() - before, 1);
        Ok::<_, candle_core::Error>(found)
    })?;
    let square = sum::dot(&x, &x)?;
    assert!((found[0] - square).abs() < 1e-9 && found[1] == 3.0 && (found[2] + square).abs() < 1e-9);
    Ok(())
}

#[test]
fn losses_agree() -> Result<()> {
    needs_a_compiler!();
    let labels: Vec<u32> = (0..37).map(|n| n % 5).collect();
    agrees(&[(random(&[37, 5], 1)? * 20.0)?], &[], |of| {
        let head = loss::cross_entropy(&of[0], &labels, 0.1)?;
        Ok(vec![head.grad, Tensor::new(&[head.loss, head.correct as f64], &Device::Cpu)?])
    })
}

#[test]
fn optimizers_agree() -> Result<()> {
    needs_a_compiler!();
    let dims = [5_000]; // two pieces
    let inputs =
        [random(&dims, 1)?, random(&dims, 2)?, random(&dims, 3)?, random(&dims, 4)?.sqr()?, random(&[7], 5)?];
    let step = SgdStep { lr: 0.1, momentum: 0.9, nesterov: true, weight_decay: 0.01, grad_scale: 0.5 };
    let adam = AdamStep { lr: 0.1, beta1: 0.5, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, step: 3 };
    agrees(&inputs, &[0, 1, 2, 3, 4], |of| {
        let [w, g, m, v, small] = of else { unreachable!("five inputs") };
        let mut made = Vec::new();
        for (velocity, nesterov) in [(None, false), (Some(m), true)] {
            let (w, v) = update::sgd(w, g, velocity, SgdStep { nesterov, ..step })?;
            made.extend([w, v]);
        }
        let (w_new, m_new, v_new) = update::adam(w, g, m, v, adam)?;
        made.extend([w_new, m_new, v_new]);
        for clip in [None, Some(0.25), Some(1e9)] {
            let triples = [(w, g, Some(m)), (small, small, None)];
            let moved = update::sgd_of_many(&triples, SgdStep { grad_scale: 1.0, ..step }, clip)?;
            made.push(Tensor::new(&[moved.norm_squared()?], &Device::Cpu)?);
            made.extend(moved.moved.into_iter().flat_map(|(w, v)| [w, v]));
        }
        made.extend(update::blend(&[(w, g, 0.1), (small, small, 0.5)])?);
        Ok(made)
    })
}

/// The emulation is worth something only if it notices what it is for.
#[test]
fn mistakes_are_noticed() -> Result<()> {
    needs_a_compiler!();
    let (gpu, grid) = (Gpu::Emulated, Grid { blocks: (1, 1, 1), threads: (64, 1) });
    for kernel in MISTAKES {
        let y = gpu.fresh(DType::F32, &[64])?;
        let launched = gpu.launch(kernel, DType::F32, grid, &[Arg::Out(&y)]);
        assert!(launched.and_then(|()| y.tensor()).is_err(), "{kernel}");
    }
    Ok(())
}

#[test]
fn a_kernel_of_the_cpu_gets_no_values_of_a_device() -> Result<()> {
    let x = random(&[3], 1)?;
    let refused = emulate(|| crate::kernels::values::Values::<f64>::of(&x).is_err());
    assert!(refused);
    Ok(())
}

#[test]
fn every_kernel_is_named_once() {
    let mut names = KERNELS.to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), KERNELS.len());
}
