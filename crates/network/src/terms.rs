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
        if self.0.len() == MOST {
            let sum = std::mem::take(self).total()?;
            self.0.extend(sum.map(|sum| (1.0, Summand::from(sum))));
        }
        self.0.push((factor, x.into()));
        Ok(())
    }

    /// The sum; nothing where there are no terms.
    pub(crate) fn total(self) -> Result<Option<Tensor>, Error> {
        match &self.0[..] {
            [] => Ok(None),
            terms => Ok(Some(Summand::total(terms)?)),
        }
    }
}

/// Gradients that return to a node, each with its factor; as [`Terms`].
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
        if self.0.len() == MOST {
            let sum = std::mem::take(self).total(pass)?;
            self.0.extend(sum.map(|sum| (1.0, Returned::from(sum))));
        }
        self.0.push((factor, x.into()));
        Ok(())
    }

    /// The sum, nothing where there are no terms; adds the gradients of weights that come with it.
    pub(crate) fn total(self, pass: &mut Backward<'_>) -> Result<Option<Tensor>, Error> {
        match &self.0[..] {
            [] => Ok(None),
            terms => Ok(Some(Returned::total(terms, pass)?)),
        }
    }
}
