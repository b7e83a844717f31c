//! The kernels that take a search's time, at the sizes of NAS-Bench-201 and DARTS: `cargo bench -p strait-ops`.

use candle_core::{Device, Result, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ops::kernels::{
    Prelude, Window,
    batch_norm::Normalized,
    conv::Wanted,
    conv_norm, pool,
    separable::{self, Convolutions},
    sum,
};

const BATCH: usize = 64;
const EPS: f64 = 1e-5;

/// Channels and side of the three stages.
const STAGES: [(usize, usize); 3] = [(16, 32), (32, 16), (64, 8)];

fn map(dims: &[usize]) -> Result<Tensor> {
    let n: usize = dims.iter().product();
    Tensor::from_vec(
        (0..n).map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0).collect::<Vec<_>>(),
        dims,
        &Device::Cpu,
    )
}

fn convolutions(c: &mut Criterion) -> Result<()> {
    for ((channels, side), kernel) in
        STAGES.into_iter().flat_map(|stage| [1, 3].map(|kernel| (stage, kernel)))
    {
        let window = Window::same((kernel, kernel), (1, 1), (1, 1));
        let (x, w) = (map(&[BATCH, side, side, channels])?, map(&[kernel, kernel, channels, channels])?);
        let forward = || conv_norm::forward_train(&x, (&w, None), None, EPS, &window, Prelude::Relu);
        let Normalized { y, z, moments } = forward()?;
        let backward =
            || conv_norm::backward(&z, &x, &w, &y, None, &moments, &window, Prelude::Relu, Wanted::Both);
        let mut group = c.benchmark_group(format!("conv_norm_{kernel}x{kernel}/{channels}@{side}"));
        let macs = (BATCH * side * side * channels * channels * kernel * kernel) as u64;
        group.throughput(Throughput::Elements(macs)).bench_function("forward", |b| b.iter(forward));
        group.throughput(Throughput::Elements(2 * macs)).bench_function("backward", |b| b.iter(backward));
    }
    Ok(())
}

fn separables(c: &mut Criterion) -> Result<()> {
    for (kernel, dilation) in [(3, 1), (5, 1), (5, 2)] {
        let (channels, side) = STAGES[0];
        let across = Window::same((kernel, kernel), (1, 1), (dilation, dilation));
        let window = Window::same((1, 1), (1, 1), (1, 1));
        let (x, d) = (map(&[BATCH, side, side, channels])?, map(&[kernel, kernel, channels])?);
        let w = map(&[1, 1, channels, channels])?;
        let both = Convolutions {
            norm: None,
            d: &d,
            across: &across,
            prelude: Prelude::Relu,
            w: &w,
            bias: None,
            window: &window,
        };
        let forward = || separable::forward_train(&x, both, None, EPS);
        let Normalized { y, z, moments } = forward()?;
        let backward = || separable::backward(&z, &x, both, (&y, &moments), None, Wanted::Both, None);
        let mut group =
            c.benchmark_group(format!("separable_{kernel}x{kernel}_d{dilation}/{channels}@{side}"));
        group.throughput(Throughput::Bytes(4 * x.elem_count() as u64));
        group.bench_function("forward", |b| b.iter(forward)).bench_function("backward", |b| b.iter(backward));
    }
    Ok(())
}

fn memory_bound(c: &mut Criterion) -> Result<()> {
    let (channels, side) = STAGES[0];
    let x = map(&[BATCH, side, side, channels])?;
    let window = Window::same((3, 3), (1, 1), (1, 1));
    let mut group = c.benchmark_group(format!("maps/{channels}@{side}"));
    group.throughput(Throughput::Bytes(4 * x.elem_count() as u64));
    group.bench_function("average_pool", |b| b.iter(|| pool::average(&x, &window)));
    group.bench_function("max_pool", |b| b.iter(|| pool::max(&x, &window)));
    group.bench_function("sum_of_three", |b| {
        b.iter(|| sum::weighted(&[1.0, 0.5, 0.25].map(|factor| sum::Term { factor, x: &x, norm: None })))
    });
    group.bench_function("dot", |b| b.iter(|| sum::dot(&x, &x)));
    Ok(())
}

fn all(c: &mut Criterion) {
    for bench in [convolutions, separables, memory_bound] {
        bench(c).expect("the shapes fit");
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
