//! The temperature of a relaxation.

use std::fmt;

use candle_core::{DType, Device, Tensor, Var};

/// A temperature: finite and above zero, by construction.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Tau(f64);

/// A number that cannot be a temperature.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("temperature {0}; expected a finite number above 0")]
pub struct NotATemperature(pub f64);

impl Tau {
    /// Checks a temperature.
    ///
    /// # Errors
    /// `value` is not finite, or not above zero.
    pub fn new(value: f64) -> Result<Self, NotATemperature> {
        if value.is_finite() && value > 0.0 { Ok(Self(value)) } else { Err(NotATemperature(value)) }
    }

    /// The temperature as a number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }

    /// The temperature as the scalar tensor that [`crate::Estimator::relax`] takes. It is a variable, so that
    /// [`crate::ArchParams::gradient`] finds `∂L/∂τ`.
    ///
    /// # Errors
    /// candle's, when `dtype` is no float.
    pub fn to_tensor(self, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        Ok(Var::from_tensor(&Tensor::new(self.0, device)?.to_dtype(dtype)?)?.into_inner())
    }
}

impl fmt::Display for Tau {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_finite_numbers_above_zero_are_temperatures() {
        assert_eq!(Tau::new(0.1).map(Tau::get), Ok(0.1));
        for value in [0.0, -1.0, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Tau::new(value), Err(NotATemperature(value)));
        }
        let refused = Tau::new(f64::NAN).map_err(|error| error.to_string());
        assert_eq!(refused, Err("temperature NaN; expected a finite number above 0".into()));
    }
}
