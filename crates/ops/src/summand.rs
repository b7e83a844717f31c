//! What an operation adds to a sum.

use candle_core::{Result, Tensor};

use crate::kernels::{
    Later,
    batch_norm::{self, Channelwise},
    sum,
};

/// An output on its way into a sum, perhaps with a batch norm still to be applied: a map costs a pass over memory to
/// write and one to read, and whoever adds it up reads it anyway.
#[derive(Clone, Debug)]
pub struct Summand {
    /// `(N, …, C)`
    pub map: Tensor,
    /// What is still to be done to each channel.
    pub norm: Option<Channelwise>,
}

impl From<Tensor> for Summand {
    fn from(map: Tensor) -> Self {
        Self { map, norm: None }
    }
}

impl Summand {
    /// `Σ factor·summand`, in order, in one pass; an output that is alone and counts once is itself.
    ///
    /// # Errors
    /// There is none, or shapes or types do not fit.
    pub fn total(terms: &[(f64, Self)]) -> Result<Tensor> {
        if let [(factor, Self { map, norm: None })] = terms
            && *factor == 1.0
        {
            return Ok(map.clone());
        }
        let terms: Vec<_> = terms
            .iter()
            .map(|(factor, summand)| sum::Term {
                factor: *factor,
                x: &summand.map,
                norm: summand.norm.as_ref(),
            })
            .collect();
        sum::weighted(&terms)
    }

    /// `⟨grad, output⟩`
    ///
    /// # Errors
    /// Shapes or types do not fit.
    pub fn dot(&self, grad: &Tensor) -> Result<Later> {
        match &self.norm {
            None => sum::dot_later(grad, &self.map),
            Some(norm) => batch_norm::dot(grad, &self.map, norm),
        }
    }
}
