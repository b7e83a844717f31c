//! Sums of many maps: of a node's edges, of the gradients that return to it.

use candle_core::Tensor;
use ops::{Backward, Returned, Summand};

use crate::Error;

/// Maps that wait at most: each pass over them writes one, and those that wait take memory.
pub(crate) const MOST: usize = 12;

/// What is added up, each with its factor, in the order in which it comes and in as few passes as memory allows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms(Vec<(f64, Summand)>);

impl Terms {
    /// One more term.
    pub(crate) fn push(&mut self, factor: f64, x: impl Into<Summand>) -> Result<(), Error> {
        push(&mut self.0, (factor, x.into()), Summand::total)
    }

    /// The sum; nothing where there are no terms.
    pub(crate) fn total(self) -> Result<Option<Tensor>, Error> {
        match &self.0[..] {
            [] => Ok(None),
            terms => Ok(Some(Summand::total(terms)?)),
        }
    }
}

/// Gradients that return to a node, each with its factor, in as few passes as memory allows, those that are pending first.
#[derive(Debug, Default)]
pub(crate) struct Arriving(Vec<(f64, Returned)>);

impl Arriving {
    /// One more term of the sum.
    pub(crate) fn push(
        &mut self,
        factor: f64,
        x: impl Into<Returned>,
        pass: &mut Backward<'_>,
    ) -> Result<(), Error> {
        push(&mut self.0, (factor, x.into()), |terms| Returned::total(terms, pass))
    }

    /// The sum, nothing where there are no terms; adds the gradients of weights that come with it.
    pub(crate) fn total(self, pass: &mut Backward<'_>) -> Result<Option<Tensor>, Error> {
        match &self.0[..] {
            [] => Ok(None),
            terms => Ok(Some(Returned::total(terms, pass)?)),
        }
    }
}

/// One more term, if need be after those that wait have become one.
fn push<T: From<Tensor>>(
    terms: &mut Vec<(f64, T)>,
    term: (f64, T),
    total: impl FnOnce(&[(f64, T)]) -> candle_core::Result<Tensor>,
) -> Result<(), Error> {
    if terms.len() == MOST {
        *terms = vec![(1.0, T::from(total(terms)?))];
    }
    terms.push(term);
    Ok(())
}
