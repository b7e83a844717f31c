//! Two examples made into one: mixup and CutMix.

use candle_core::{Device, Result, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution};

/// A batch of which each example is a mixture with another, and the share of the first label.
#[derive(Clone, Debug)]
pub(crate) struct Mixed {
    pub(crate) x: Tensor,
    /// Labels of the partners: the same batch, backwards.
    pub(crate) others: Vec<u32>,
    /// Share of an example's own label, in [0, 1].
    pub(crate) share: f64,
}

/// Mixes a batch with itself backwards, which after shuffling is a random partner for each; nothing where both
/// strengths are 0. With both, each batch draws one of the two.
///
/// ```text
/// mixup    x ← λ·x + (1 − λ)·x'      λ ~ Beta(α, α)
/// CutMix   a box of x' in x, its area a share 1 − λ of the map, its center anywhere, clipped at the border
/// ```
///
/// Labels are weighted by `λ`, for CutMix by the area that is left.
///
/// # References
/// - Zhang et al., *mixup*, 2018, <https://arxiv.org/abs/1710.09412>
/// - Yun et al., *CutMix*, 2019, <https://arxiv.org/abs/1905.04899>
pub(crate) fn mix(
    x: &Tensor,
    labels: &[u32],
    [mixup, cutmix]: [f64; 2],
    rng: &mut ChaCha8Rng,
) -> Result<Option<Mixed>> {
    let cut = match (mixup > 0.0, cutmix > 0.0) {
        (false, false) => return Ok(None),
        (true, true) => rng.random::<bool>(),
        (_, cut) => cut,
    };
    let alpha = if cut { cutmix } else { mixup };
    let beta = Beta::new(alpha, alpha).map_err(candle_core::Error::wrap)?;
    let lambda: f64 = beta.sample(rng);
    let n = x.dim(0)?;
    let backwards: Vec<u32> = (0..n as u32).rev().collect();
    let partner = x.index_select(&Tensor::new(backwards, x.device())?, 0)?;
    let others = labels.iter().rev().copied().collect();
    let (x, share) = match cut {
        false => (((x * lambda)? + (partner * (1.0 - lambda))?)?, lambda),
        true => pasted(x, &partner, lambda, rng)?,
    };
    Ok(Some(Mixed { x, others, share }))
}

/// `x` with a box of `partner`, and the share of `x` that is left.
fn pasted(x: &Tensor, partner: &Tensor, lambda: f64, rng: &mut ChaCha8Rng) -> Result<(Tensor, f64)> {
    let dims = x.dims();
    let (height, width) = match dims {
        [_, height, width, _] => (*height, *width),
        [_, length, _] => (1, *length),
        _ => (1, 1),
    };
    let side = (1.0 - lambda).sqrt();
    let mut span = |n: usize, side: f64| {
        let (center, reach) = (rng.random_range(0..n as u32) as f64, side * n as f64 / 2.0);
        let low = (center - reach).round().clamp(0.0, n as f64) as usize;
        low..((center + reach).round().clamp(0.0, n as f64) as usize).max(low)
    };
    // Of a series all of the share lies along its one axis.
    let (rows, columns) = if dims.len() == 4 {
        (span(height, side), span(width, side))
    } else {
        (0..1, span(width, 1.0 - lambda))
    };
    let inside = |at: usize| rows.contains(&(at / width)) && columns.contains(&(at % width));
    let mask: Vec<f32> = (0..height * width).map(|at| if inside(at) { 1.0 } else { 0.0 }).collect();
    let shape: Vec<usize> = dims
        .iter()
        .enumerate()
        .map(|(axis, &n)| if axis == 0 || axis + 1 == dims.len() { 1 } else { n })
        .collect();
    let mask = Tensor::from_vec(mask, shape, &Device::Cpu)?.to_dtype(x.dtype())?.to_device(x.device())?;
    let difference = (partner - x)?;
    let mixed = (x + difference.broadcast_mul(&mask)?)?;
    let left = 1.0 - (rows.len() * columns.len()) as f64 / (height * width) as f64;
    Ok((mixed, left))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn batch(dims: &[usize]) -> Result<Tensor> {
        let half: usize = dims.iter().skip(1).product();
        let values: Vec<f32> = (0..dims[0] * half).map(|i| (i / half) as f32).collect();
        Tensor::from_vec(values, dims, &Device::Cpu) // example i holds i everywhere
    }

    fn mixed(dims: &[usize], strengths: [f64; 2], seed: u64) -> Result<Mixed> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Ok(mix(&batch(dims)?, &[7, 8], strengths, &mut rng)?.expect("a strength is above 0"))
    }

    #[test]
    fn mixup_blends_values_as_it_blends_labels() -> Result<()> {
        let Mixed { x, others, share } = mixed(&[2, 2, 2, 1], [1.0, 0.0], 3)?;
        assert_eq!(others, [8, 7]);
        let first = x.get(0)?.flatten_all()?.to_vec1::<f32>()?; // λ·0 + (1 − λ)·1
        assert!(first.iter().all(|value| (f64::from(*value) - (1.0 - share)).abs() < 1e-6));
        Ok(())
    }

    /// Example 0 holds zeros, its partner ones: the mean is the share of the partner's area.
    #[test]
    fn cutmix_pastes_as_much_as_it_says() -> Result<()> {
        for (dims, seeds) in [(&[2, 8, 8, 3][..], 0..20), (&[2, 16, 4], 20..40)] {
            for seed in seeds {
                let Mixed { x, share, .. } = mixed(dims, [0.0, 1.0], seed)?;
                let first = x.get(0)?.flatten_all()?.to_vec1::<f32>()?;
                assert!(first.iter().all(|value| [0.0, 1.0].contains(value)));
                let pasted = first.iter().sum::<f32>() / first.len() as f32;
                assert!((f64::from(pasted) - (1.0 - share)).abs() < 1e-6);
            }
        }
        Ok(())
    }

    #[test]
    fn without_strength_nothing_is_drawn() -> Result<()> {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        assert!(mix(&batch(&[2, 2, 2, 1])?, &[0, 1], [0.0, 0.0], &mut rng)?.is_none());
        assert_eq!(rng.random::<u64>(), ChaCha8Rng::seed_from_u64(0).random::<u64>());
        Ok(())
    }
}
