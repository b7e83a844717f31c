//! The machine's limits, measured.

use std::time::Instant;

use strait::ops::kernels::{
    Isa,
    roofline::{Triad, multiply_adds},
};

/// Measurements of which the best counts: whatever else runs only slows them.
const TRIES: usize = 12;

/// Multiply-add rounds of a try: about a hundredth of a second.
const ROUNDS: usize = 1_000_000;

/// What all threads together can do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Roofline {
    /// Fused multiply-adds in registers, in GFLOP/s.
    pub(super) gflops: f64,
    /// The triad on arrays far beyond every cache, in GB/s.
    pub(super) gbs: f64,
}

impl Roofline {
    pub(super) fn measure() -> Self {
        let isa = Isa::detect();
        let gflops = best(|| multiply_adds(isa, ROUNDS));
        Self { gflops, gbs: bandwidth(3 << 26) }
    }
}

/// The triad's GB/s on arrays of `bytes` in all.
pub(super) fn bandwidth(bytes: usize) -> f64 {
    let mut triad = Triad::new((bytes / 12).max(1));
    best(|| triad.run(Isa::detect()))
}

/// The most work in a nanosecond that any try did.
fn best(mut work: impl FnMut() -> f64) -> f64 {
    let mut rate = || {
        let clock = Instant::now();
        let done = work();
        done / clock.elapsed().as_nanos().max(1) as f64
    };
    (0..TRIES).map(|_| rate()).fold(0.0, f64::max)
}
