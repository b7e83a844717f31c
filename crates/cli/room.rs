//! How much memory a search needs, and which batch a GPU has room for.

use strait::network::StepMemory;
use strait::ops::Side;
use strait::space::WordError;
use strait::{Catalog, Demand, Layout};

use crate::failure::Failure;

/// Bytes of this process beside what it learns: the program itself, and 8 MB that its kernels keep for each other at most.
const PROGRAM: u64 = 38_000_000;

/// Bytes that a device holds beside what it learns: the driver's context, the kernels, cuBLAS's workspace, and what the
/// pool of memory keeps between two blocks. What `nvidia-smi` showed on an H200 (driver 580) of `strait bench step --space
/// nas-bench-201 --estimator gdas --batch 64 --steps 200`, 1,411 MiB, less its noise of 319 MB and the 394 MB estimated for
/// the step, to two digits; another device's context may take more or less.
const DRIVER: u64 = 770_000_000;

/// What a search's step holds at most by estimate, on the CPU all of this process, on a GPU all of it there.
///
/// `strait bench step` measures beside it, and tests hold the part that grows with the batch within 15 % of what is
/// allocated, on the CPU and on an emulated device. Where paths are drawn, it is that of the candidates that hold most.
/// `map_bytes` are those of a number in a map.
pub(crate) fn peak(
    layout: &Layout,
    catalog: &Catalog,
    batch: usize,
    demand: Demand,
    (side, map_bytes): (Side, u64),
) -> Result<u64, WordError> {
    Ok(standing(side) + StepMemory { layout, catalog, batch, side, map_bytes }.peak(demand)?)
}

/// The part of an estimate that does not depend on what is searched.
pub(crate) fn standing(side: Side) -> u64 {
    match side {
        Side::Host => PROGRAM,
        Side::Device => DRIVER,
    }
}

/// Where a device of so many bytes had no room for a batch: the failure, and which batch would fit by the estimate
/// `peak` of what a batch needs.
pub(crate) fn explained(
    failure: Failure,
    batch: usize,
    bytes: Option<u64>,
    peak: impl Fn(usize) -> Option<u64>,
) -> Failure {
    let full = failure.lines().iter().any(|line| line.contains("OUT_OF_MEMORY"));
    let (true, Some(bytes)) = (full, bytes) else { return failure };
    failure.hint(match largest(batch, bytes, peak) {
        Some(n) => format!("by estimate this device has room for `--batch {n}`"),
        None => {
            "by estimate this device has room for no batch of this space: fewer channels or cells".to_owned()
        }
    })
}

/// The largest smaller batch that fits into seven eighths of the memory; the rest is the driver's, and what lies between.
fn largest(batch: usize, bytes: u64, peak: impl Fn(usize) -> Option<u64>) -> Option<usize> {
    (1..batch).rev().find(|&n| peak(n).is_some_and(|peak| peak <= bytes / 8 * 7))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Failure {
        Failure::misuse("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")")
    }

    /// 100 bytes of weights and 10 an example: 60 examples make 700 of 800 bytes.
    #[test]
    fn the_batch_that_fits_is_named() {
        let peak = |batch: usize| Some(100 + 10 * batch as u64);
        let message = explained(full(), 128, Some(800), peak).to_string();
        assert!(message.ends_with("hint: by estimate this device has room for `--batch 60`"), "{message}");
        let message = explained(full(), 128, Some(100), peak).to_string();
        assert!(message.contains("no batch of this space"), "{message}");
    }

    #[test]
    fn other_failures_stay_as_they_are() {
        let message = explained(Failure::misuse("no such thing"), 128, Some(800), |_| Some(1)).to_string();
        assert_eq!(message, "error: no such thing");
    }
}
