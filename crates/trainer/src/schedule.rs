//! How a number moves over a run: pure functions of the progress.

use std::f64::consts::PI;

/// A number as a function of the progress `t` in [0, 1]; exactly `from` at 0 and exactly `to` at 1.
///
/// ```text
/// linear        from + (to − from)·t
/// exponential   max(to, from·(to/from)^t)
/// cosine        to + (from − to)·(1 + cos πt)/2
/// ```
///
/// The exponential is `max(τ_min, τ₀·exp(−r·e))` of the literature with the rate `r` that meets the floor in the last
/// epoch. What `t` is, is the caller's: a temperature arrives in the last epoch (`e / (E − 1)`), a learning rate
/// would arrive after it (`e / E`), as PyTorch's cosine does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The curve.
    pub shape: Shape,
    /// The value at the start.
    pub from: f64,
    /// The value at the end; a constant schedule never looks at it.
    pub to: f64,
}

/// The curve between the two ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Always `from`.
    Constant,
    /// A straight line.
    #[default]
    Linear,
    /// Straight in the logarithm; both ends are above zero.
    Exponential,
    /// Half a wave: slow, fast, slow.
    Cosine,
}

impl Schedule {
    /// The value at progress `t`; beyond [0, 1] it stays at the ends.
    #[must_use]
    pub fn at(self, t: f64) -> f64 {
        let Self { shape, from, to } = self;
        match shape {
            Shape::Constant => from,
            _ if t <= 0.0 => from,
            _ if t >= 1.0 => to,
            Shape::Linear => from + (to - from) * t,
            Shape::Exponential => from * (to / from).powf(t),
            Shape::Cosine => to + (from - to) * (1.0 + (PI * t).cos()) / 2.0,
        }
    }

    /// The value in epoch `epoch` of `epochs`, `to` in the last one; `from` where there is only one.
    #[must_use]
    pub fn arriving(self, epoch: usize, epochs: usize) -> f64 {
        if epochs < 2 { self.from } else { self.at(epoch as f64 / (epochs - 1) as f64) }
    }

    /// The value in epoch `epoch` of `epochs`, on the way to `to` in an epoch that is not run.
    #[must_use]
    pub fn leaving(self, epoch: usize, epochs: usize) -> f64 {
        self.at(epoch as f64 / epochs.max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Shape; 4] = [Shape::Constant, Shape::Linear, Shape::Exponential, Shape::Cosine];

    #[test]
    fn the_ends_are_exact() {
        for shape in &ALL[1..] {
            let tau = Schedule { shape: *shape, from: 10.0, to: 0.1 };
            assert_eq!((tau.arriving(0, 250), tau.arriving(249, 250)), (10.0, 0.1), "{shape:?}");
        }
    }

    #[test]
    fn one_epoch_has_the_first_value() {
        for shape in ALL {
            assert_eq!(Schedule { shape, from: 10.0, to: 0.1 }.arriving(0, 1), 10.0);
        }
    }

    /// GDAS: τ(e) = 10 − 9.9·e/249. DARTS: lr(e) = 0.001 + 0.012·(1 + cos(πe/50)). Midway: √(8·2) = 4, (8 + 2)/2 = 5.
    #[test]
    fn published_values_are_met() {
        let tau = Schedule { shape: Shape::Linear, from: 10.0, to: 0.1 };
        assert!((tau.arriving(100, 250) - 6.024_096_385_542_169).abs() < 1e-12);
        let lr = Schedule { shape: Shape::Cosine, from: 0.025, to: 0.001 };
        assert_eq!(lr.leaving(0, 50), 0.025);
        assert!((lr.leaving(25, 50) - 0.013).abs() < 1e-12);
        assert!((lr.leaving(49, 50) - 0.001_023_679_258_860_741_2).abs() < 1e-12);
        let midway = |shape| Schedule { shape, from: 8.0, to: 2.0 }.arriving(1, 3);
        assert_eq!(ALL.map(midway), [8.0, 5.0, 4.0, 5.0]);
    }

    #[test]
    fn a_falling_schedule_never_rises() {
        for shape in ALL {
            let values: Vec<f64> =
                (0..100).map(|e| Schedule { shape, from: 5.0, to: 0.5 }.arriving(e, 100)).collect();
            assert!(values.windows(2).all(|pair| pair[0] >= pair[1]), "{shape:?}");
        }
    }
}
