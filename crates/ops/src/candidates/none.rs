//! `none`: the absence of an operation.

use candle_core::{Result, Tensor};
use search_space::{Cost, OpSpec, Rank, Site, WordError};

use super::Candidate;
use crate::{Backward, Definition, Forward, Layer, Op, ParamBuilder};

/// Zeros. A network skips the edge instead of running this; it exists so that every word can be built.
#[derive(Clone, Copy, Debug)]
pub struct Absent;

/// The word `none`.
#[must_use]
pub fn definition() -> Definition {
    Definition::new(OpSpec::NONE, "no operation: the edge is absent and its value zero", |_| Box::new(Absent))
        .on(&[Rank::Image, Rank::Series, Rank::Flat])
}

impl Candidate for Absent {
    fn cost(&self, _: &Site) -> std::result::Result<Cost, WordError> {
        Ok(Cost::default())
    }

    fn build(&self, site: &Site, _: &mut ParamBuilder<'_>) -> Result<Box<dyn Op>> {
        Ok(Box::new(Zeros { site: *site }))
    }
}

struct Zeros {
    site: Site,
}

impl Layer for Zeros {
    /// The input's dimensions.
    type Saved = Vec<usize>;

    fn forward(&self, x: &Tensor, _: &mut Forward<'_>) -> Result<(Tensor, Vec<usize>)> {
        let dims = self.site.output().batch_dims(x.dim(0)?);
        Ok((Tensor::zeros(dims, x.dtype(), x.device())?, x.dims().to_vec()))
    }

    fn backward(&self, dims: Vec<usize>, grad: &Tensor, _: &mut Backward<'_>) -> Result<Tensor> {
        Tensor::zeros(dims, grad.dtype(), grad.device())
    }

    fn gathers(&self) -> bool {
        true
    }
}
