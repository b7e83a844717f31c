//! Matrix units: where factors lie in a warp's registers, what they are rounded to, and convolutions by them.

use candle_core::{DType, Device, Result, Tensor};

use super::{PRELUDES, all_maps, convolution, needs_a_compiler};
use crate::kernels::{
    Prelude, Window, conv,
    gpu::{Arg, Arithmetic, Gpu, Grid, emulate_in},
    linear,
    testing::{assert_tensors_close, random, values, windows},
};

const WARP: Grid = Grid { blocks: (1, 1, 1), threads: (32, 1) };

/// What is summed over by a stage, as `matrix.cuh` has it.
const STAGE: usize = 16;

/// What the kernel `multiply_registers` makes of a warp's registers.
fn multiply_registers(arithmetic: Arithmetic, left: Vec<u32>, right: Vec<u32>) -> Result<Vec<f32>> {
    let (left, right) = (Gpu::Emulated.upload(left)?, Gpu::Emulated.upload(right)?);
    let y = Gpu::Emulated.fresh(DType::F32, &[128])?;
    let args = [Arg::In(&left), Arg::In(&right), Arg::Out(&y)];
    emulate_in(arithmetic, || Gpu::Emulated.launch("multiply_registers", arithmetic.maps(), WARP, &args))?;
    y.tensor()?.to_vec1()
}

/// (row, column) of a factor or of a sum.
type Place = (usize, usize);

/// Where the PTX ISA says that element `i` of a lane lies in a factor: the left one, or the right one.
type Layout = fn(lane: usize, i: usize) -> Place;

/// "Matrix Fragments for mma.m16n8k8", with `.tf32`.
const OF_TF32: [Layout; 2] = [
    |lane, i| {
        let (group, member) = (lane >> 2, lane % 4);
        (if i == 0 || i == 2 { group } else { group + 8 }, if i < 2 { member } else { member + 4 })
    },
    |lane, i| {
        let (group, member) = (lane >> 2, lane % 4);
        (if i == 0 { member } else { member + 4 }, group)
    },
];

/// "Matrix Fragments for mma.m16n8k16 with floating point type", of which two elements share a register.
const OF_BF16: [Layout; 2] = [
    |lane, i| {
        let (group, member) = (lane >> 2, lane % 4);
        let row = if matches!(i, 0 | 1 | 4 | 5) { group } else { group + 8 };
        (row, member * 2 + (i & 1) + if i < 4 { 0 } else { 8 })
    },
    |lane, i| {
        let (group, member) = (lane >> 2, lane % 4);
        (member * 2 + (i & 1) + if i < 2 { 0 } else { 8 }, group)
    },
];

/// Both instructions' sums.
fn place_of_sum(lane: usize, i: usize) -> Place {
    let (group, member) = (lane >> 2, lane % 4);
    (if i < 2 { group } else { group + 8 }, member * 2 + (i & 1))
}

/// The registers of a warp, `n` a lane, that hold a factor: `value` of each place.
fn registers(layout: Layout, n: usize, depth: usize, value: impl Fn(Place) -> f32) -> Vec<u32> {
    let word = |at: usize| {
        let (lane, register) = (at / n, at % n);
        match depth {
            8 => value(layout(lane, register)).to_bits(),
            _ => {
                let half = |i| value(layout(lane, 2 * register + i)).to_bits() >> 16; // of small whole numbers all
                half(1) << 16 | half(0)
            }
        }
    };
    (0..32 * n).map(word).collect()
}

/// Each element of the left factor in turn is 1 and all others 0: its row of the sum is a row of the right factor, whose
/// elements all differ.
#[test]
fn fragments_lie_where_the_instructions_read_them() -> Result<()> {
    needs_a_compiler!();
    let of_right = |(row, column): Place| (1 + row * 8 + column) as f32;
    for (arithmetic, depth, [left, right]) in
        [(Arithmetic::Tf32, 8, OF_TF32), (Arithmetic::Bf16, 16, OF_BF16)]
    {
        let right = registers(right, 2, depth, of_right);
        for hot in (0..16).flat_map(|row| (0..depth).map(move |column| (row, column))) {
            let left = registers(left, 4, depth, |place| f32::from(u8::from(place == hot)));
            let found = multiply_registers(arithmetic, left, right.clone())?;
            for (at, found) in found.into_iter().enumerate() {
                let (row, column) = place_of_sum(at / 4, at % 4);
                let expected = if row == hot.0 { of_right((hot.1, column)) } else { 0.0 };
                assert_eq!(
                    found, expected,
                    "{arithmetic}: ({row}, {column}) of a factor with its 1 at {hot:?}"
                );
            }
        }
    }
    Ok(())
}

