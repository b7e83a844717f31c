//! Numbers that a device is still computing.

use candle_core::{Result, Tensor};

use super::gpu::on_gpu;
#[cfg(any(feature = "cuda", feature = "emulate"))]
use super::{gpu::send, sum};

/// A sum that is known, or whose parts are on the device: so that nobody waits for it before its time.
#[derive(Clone, Debug)]
pub enum Later {
    /// The number.
    Known(f64),
    /// Its parts, `f64`, to be added up.
    OnDevice(Tensor),
}

impl Later {
    /// The number; waits for the device.
    ///
    /// # Errors
    /// The device fails.
    pub fn get(&self) -> Result<f64> {
        Ok(Self::all(std::slice::from_ref(self))?[0])
    }

    /// All numbers, for which the host waits once.
    ///
    /// # Errors
    /// The device fails, or the numbers are on different ones.
    pub fn all(numbers: &[Self]) -> Result<Vec<f64>> {
        let parts: Vec<&Tensor> = numbers.iter().filter_map(Self::parts).collect();
        let mut sums = sums(&parts)?.into_iter();
        let number = |number: &Self| match number {
            Self::Known(number) => *number,
            Self::OnDevice(_) => sums.next().expect("each has a sum"),
        };
        Ok(numbers.iter().map(number).collect())
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
        let sums = sum::cuda::add_each(&gpu, parts)?;
        send()?;
        sums.to_vec1()
    });
    parts.iter().map(|parts| Ok(parts.to_vec1::<f64>()?.iter().sum())).collect()
}
