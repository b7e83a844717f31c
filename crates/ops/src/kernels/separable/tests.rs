use candle_core::{Device, Result};

use super::*;
use crate::kernels::{depthwise, element::Real, testing::*};

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
    fn new(map: Map, across: Window, window: Window, c_out: usize) -> Result<Self> {
        let ((dh, dw), (kh, kw)) = (across.kernel, window.kernel);
        let (d, w) = (random(&[dh, dw, map.c], 2)?, random(&[kh, kw, map.c, c_out], 3)?);
        Ok(Self { x: random(&map.dims(), 1)?, d, w, bias: random(&[c_out], 4)?, across, window })
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
    // With so wide margins, gradients lie wholly to the right of where the first window looks.
    let aside = Window { pad: (0, 20), ..point };
    let pairs: Vec<_> = pairs.chain([(aside, point)]).collect();
    // The last fills several bands, the rest of one too, with whole vectors and without.
    let large =
        [(16, 16), (16, 5), (20, 16)].map(|(c, c_out)| (Map { n: 3, h: 27, w: 11, c, rank: 4 }, c_out));
    // And so does this one where windows have strides.
    let larger = (Map { n: 2, h: 53, w: 23, c: 16, rank: 4 }, 16);
    let all = maps().into_iter().map(|map| (map, 5)).chain(large).chain([larger]);
    all.flat_map(|(map, c_out)| {
        pairs.iter().map(move |&(across, window)| Case::new(map, across, window, c_out))
    })
    .collect()
}

fn maps_of(input: Map, across: &Window, window: &Window, c_out: usize) -> Maps {
    let between = input.through(across, input.c);
    Maps { input, between, output: between.through(window, c_out) }
}

/// Behind a ReLU.
fn shapes<'a>(maps: &'a Maps, across: &'a Window, window: &'a Window) -> cpu::Shapes<'a> {
    let Maps { input, between, output } = maps;
    cpu::Shapes {
        depthwise: conv::Shape { input, output: between, window: across, prelude: Prelude::Relu },
        dense: conv::Shape { input: between, output, window, prelude: Prelude::Identity },
    }
}