/// `a·bᵀ` of `(32, 16)` and `(16, 16)` by one warp, through shared memory, as convolutions do it.
fn multiply_matrices(arithmetic: Arithmetic, a: &[f32], b: &[f32]) -> Result<Vec<f32>> {
    let (a, b) = (Gpu::Emulated.upload(a.to_vec())?, Gpu::Emulated.upload(b.to_vec())?);
    let y = Gpu::Emulated.fresh(DType::F32, &[32 * 16])?;
    let args = [Arg::Reals(Some(&a)), Arg::Reals(Some(&b)), Arg::Out(&y)];
    emulate_in(arithmetic, || Gpu::Emulated.launch("multiply_matrices", arithmetic.maps(), WARP, &args))?;
    y.tensor()?.to_vec1()
}

/// Small whole numbers, of which every product and sum is exact.
#[test]
fn a_stage_is_multiplied_exactly() -> Result<()> {
    needs_a_compiler!();
    let whole = |len: usize, seed| values(&(random(&[len], seed)? * 100.0)?.round()?);
    let (a, b) = (whole(32 * STAGE, 1)?, whole(16 * STAGE, 2)?);
    let expected = |row: usize, column: usize| {
        (0..STAGE).map(|k| a[row * STAGE + k] * b[column * STAGE + k]).sum::<f64>() as f32
    };
    let expected: Vec<f32> = (0..32 * 16).map(|at| expected(at / 16, at % 16)).collect();
    let narrow = |values: &[f64]| values.iter().map(|&x| x as f32).collect::<Vec<_>>();
    for arithmetic in [Arithmetic::Tf32, Arithmetic::Bf16] {
        assert_eq!(multiply_matrices(arithmetic, &narrow(&a), &narrow(&b))?, expected, "{arithmetic}");
    }
    Ok(())
}

/// Times 1: to the nearest, with 10 bits of mantissa and ties away from zero, or with 7 and ties to even. What is no
/// number stays none.
#[test]
fn factors_are_rounded_once() -> Result<()> {
    needs_a_compiler!();
    let (tf32, bf16) = (2f32.powi(-10), 2f32.powi(-7));
    let cases = [
        (Arithmetic::Tf32, 1.0 + 0.49 * tf32, 1.0),
        (Arithmetic::Tf32, 1.0 + 0.5 * tf32, 1.0 + tf32),
        (Arithmetic::Tf32, -1.0 - 0.5 * tf32, -1.0 - tf32),
        (Arithmetic::Tf32, 3.0 + 2.9 * tf32, 3.0 + 2.0 * tf32),
        (Arithmetic::Tf32, 2f32.powi(-140), 0.0),
        (Arithmetic::Bf16, 1.0 + 0.5 * bf16, 1.0),
        (Arithmetic::Bf16, 1.0 + 1.5 * bf16, 1.0 + 2.0 * bf16),
        (Arithmetic::Bf16, -1.0 - 0.51 * bf16, -1.0 - bf16),
        (Arithmetic::Bf16, f32::MAX, f32::INFINITY),
    ];
    let mut one = vec![0.0; 16 * STAGE];
    one[0] = 1.0;
    let times_one = |arithmetic, x| {
        let mut a = vec![0.0; 32 * STAGE];
        a[0] = x;
        Ok::<_, candle_core::Error>(multiply_matrices(arithmetic, &a, &one)?[0])
    };
    for (arithmetic, x, expected) in cases {
        assert_eq!(times_one(arithmetic, x)?, expected, "{x} in {arithmetic}");
        let canonical = f32::from_bits(0x7fff_ffff); // the NaN that CUDA makes
        assert!(times_one(arithmetic, canonical)?.is_nan());
    }
    Ok(())
}

#[test]
fn a_warp_that_does_not_multiply_together_is_noticed() -> Result<()> {
    needs_a_compiler!();
    let y = Gpu::Emulated.fresh(DType::F32, &[32])?;
    let launch = || Gpu::Emulated.launch("multiplies_apart", DType::F32, WARP, &[Arg::Out(&y)]);
    assert!(emulate_in(Arithmetic::Tf32, launch).is_err());
    Ok(())
}

/// What one rounding of a factor costs, twice: 2⁻¹¹ of each product, of which outputs of random factors are not small.
const TF32: f64 = 2.0 / 2048.0;

