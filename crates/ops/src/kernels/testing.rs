//! What the kernels' tests share: deterministic values, finite differences, comparisons.

use candle_core::{Device, Result, Tensor};
use half::bf16;

use super::{Isa, Window, element::Real, map::Map};

/// Values in −1 … 1 without a pattern; another `seed`, others.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..len).map(next).collect()
}

/// Numbers that decide random shapes, always the same.
pub(crate) struct Draws(pub(crate) u64);

impl Draws {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// One of `1 … n`.
    pub(crate) fn below(&mut self, n: u64) -> usize {
        1 + (self.next() % n) as usize
    }
}

/// A tensor of [`noise`] in `f64`.
pub(crate) fn random(dims: &[usize], seed: u64) -> Result<Tensor> {
    Tensor::from_vec(noise(dims.iter().product(), seed), dims, &Device::Cpu)
}

pub(crate) fn cast<T: Real>(values: &[f64]) -> Vec<T> {
    values.iter().map(|&x| T::from_f64(x)).collect()
}

pub(crate) fn values(x: &Tensor) -> Result<Vec<f64>> {
    x.to_dtype(candle_core::DType::F64)?.flatten_all()?.to_vec1()
}

/// The largest difference divided by the largest magnitude expected, or by 1 where that is less.
#[track_caller]
pub(crate) fn assert_close<T: Real>(found: &[T], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1.0f64, |largest, x| largest.max(x.abs()));
    let errors = || found.iter().zip(expected).map(|(a, b)| (a.to_f64() - b).abs());
    let error = errors().fold(0.0f64, f64::max);
    // Every one, since the largest of several does not see what is no number.
    assert!(errors().all(|error| error <= tolerance * largest), "error {error:e} of values up to {largest}");
}

#[track_caller]
pub(crate) fn assert_tensors_close(found: &Tensor, expected: &Tensor, tolerance: f64) -> Result<()> {
    assert_eq!(found.dims(), expected.dims());
    assert_close(&values(found)?, &values(expected)?, tolerance);
    Ok(())
}

/// Checks `gradient`, of `⟨f(x), seed⟩` by `x`, against central differences.
#[track_caller]
pub(crate) fn assert_gradient(
    x: &Tensor,
    gradient: &Tensor,
    seed: &Tensor,
    f: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<()> {
    assert_eq!(gradient.dims(), x.dims());
    let (step, at, seed) = (1e-5, values(x)?, values(seed)?);
    let loss = |i: usize, by: f64| -> Result<f64> {
        let mut moved = at.clone();
        moved[i] += by;
        let y = values(&f(&Tensor::from_vec(moved, x.dims(), x.device())?)?)?;
        Ok(y.iter().zip(&seed).map(|(y, s)| y * s).sum())
    };
    let slope = |i| Ok((loss(i, step)? - loss(i, -step)?) / (2.0 * step));
    let expected = (0..at.len()).map(slope).collect::<Result<Vec<_>>>()?;
    assert_close(&values(gradient)?, &expected, 1e-7);
    Ok(())
}

/// Windows of every kind that the search spaces use, and odd ones.
pub(crate) fn windows() -> Vec<Window> {
    let same = |k, s, d| Window::same((k, k), (s, s), (d, d));
    vec![
        same(1, 1, 1),
        same(3, 1, 1),
        same(3, 2, 1),
        same(5, 1, 2),
        same(3, 2, 2),
        same(1, 2, 1),
        same(1, 2, 1).shifted(1),
        Window::same((2, 2), (2, 2), (1, 1)),
        Window::same((1, 7), (1, 1), (1, 1)),
        Window::same((3, 2), (3, 1), (1, 2)),
    ]
}

/// Batches of odd shapes: `(n, h, w, c)`.
pub(crate) fn maps() -> Vec<Map> {
    [(1, 1, 1, 3), (2, 5, 4, 5), (3, 7, 3, 17), (9, 2, 2, 24)]
        .map(|(n, h, w, c)| Map { n, h, w, c, rank: 4 })
        .to_vec()
}

/// The sets to compare with the specification.
pub(crate) fn sets() -> impl Iterator<Item = Isa> {
    Isa::all().into_iter().filter(|isa| isa.available())
}

/// Checks that one, two and three threads make the same bytes.
#[track_caller]
pub(crate) fn assert_same_on_any_threads<R: PartialEq + std::fmt::Debug + Send>(f: impl Fn() -> R + Sync) {
    let on =
        |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("a few threads exist").install(&f);
    let one = on(1);
    assert_eq!(on(2), one);
    assert_eq!(on(3), one);
}

/// A narrow map of such values, and its numbers.
pub(crate) fn narrow(values: &[f64]) -> (Vec<bf16>, Vec<f32>) {
    let map: Vec<_> = values.iter().map(|&x| bf16::from_f64(x)).collect();
    let numbers = map.iter().map(|x| x.to_f32()).collect();
    (map, numbers)
}

/// A narrow map is computed as its numbers are, and rounded once.
#[track_caller]
pub(crate) fn assert_rounded(found: &[bf16], numbers: &[f32]) {
    assert_eq!(found.len(), numbers.len());
    for (i, (found, x)) in found.iter().zip(numbers).enumerate() {
        assert_eq!(found.to_bits(), bf16::from_f32(*x).to_bits(), "element {i}: {found}, computed as {x}");
    }
}

/// As [`assert_rounded`]; where matrix units multiply, factors are rounded on their way and sums added in another order.
#[track_caller]
pub(crate) fn assert_multiplied(isa: Isa, found: &[bf16], numbers: &[f32]) {
    if isa != Isa::Amx {
        return assert_rounded(found, numbers);
    }
    let found: Vec<_> = found.iter().map(|x| x.to_f32()).collect();
    assert_weighed(isa, &found, numbers);
}

/// Sums of products are the same; where matrix units multiplied on the way, nearly.
#[track_caller]
pub(crate) fn assert_weighed(isa: Isa, found: &[f32], expected: &[f32]) {
    if isa == Isa::Amx {
        let expected: Vec<_> = expected.iter().map(|&x| f64::from(x)).collect();
        return assert_close(found, &expected, 1.0 / 64.0);
    }
    assert_eq!(found, expected);
}
