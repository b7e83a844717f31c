//! Sums of many maps: of a node's edges, of the gradients that return to it.

use candle_core::Tensor;
use ops::kernels::sum;

use crate::Error;

/// Maps that wait at most: each pass over them writes one, and those that wait take memory.
const MOST: usize = 4;

/// What is added up, each with its factor, in the order in which it comes and in as few passes as memory allows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms(Vec<(f64, Tensor)>);

impl Terms {
    /// One more term.
    pub(crate) fn push(&mut self, factor: f64, x: Tensor) -> Result<(), Error> {
        if self.0.len() == MOST {
            let sum = std::mem::take(self).total()?;
            self.0.extend(sum.map(|sum| (1.0, sum)));
        }
        self.0.push((factor, x));
        Ok(())
    }

    /// The sum; nothing where there are no terms.
    pub(crate) fn total(self) -> Result<Option<Tensor>, Error> {
        match &self.0[..] {
            [] => Ok(None),
            [(factor, only)] if *factor == 1.0 => Ok(Some(only.clone())),
            terms => {
                let terms: Vec<(f64, &Tensor)> = terms.iter().map(|(factor, x)| (*factor, x)).collect();
                Ok(Some(sum::weighted(&terms)?))
            }
        }
    }
}
