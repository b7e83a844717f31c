//! What is done to every channel of a map alike.

use candle_core::{Result, Tensor};

use super::{
    element::Real,
    values::{Values, dense, expect_dims},
};

/// What a batch norm does to each channel once its moments are known: `(x − mean) · factor + shift`; each `(C,)`.
#[derive(Clone, Debug)]
pub struct Channelwise {
    /// Mean.
    pub mean: Tensor,
    /// `inv_std · scale`
    pub factor: Tensor,
    /// Shift.
    pub shift: Tensor,
}

impl Channelwise {
    /// Mean, factor and shift of `c` channels, in double precision.
    pub(in crate::kernels) fn wide<T: Real>(&self, c: usize) -> Result<[Vec<f64>; 3]> {
        Ok([channels::<T>(&self.mean, c)?, channels::<T>(&self.factor, c)?, channels::<T>(&self.shift, c)?])
    }

    /// Mean, factor and shift of `c` channels.
    pub(in crate::kernels) fn channels<T: Real>(&self, c: usize) -> Result<[Vec<T>; 3]> {
        let vector = |x: &Tensor| -> Result<Vec<T>> {
            expect_dims("a value per channel", x, &[c])?;
            Ok(Values::<T>::of(&dense(x)?)?.to_vec())
        };
        Ok([vector(&self.mean)?, vector(&self.factor)?, vector(&self.shift)?])
    }
}

/// A value of each of `c` channels, in double precision.
pub(in crate::kernels) fn channels<T: Real>(x: &Tensor, c: usize) -> Result<Vec<f64>> {
    expect_dims("a value per channel", x, &[c])?;
    Ok(Values::<T>::of(&dense(x)?)?.iter().map(|x| x.to_f64()).collect())
}
