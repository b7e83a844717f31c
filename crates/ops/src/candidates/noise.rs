//! `noise`: the operation a search must learn to avoid.

use std::f64::consts::TAU;

use candle_core::{Device, Result, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use search_space::{Cost, Rank, Site, WordError};

use super::{Candidate, counted};
use crate::{Backward, Definition, Footprint, Forward, Layer, Op, Output, ParamBuilder, Side};

/// Standard normal values, drawn anew at each pass, in evaluation too; nothing flows back to the input
/// (Zela et al., *Understanding and Robustifying DARTS*, 2020, space S4).
#[derive(Clone, Copy, Debug)]
pub struct Noise;

/// The word `noise`.
#[must_use]
pub fn definition() -> Definition {
    Definition::new("noise", "standard normal values that ignore the input", |_| Box::new(Noise)).on(&[
        Rank::Image,
        Rank::Series,
        Rank::Flat,
    ])
}

impl Candidate for Noise {
    fn cost(&self, site: &Site) -> std::result::Result<Cost, WordError> {
        Ok(counted(site, 0, 0, 0))
    }

    fn build(&self, site: &Site, params: &mut ParamBuilder<'_>) -> Result<Box<dyn Op>> {
        Ok(Box::new(Normals { site: *site, stream: params.stream() }))
    }

    fn footprint(&self, _: &Site, _: &Cost, _: Side) -> Footprint {
        Footprint { input: false, kept: 0, output: Output::Fresh, passing: 0, beside: false }
    }
}

struct Normals {
    site: Site,
    stream: u64,
}

impl Layer for Normals {
    /// The input's dimensions.
    type Saved = Vec<usize>;

    fn forward(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Tensor, Vec<usize>)> {
        let dims = self.site.output().batch_dims(x.dim(0)?);
        let mut rng = pass.draw.rng(self.stream);
        let pairs = dims.iter().product::<usize>().div_ceil(2);
        let mut values: Vec<f64> = (0..pairs).flat_map(|_| normal_pair(&mut rng)).collect();
        values.truncate(dims.iter().product());
        let y = Tensor::from_vec(values, dims, &Device::Cpu)?.to_dtype(x.dtype())?.to_device(x.device())?;
        Ok((y, x.dims().to_vec()))
    }

    fn backward(&self, dims: Vec<usize>, grad: &Tensor, _: &mut Backward<'_>) -> Result<Tensor> {
        Tensor::zeros(dims, grad.dtype(), grad.device())
    }

    fn gathers(&self) -> bool {
        true
    }
}

/// Two independent standard normals (Box & Muller, 1958).
fn normal_pair(rng: &mut ChaCha8Rng) -> [f64; 2] {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt(); // 1 − u lies in (0, 1]
    let (sin, cos) = (TAU * rng.random::<f64>()).sin_cos();
    [radius * cos, radius * sin]
}
