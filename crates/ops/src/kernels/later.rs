//! Numbers that a device is still computing.

use candle_core::{Result, Tensor};

use super::gpu::on_gpu;
#[cfg(any(feature = "cuda", feature = "emulate"))]
use super::{gpu::wait, sum::cuda::add_each};

/// A sum that is known, or whose parts are on the device: so that nobody waits for it before its time.
#[derive(Clone, Debug)]
pub enum Later {
    /// The number.
    Known(f64),
    /// Its parts, `f64`, to be added up.
    OnDevice(Tensor),
}

impl Later {
    /// The number; waits for the device, unless it is settled.
    ///
    /// # Errors
    /// The device fails.
    pub fn get(&self) -> Result<f64> {
        match self {
            Self::Known(number) => Ok(*number),
            Self::OnDevice(parts) => Ok(sums(&[parts])?[0]),
        }
    }

    /// Makes all numbers known; for those that are not yet, the host waits once.
    ///
    /// # Errors
    /// The device fails, or the numbers are on different ones.
    pub fn settle<'a>(numbers: impl IntoIterator<Item = &'a mut Self>) -> Result<()> {
        let mut pending: Vec<_> = numbers.into_iter().filter(|number| number.parts().is_some()).collect();
        let sums = sums(&pending.iter().filter_map(|number| number.parts()).collect::<Vec<_>>())?;
        for (number, sum) in pending.iter_mut().zip(sums) {
            **number = Self::Known(sum);
        }
        Ok(())
    }

    fn parts(&self) -> Option<&Tensor> {
        match self {
            Self::Known(_) => None,
            Self::OnDevice(parts) => Some(parts),
        }
    }
}

/// The sum of each; waits for the device.
fn sums(parts: &[&Tensor]) -> Result<Vec<f64>> {
    let Some(_first) = parts.first() else { return Ok(Vec::new()) };
    on_gpu!(_first, gpu => {
        let sums = add_each(&gpu, parts)?;
        wait()?;
        sums.to_vec1()
    });
    parts.iter().map(|parts| Ok(parts.to_vec1::<f64>()?.iter().sum())).collect()
}