/// Forward and every gradient in TF32, beside the CPU's `f64`.
#[track_caller]
fn agrees_in_tf32([x, w, bias, gy]: &[Tensor; 4], window: &Window, prelude: Prelude) -> Result<()> {
    let narrow = |x: &Tensor| x.to_dtype(DType::F32);
    let of = [narrow(x)?, narrow(w)?, narrow(bias)?, narrow(gy)?];
    let all = |[x, w, bias, gy]: &[Tensor; 4]| -> Result<[Tensor; 3]> {
        Ok([
            conv::forward_biased(x, w, bias, window, prelude)?,
            conv::input_gradient(gy, w, x, window, prelude)?,
            conv::weight_gradient(x, gy, window, prelude)?,
        ])
    };
    let wide = |x: &Tensor| x.to_dtype(DType::F64);
    let expected = all(&[wide(&of[0])?, wide(&of[1])?, wide(&of[2])?, wide(&of[3])?])?;
    let found = emulate_in(Arithmetic::Tf32, || all(&of))?;
    for (found, expected) in found.iter().zip(&expected) {
        assert_tensors_close(found, expected, TF32)?;
    }
    Ok(())
}

#[test]
fn convolutions_agree_in_tf32() -> Result<()> {
    needs_a_compiler!();
    // Channels that come in fours, and such that do not; one map with more of both than a tile has.
    for (map, c_out) in all_maps().into_iter().zip([2, 8, 19, 40, 67]) {
        let few = if map.c > 30 { 2 } else { windows().len() };
        for (window, prelude) in windows().into_iter().take(few).zip(PRELUDES.into_iter().cycle()) {
            let inputs = convolution(&map, &window, c_out)?;
            agrees_in_tf32(&inputs, &window, prelude)?;
        }
    }
    Ok(())
}

/// As large as makes several slices of pixels and every size of tile.
#[test]
fn large_convolutions_agree_in_tf32() -> Result<()> {
    needs_a_compiler!();
    for (dims, c_out, kernel) in [([3, 31, 31, 4], 16, 3), ([9, 31, 31, 2], 20, 1), ([9, 31, 31, 34], 36, 1)]
    {
        let window = Window::same((kernel, kernel), (1, 1), (1, 1));
        let [n, h, w, c] = dims;
        let weights = random(&[kernel, kernel, c, c_out], 2)?;
        let inputs = [random(&dims, 1)?, weights, random(&[c_out], 3)?, random(&[n, h, w, c_out], 4)?];
        agrees_in_tf32(&inputs, &window, Prelude::Relu)?;
    }
    Ok(())
}

/// A part of a tensor may begin where fours do not.
#[test]
fn maps_that_begin_anywhere_agree_in_tf32() -> Result<()> {
    needs_a_compiler!();
    let window = Window::same((1, 1), (1, 1), (1, 1));
    let whole = random(&[2 * 3 * 3 * 8 + 1], 1)?.to_dtype(DType::F32)?;
    let x = whole.narrow(0, 1, 2 * 3 * 3 * 8)?.reshape((2, 3, 3, 8))?;
    let w = random(&[1, 1, 8, 8], 2)?.to_dtype(DType::F32)?;
    let forward =
        |x: &Tensor| emulate_in(Arithmetic::Tf32, || conv::forward(x, &w, &window, Prelude::Identity));
    let copy = Tensor::from_vec(x.flatten_all()?.to_vec1::<f32>()?, x.dims(), &Device::Cpu)?;
    assert_tensors_close(&forward(&x)?, &forward(&copy)?, 0.0)
}

/// The tests above would pass in `f32`, too: here it shows that they did not run in it, and that linear layers do.
#[test]
fn tf32_is_for_convolutions_only() -> Result<()> {
    needs_a_compiler!();
    let narrow = |dims: &[usize], seed| random(dims, seed)?.to_dtype(DType::F32);
    let (x, w, b) = (narrow(&[7, 33], 1)?, narrow(&[33, 10], 2)?, narrow(&[10], 3)?);
    let (map, kernel) = (x.reshape((7, 1, 1, 33))?, w.reshape((1, 1, 33, 10))?);
    let point = Window::same((1, 1), (1, 1), (1, 1));
    let both = |arithmetic| {
        emulate_in(arithmetic, || -> Result<[Vec<f64>; 2]> {
            let convolved = conv::forward_biased(&map, &kernel, &b, &point, Prelude::Identity)?;
            Ok([values(&linear::forward(&x, &w, &b)?)?, values(&convolved)?])
        })
    };
    let ([linear, convolved], [rough_linear, rough]) = (both(Arithmetic::F32)?, both(Arithmetic::Tf32)?);
    assert_eq!(linear, convolved);
    assert_eq!(linear, rough_linear);
    let error = rough.iter().zip(&convolved).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(error > 1e-5, "the largest difference is {error:e}: nothing was rounded to TF32");
    Ok(())
}