/// One after the other, they are the specification.
#[test]
fn fused_passes_compute_what_the_three_layers_compute() -> Result<()> {
    for case in cases()? {
        let Case { x, d, w, bias, across, window } = &case;
        let c_out = bias.elem_count();
        let (scale, shift) = (random(&[c_out], 5)?, random(&[c_out], 6)?);
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
                backward(&gz, x, case.convolutions(), (&y, &moments), Some((&scale, &shift)), wanted, None)?;
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

/// In bands and whole, behind a norm and without one, in `f32` on every set, against the portable path in `f64`.
#[test]
fn every_instruction_set_computes_what_the_portable_path_does() -> Result<()> {
    let point = Window::same((1, 1), (1, 1), (1, 1));
    let across = [(3, 1, 1), (5, 1, 2), (5, 2, 1)].map(|(k, s, d)| Window::same((k, k), (s, s), (d, d)));
    for (side, c, c_out, across) in [(33, 16, 32), (20, 48, 16), (5, 17, 16), (1, 16, 16)]
        .into_iter()
        .flat_map(|(side, c, c_out)| across.map(|across| (side, c, c_out, across)))
    {
        let input = Map { n: 2, h: side, w: side, c, rank: 4 };
        let maps = maps_of(input, &across, &point, c_out);
        let (output, shapes) = (maps.output, shapes(&maps, &across, &point));
        let (x, gz) = (noise(input.len(), 1), noise(output.len(), 2));
        let (d, w) = (noise(across.taps() * c, 3), noise(c * c_out, 4));
        let channels = [5, 6, 7].map(|seed| noise(c, seed));
        for norm in [None, Some(channels)] {
            let (y, gx, gd, gw) = run::<f64>(Isa::Portable, shapes, &x, &gz, (&d, &w), norm.as_ref());
            for isa in sets() {
                let found = run::<f32>(isa, shapes, &x, &gz, (&d, &w), norm.as_ref());
                for (found, expected) in [(found.0, &y), (found.1, &gx), (found.2, &gd), (found.3, &gw)] {
                    assert_close(&found, expected, 1e-4);
                }
            }
        }
    }
    Ok(())
}

/// Output, and the gradients at the input and of both weights.
fn run<T: Real>(
    isa: Isa,
    shapes: cpu::Shapes<'_>,
    x: &[f64],
    gz: &[f64],
    (d, w): (&[f64], &[f64]),
    norm: Option<&[Vec<f64>; 3]>,
) -> (Vec<T>, Vec<T>, Vec<T>, Vec<T>) {
    let [x, gz, d, w] = [x, gz, d, w].map(cast::<T>);
    let source = cpu::Source::new(&x, norm.map(|norm| norm.each_ref().map(|values| cast(values))));
    let (y, _) = cpu::forward(isa, shapes, &source, &d, &w, None);
    let through = batch_norm::Through::of_constants(shapes.dense.output.c, 0.5);
    let (gx, _, weights) = cpu::backward(isa, shapes, &source, (&d, &w), (&y, &gz), &through, Wanted::Both);
    let (gd, gw) = weights.expect("they were wanted");
    (y, gx.expect("it was wanted"), gd, gw)
}

#[test]
fn gradients_are_the_slopes_of_the_forward() -> Result<()> {
    let map = Map { n: 3, h: 4, w: 3, c: 2, rank: 4 };
    for across in windows() {
        let case = Case::new(map, across, Window::same((1, 1), (1, 1), (1, 1)), 5)?;
        let Normalized { y, z, moments } = forward_train(&case.x, case.convolutions(), None, EPS)?;
        let gz = random(z.dims(), 8)?;
        let found = backward(&gz, &case.x, case.convolutions(), (&y, &moments), None, Wanted::Both, None)?;
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

/// In bands and image by image; the norm has a channel that its scale shuts.
#[test]
fn a_gradient_tells_the_norm_in_front_what_that_would_ask_it() -> Result<()> {
    for case in cases()?.iter().filter(|case| case.window.taps() == 1) {
        let c = case.d.dims()[2];
        let scale = (0..c).map(|i| i as f64 / 4.0).collect::<Vec<_>>();
        let affine = (&Tensor::new(scale, &Device::Cpu)?, &random(&[c], 5)?);
        let (moments, norm) = batch_norm::forward_waiting(&case.x, Some(affine), EPS)?;
        let convolutions = Convolutions { norm: Some(&norm), ..case.convolutions() };
        let Waiting { y, moments: of_y, .. } = forward_waiting(&case.x, convolutions, None, EPS)?;
        let gz = random(y.dims(), 6)?;
        let found = backward(&gz, &case.x, convolutions, (&y, &of_y), None, Wanted::Input, None)?;
        let (x, gx) = (values(&case.x)?, values(&found.x.expect("it was wanted"))?);
        let arrive = |sums| batch_norm::arrive(&x, &gx, Some(affine), &moments, sums);
        let (told, asked) = (arrive(Some(found.sums.expect("there is a norm")))?, arrive(None)?);
        let ((scale, shift), (scale_asked, shift_asked)) =
            (told.scale_shift.expect("there is a scale"), asked.scale_shift.expect("there is a scale"));
        assert_tensors_close(&scale, &scale_asked, 1e-12)?;
        assert_tensors_close(&shift, &shift_asked, 1e-12)?;
        assert_close(&[told.product], &[asked.product], 1e-12);
    }
    Ok(())
}

#[test]
fn bytes_do_not_depend_on_threads() -> Result<()> {
    let map = Map { n: 21, h: 28, w: 10, c: 16, rank: 4 }; // two bands an image
    let window = |k| Window::same((k, k), (1, 1), (1, 1));
    let mut case = Case::new(map, window(3), window(1), 16)?;
    for tensor in [&mut case.x, &mut case.d, &mut case.w, &mut case.bias] {
        *tensor = tensor.to_dtype(candle_core::DType::F32)?;
    }
    assert_same_on_any_threads(|| {
        let run = || {
            let Normalized { y, z, moments } = forward_train(&case.x, case.convolutions(), None, EPS)?;
            let found = backward(&z, &case.x, case.convolutions(), (&y, &moments), None, Wanted::Both, None)?;
            let (gd, gw) = found.weights.expect("they were wanted");
            let all = [Some(y), Some(z), found.x, Some(gd), Some(gw)];
            all.into_iter().flatten().map(|x| values(&x)).collect::<Result<Vec<_>>>()
        };
        run().expect("the shapes fit")
    });
    Ok(())
}

/// In bands and image by image, with a norm in front and without.
#[test]
fn a_narrow_map_is_convolved_as_its_numbers_are() {
    let point = Window::same((1, 1), (1, 1), (1, 1));
    for (side, c, c_out, stride) in [(17, 16, 32, 1), (20, 48, 16, 2), (5, 17, 16, 1), (5, 16, 5, 1)] {
        let across = Window::same((3, 3), (stride, stride), (1, 1));
        let input = Map { n: 3, h: side, w: side, c, rank: 4 };
        let maps = maps_of(input, &across, &point, c_out);
        let (output, shapes) = (maps.output, shapes(&maps, &across, &point));
        let (d, w) = (cast(&noise(9 * c, 1)), cast(&noise(c * c_out, 2)));
        let [(x, x32), (y, y32), (gz, gz32)] =
            [(&input, 3), (&output, 4), (&output, 5)].map(|(map, seed)| narrow(&noise(map.len(), seed)));
        let through = batch_norm::Through::of_constants(c_out, 0.5);
        let channels = [6, 7, 8].map(|seed| cast(&noise(c, seed)));
        for (isa, norm) in sets().flat_map(|isa| [None, Some(&channels)].map(|norm| (isa, norm))) {
            let (source, source32) =
                (cpu::Source::new(&x, norm.cloned()), cpu::Source::new(&x32, norm.cloned()));
            let (found, _) = cpu::forward(isa, shapes, &source, &d, &w, None);
            assert_multiplied(isa, &found, &cpu::forward(isa, shapes, &source32, &d, &w, None).0);
            for wanted in [Wanted::Both, Wanted::Input, Wanted::Weights] {
                let (gx, sums, gw) =
                    cpu::backward(isa, shapes, &source, (&d, &w), (&y, &gz), &through, wanted);
                let (gx32, _, gw32) =
                    cpu::backward(isa, shapes, &source32, (&d, &w), (&y32, &gz32), &through, wanted);
                assert_multiplied(isa, &gx.unwrap_or_default(), &gx32.unwrap_or_default());
                assert_eq!(sums.is_some(), norm.is_some() && wanted != Wanted::Weights);
                match (gw, gw32) {
                    (Some((gd, gw)), Some((gd32, gw32))) => {
                        assert_weighed(isa, &gd, &gd32);
                        assert_weighed(isa, &gw, &gw32);
                    }
                    (gw, gw32) => assert!(gw.is_none() && gw32.is_none()),
                }
            }
        }
    }
}

#[test]
fn sums_for_another_norm_are_an_error() -> Result<()> {
    let point = Window::same((1, 1), (1, 1), (1, 1));
    let case = Case::new(Map { n: 2, h: 4, w: 4, c: 3, rank: 4 }, windows()[0], point, 5)?;
    let (_, norm) = batch_norm::forward_waiting(&case.x, None, EPS)?;
    let convolutions = Convolutions { norm: Some(&norm), ..case.convolutions() };
    let Waiting { y, moments, .. } = forward_waiting(&case.x, convolutions, None, EPS)?;
    let back = |sums| backward(&y, &case.x, convolutions, (&y, &moments), None, Wanted::Input, sums);
    let of_three_channels = back(None)?.sums;
    let error = back(of_three_channels).expect_err("this norm has five");
    assert!(error.to_string().contains("other channels, expected 5"), "{error}");
    Ok(())
}
