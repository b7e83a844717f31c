//! Numbers that a device is still computing.

use candle_core::{Result, Tensor, bail};

/// A sum that is known, or whose parts are on the device: so that nobody waits for it before its time.
#[derive(Clone, Debug)]
pub enum Later {
    /// The number.
    Known(f64),
    /// Its parts, `f64`, to be added in order.
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
        let values = match &parts[..] {
            [] => Vec::new(),
            [only] => only.to_vec1::<f64>()?,
            parts => Tensor::cat(parts, 0)?.to_vec1::<f64>()?,
        };
        let mut rest = &values[..];
        let sum = |number: &Self| match number {
            Self::Known(number) => Ok(*number),
            Self::OnDevice(parts) => match rest.split_at_checked(parts.elem_count()) {
                Some((head, tail)) => {
                    rest = tail;
                    Ok(head.iter().sum())
                }
                None => bail!("found {} parts of a sum, expected {}", rest.len(), parts.elem_count()),
            },
        };
        numbers.iter().map(sum).collect()
    }

    fn parts(&self) -> Option<&Tensor> {
        match self {
            Self::Known(_) => None,
            Self::OnDevice(parts) => Some(parts),
        }
    }
}
