//! `auxiliary_head`: DARTS's second head, which helps training.

use candle_core::Result;
use search_space::{Cost, Extent, Site, WordError};

use super::{Candidate, taps};
use crate::{
    Definition, Op, ParamBuilder, Parameter,
    layers::{AUXILIARY, auxiliary_head},
};

/// ReLU, average to 2×2, 1×1 convolution to 128, batch norm, ReLU, 2×2 convolution to 768, batch norm, ReLU, linear.
///
/// It ends the map: whatever the site's stride, the output is flat, and `c_out` is the number of classes.
#[derive(Clone, Copy, Debug)]
pub struct Auxiliary {
    /// Whether the second batch norm is there: DARTS's head for CIFAR-10 has it, the one for ImageNet has not.
    pub second_norm: bool,
}

/// The word `auxiliary_head`; `norms` is 2, or 1 for the head that DARTS was trained with on ImageNet.
#[must_use]
pub fn definition() -> Definition {
    Definition::new(
        "auxiliary_head",
        "a second classifier on an inner map, to help training (norms: 2, or 1 as DARTS has it for ImageNet)",
        |arguments| Box::new(Auxiliary { second_norm: arguments.size("norms") == 2 }),
    )
    .parameter(Parameter::number("norms", 1, 2).or(2))
    .examples(&[&[2], &[1]])
}

impl Candidate for Auxiliary {
    fn cost(&self, site: &Site) -> std::result::Result<Cost, WordError> {
        let [narrow, wide] = AUXILIARY.map(|channels| channels as u64);
        let (c_in, classes, bins) = (site.c_in as u64, site.c_out as u64, taps(site, 2));
        let (a, b, fc) = (c_in * narrow, bins * narrow * wide, wide * classes);
        let norms = 2 * (narrow + if self.second_norm { wide } else { 0 });
        let output = Site { extent: Extent::Flat, ..*site }.output().elements() as u64;
        Ok(Cost {
            params: a + b + fc + norms + classes,
            macs: bins * a + b + fc,
            saved: site.input().elements() as u64 + bins * (c_in + 2 * narrow) + 2 * wide,
            output,
        })
    }

    fn build(&self, site: &Site, params: &mut ParamBuilder<'_>) -> Result<Box<dyn Op>> {
        Ok(Box::new(auxiliary_head(params, site, self.second_norm)?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use search_space::Norm;

    use super::*;
    use crate::{Draw, Forward, Mode, ParamStore, Statistics};

    /// A tensor of zeros but for some places, counted row by row.
    fn sparse(dims: &[usize], places: &[(usize, f64)]) -> Result<Tensor> {
        let mut values = vec![0.0; dims.iter().product()];
        places.iter().for_each(|&(place, value)| values[place] = value);
        Tensor::from_vec(values, dims, &Device::Cpu)
    }

    /// The logits of a head on the 8×8 map -40, -39, …, of whose convolutions one filter each is not 0.
    fn logits(second_norm: bool) -> Result<Vec<f64>> {
        let extent = Extent::Image { height: 8, width: 8 };
        let site = Site { extent, c_in: 1, c_out: 2, stride: 1, norm: Norm::default() };
        let mut params = ParamStore::new(DType::F64, &Device::Cpu);
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let head = Auxiliary { second_norm }.build(&site, &mut ParamBuilder::new(&mut params, &mut rng))?;
        let taps = [1.0, 2.0, 3.0, 4.0].iter().enumerate().map(|(tap, &value)| (tap * 128 * 768, value));
        let taps: Vec<(usize, f64)> = taps.collect();
        params.load("a.conv.weight", &sparse(&[1, 1, 1, 128], &[(0, 1.0)])?)?;
        params.load("b.conv.weight", &sparse(&[2, 2, 128, 768], &taps)?)?;
        params.load("fc.weight", &sparse(&[768, 2], &[(0, 1.0), (1, -1.0)])?)?;
        params.load("fc.bias", &sparse(&[2], &[(1, 0.5)])?)?;
        let x = (Tensor::arange(0.0, 64.0, &Device::Cpu)? - 40.0)?.reshape((1, 8, 8, 1))?; // above 0 from row 5 on
        let statistics = &mut Statistics::default();
        let mut pass = Forward { params: &params, mode: Mode::Eval, statistics, draw: Draw::default() };
        Ok(head.forward(&x, &mut pass)?.0.to_vec2::<f64>()?.remove(0))
    }

    /// Computed on paper, and by DARTS's `AuxiliaryHeadCIFAR` in PyTorch with the same weights.
    #[test]
    fn a_head_computes_what_was_computed_by_hand() -> Result<()> {
        // The corners' means are 0, 0, 150/25 and 195/25; 3 · 6 + 4 · 7.8 = 49.2, through norms of variance 1 + 1e-5.
        for (second_norm, through) in [(true, 49.2 / (1.0 + 1e-5)), (false, 49.2 / (1.0_f64 + 1e-5).sqrt())] {
            for (found, expected) in logits(second_norm)?.iter().zip([through, 0.5 - through]) {
                assert!((found - expected).abs() < 1e-9, "{found} instead of {expected}");
            }
        }
        Ok(())
    }
}
