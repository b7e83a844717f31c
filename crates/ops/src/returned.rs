//! What an operation says of its input.

use candle_core::{Result, Tensor};

use crate::{
    Backward, WeightId,
    kernels::{pending, pending::Pending},
};

/// A gradient on its way into a sum. As a [`Summand`](crate::Summand) may leave its norm to whoever adds it up, this may leave
/// everything: a map costs a pass over memory to write and one to read.
#[derive(Debug)]
pub enum Returned {
    /// It is there.
    Map(Tensor),
    /// It is made where it is added up, and so are the gradients of some weights.
    Pending {
        /// What it will be.
        gradient: Pending,
        /// The weights whose gradients come with it, in order; none, if nobody asks for those.
        weights: Vec<WeightId>,
    },
}

impl From<Tensor> for Returned {
    fn from(map: Tensor) -> Self {
        Self::Map(map)
    }
}

impl Returned {
    /// The gradient by itself; those of weights that come with it are added to the pass's.
    ///
    /// # Errors
    /// Shapes or types do not fit.
    pub fn whole(self, pass: &mut Backward<'_>) -> Result<Tensor> {
        let (gradient, weights) = match self {
            Self::Map(map) => return Ok(map),
            Self::Pending { gradient, weights } => (gradient, weights),
        };
        let (sum, found) = pending::total(&[(1.0, pending::Term::Pending(&gradient))])?;
        if let Some(gradients) = pass.gradients.as_deref_mut() {
            let mut pairs = weights.into_iter().zip(found.into_iter().flatten());
            pairs.try_for_each(|(id, grad)| gradients.add(id, grad))?;
        }
        Ok(sum)
    }

    /// `Σ factor·term`, in order; a map that is alone and counts once is itself. The gradients of weights that come with terms
    /// are added to the pass's, each as often as its term counts.
    ///
    /// # Errors
    /// There is none, or shapes or types do not fit.
    pub fn total(terms: &[(f64, Self)], pass: &mut Backward<'_>) -> Result<Tensor> {
        if let [(factor, Self::Map(map))] = terms
            && *factor == 1.0
        {
            return Ok(map.clone());
        }
        let added = terms.iter().map(|(factor, term)| match term {
            Self::Map(map) => (*factor, pending::Term::Map(map)),
            Self::Pending { gradient, .. } => (*factor, pending::Term::Pending(gradient)),
        });
        let (sum, found) = pending::total(&added.collect::<Vec<_>>())?;
        if let Some(gradients) = pass.gradients.as_deref_mut() {
            let pending = terms.iter().filter_map(|(factor, term)| match term {
                Self::Map(_) => None,
                Self::Pending { weights, .. } => Some((factor, weights)),
            });
            for ((factor, weights), found) in pending.zip(found) {
                let mut pairs = weights.iter().zip(found);
                pairs.try_for_each(|(&id, grad)| gradients.add_times(id, grad, *factor))?;
            }
        }
        Ok(sum)
    }
}
