//! Noise from a generator that is handed in: the same state draws the same numbers, on every machine of one kind.

use std::f64::consts::TAU;

use candle_core::{DType, Device, Result, Tensor};
use rand::RngCore;
use rand_chacha::ChaCha8Rng;

/// Draws independent standard Gumbel noise of shape `(E, K)`: `g = −ln(−ln u)` with `u` uniform in (0, 1).
///
/// The numbers are drawn on the host in `f64`, row by row, and rounded to `dtype` last. Because `u` keeps a distance
/// of 2⁻⁵³ from both ends, every `g` lies in [−3.61, 36.75].
///
/// # Errors
/// candle's, when the upload fails or `dtype` is no float.
///
/// # References
/// - Gumbel, *Statistical Theory of Extreme Values and Some Practical Applications*, 1954
/// - Maddison, Tarlow & Minka, *A\* Sampling*, 2014, §2, <https://arxiv.org/abs/1411.0030>
pub fn gumbel(
    (edges, candidates): (usize, usize),
    rng: &mut ChaCha8Rng,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let draws: Vec<f64> = (0..edges * candidates).map(|_| -(-uniform(rng).ln()).ln()).collect();
    Tensor::from_vec(draws, (edges, candidates), device)?.to_dtype(dtype)
}

/// Draws from the standard normal distribution by Box and Muller's polar form, one number from two uniforms.
pub(crate) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * uniform(rng).ln()).sqrt();
    radius * (TAU * uniform(rng)).cos()
}

/// Draws from the standard exponential distribution: `−ln u`, in (0, 36.75].
pub(crate) fn exponential(rng: &mut ChaCha8Rng) -> f64 {
    -uniform(rng).ln()
}

/// Uniform strictly inside (0, 1): the midpoints of 2⁵² equal cells, each exact in `f64`.
pub(crate) fn uniform(rng: &mut impl RngCore) -> f64 {
    const CELLS: f64 = (1u64 << 52) as f64;
    ((rng.next_u64() >> 12) as f64 + 0.5) / CELLS
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_seed_fixes_the_noise_and_another_changes_it() -> Result<()> {
        let draw = |seed| {
            gumbel((3, 4), &mut ChaCha8Rng::seed_from_u64(seed), DType::F64, &Device::Cpu)?.to_vec2::<f64>()
        };
        assert_eq!(draw(1)?, draw(1)?);
        assert_ne!(draw(1)?, draw(2)?);
        Ok(())
    }

    /// Euler's constant and π²/6; four standard errors of n = 100 000 draws (kurtosis of a Gumbel: 5.4).
    #[test]
    fn gumbel_noise_has_the_moments_of_its_distribution() -> Result<()> {
        let noise = gumbel((100, 1000), &mut ChaCha8Rng::seed_from_u64(0), DType::F64, &Device::Cpu)?;
        let draws = noise.flatten_all()?.to_vec1::<f64>()?;
        let mean = draws.iter().sum::<f64>() / 1e5;
        let variance = draws.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / 1e5;
        assert!((mean - 0.577_216).abs() < 4.0 * 1.2825 / 1e5f64.sqrt(), "mean {mean}");
        assert!((variance - 1.644_934).abs() < 4.0 * 1.6449 * (4.4f64 / 1e5).sqrt(), "variance {variance}");
        Ok(())
    }

    #[test]
    fn normal_noise_has_mean_zero_and_variance_one() {
        let rng = &mut ChaCha8Rng::seed_from_u64(0);
        let draws: Vec<f64> = (0..100_000).map(|_| normal(rng)).collect();
        let mean = draws.iter().sum::<f64>() / 1e5;
        let variance = draws.iter().map(|x| x * x).sum::<f64>() / 1e5;
        assert!(mean.abs() < 4.0 / 1e5f64.sqrt(), "mean {mean}");
        assert!((variance - 1.0).abs() < 4.0 * (2.0f64 / 1e5).sqrt(), "variance {variance}");
    }

    struct Constant(u64);

    impl RngCore for Constant {
        fn next_u32(&mut self) -> u32 {
            self.0 as u32
        }

        fn next_u64(&mut self) -> u64 {
            self.0
        }

        fn fill_bytes(&mut self, bytes: &mut [u8]) {
            bytes.fill(self.0 as u8);
        }
    }

    #[test]
    fn uniforms_never_touch_zero_or_one() {
        assert_eq!(uniform(&mut Constant(0)), 2f64.powi(-53));
        assert_eq!(uniform(&mut Constant(u64::MAX)), 1.0 - 2f64.powi(-53));
    }
}
