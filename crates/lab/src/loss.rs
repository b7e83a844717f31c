//! Losses of one edge's gates, with their slopes.

use std::{fmt, str::FromStr};

use crate::Error;

/// A loss `L(h)` of the gates `h` of one edge: at a corner `e_k` it is the loss of candidate `k`.
///
/// ```text
/// linear        a·h
/// quadratic     a·h + ½(b·h)²
/// exponential   Σ a_k exp(b_k h_k)
/// cubic         a·h + (b·h)³
/// table         linear, with `a` as given
/// ```
///
/// What distinguishes them is how they run between two corners: the straight-through estimators see the slopes at the
/// corners only.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    curve: Curve,
    a: Vec<f64>,
    b: Vec<f64>,
}

/// How a loss runs between two choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// Straight.
    Linear,
    /// As a parabola.
    Quadratic,
    /// As a sum of exponentials.
    Exponential,
    /// As a cubic.
    Cubic,
}

impl Curve {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Linear, Self::Quadratic, Self::Exponential, Self::Cubic];

    fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Quadratic => "quadratic",
            Self::Exponential => "exponential",
            Self::Cubic => "cubic",
        }
    }
}

impl Loss {
    /// The loss of this curve for `candidates`, with coefficients that are no two alike:
    /// `a_k = cos(2k + 1)`, `b_k = 1.5·sin(3k + 1)`.
    #[must_use]
    pub fn new(curve: Curve, candidates: usize) -> Self {
        let k = || (0..candidates).map(|k| k as f64);
        let a = k().map(|k| (2.0 * k + 1.0).cos()).collect();
        let b = k().map(|k| 1.5 * (3.0 * k + 1.0).sin()).collect();
        Self { curve, a, b }
    }

    /// The loss of every candidate as given, linear between them.
    ///
    /// # Errors
    /// A loss is not finite, or there is none.
    pub fn table(losses: Vec<f64>) -> Result<Self, Error> {
        match losses.iter().find(|loss| !loss.is_finite()) {
            None if !losses.is_empty() => {
                Ok(Self { curve: Curve::Linear, b: vec![0.0; losses.len()], a: losses })
            }
            found => Err(Error::Setting {
                what: "table of losses",
                found: found.map_or("nothing".into(), f64::to_string),
                accepted: "a finite number for every candidate",
            }),
        }
    }

    /// The number of candidates `K`.
    #[must_use]
    pub fn candidates(&self) -> usize {
        self.a.len()
    }

    /// How it runs between two choices.
    #[must_use]
    pub fn curve(&self) -> Curve {
        self.curve
    }

    /// `L(h)`.
    #[must_use]
    pub fn value(&self, h: &[f64]) -> f64 {
        let (straight, bend) = (dot(&self.a, h), dot(&self.b, h));
        match self.curve {
            Curve::Linear => straight,
            Curve::Quadratic => straight + 0.5 * bend * bend,
            Curve::Exponential => self.exponentials(h).sum(),
            Curve::Cubic => straight + bend.powi(3),
        }
    }

    /// `∂L/∂h`, `K` numbers.
    #[must_use]
    pub fn slope(&self, h: &[f64]) -> Vec<f64> {
        let bend = dot(&self.b, h);
        let with = |factor: f64| self.a.iter().zip(&self.b).map(|(a, b)| a + b * factor).collect();
        match self.curve {
            Curve::Linear => self.a.clone(),
            Curve::Quadratic => with(bend),
            Curve::Exponential => self.exponentials(h).zip(&self.b).map(|(value, b)| b * value).collect(),
            Curve::Cubic => with(3.0 * bend * bend),
        }
    }

    /// The loss of candidate `k`.
    #[must_use]
    pub fn of_choice(&self, k: usize) -> f64 {
        let corner: Vec<f64> = (0..self.candidates()).map(|j| f64::from(u8::from(j == k))).collect();
        self.value(&corner)
    }

    fn exponentials(&self, h: &[f64]) -> impl Iterator<Item = f64> {
        self.a.iter().zip(&self.b).zip(h).map(|((a, b), h)| a * (b * h).exp())
    }
}

fn dot(a: &[f64], h: &[f64]) -> f64 {
    a.iter().zip(h).map(|(a, h)| a * h).sum()
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Curve {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|curve| curve.name() == text).ok_or_else(|| Error::Setting {
            what: "loss",
            found: text.into(),
            accepted: "linear, quadratic, exponential, cubic, table:FILE or supernet",
        })
    }
}
