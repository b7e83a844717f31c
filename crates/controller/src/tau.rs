//! The temperature of a relaxation.

use std::fmt;

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
}

impl fmt::Display for Tau {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
