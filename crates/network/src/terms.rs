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

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use ops::{Catalog, Draw, Forward, Gradients, Mode, ParamBuilder, ParamStore, Statistics};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use search_space::{Extent, Norm, Rank, Site, Vocabulary, Written};

    use super::*;

    /// More terms than wait, maps among them, of an operation with weights and at a map that lies in memory.
    #[test]
    fn gradients_beyond_those_that_wait_are_added_all_the_same() -> Result<(), Error> {
        let (mut params, mut rng) = (ParamStore::new(DType::F64, &Device::Cpu), ChaCha8Rng::seed_from_u64(1));
        let extent = Extent::Image { height: 64, width: 64 };
        let site = Site { extent, c_in: 16, c_out: 16, stride: 1, norm: Norm::default() };
        let catalog = Catalog::standard();
        let spec = catalog.resolve(&Written::Label("nor_conv_1x1".into()), Rank::Image).expect("a word");
        let op = catalog.build(&spec, &site, &mut ParamBuilder::new(&mut params, &mut rng)).expect("a site");
        let numbers = Tensor::arange(0.0, 262_144.0, &Device::Cpu)?.reshape((4, 64, 64, 16))?;
        let (x, gy) = (numbers.sin()?, (numbers * 1.7)?.cos()?);
        let mut statistics = Statistics::default();
        let mut forward = || {
            let (mode, draw) = (Mode::Train, Draw::default());
            op.forward(&x, &mut Forward { params: &params, mode, statistics: &mut statistics, draw })
        };
        let (mut once, mut all) = (Gradients::new(&params), Gradients::new(&params));
        let gx =
            op.backward(forward()?.1, &gy, &mut Backward { params: &params, gradients: Some(&mut once) })?;
        let pass = &mut Backward { params: &params, gradients: Some(&mut all) };
        let (mut arriving, mut count) = (Arriving::default(), 0.0);
        for k in 0..=2 * MOST {
            let factor = 1.0 / (k + 1) as f64;
            let (returned, _) = op.backward_summand(forward()?.1, &gy, pass)?;
            assert!(matches!(returned, Returned::Pending { .. }));
            arriving.push(factor, returned, pass)?;
            arriving.push(1.0, gy.clone(), pass)?;
            count += factor;
        }
        let found = arriving.total(pass)?.expect("there were terms");
        let expected = ((gx * count)? + (&gy * (2 * MOST + 1) as f64)?)?;
        let far =
            |found: &Tensor, expected: &Tensor| (found - expected)?.abs()?.max_all()?.to_scalar::<f64>();
        assert!(far(&found, &expected)? < 1e-10);
        // Scale and shift are added at once, as often as the walk says.
        let weight = params.find("conv.weight").expect("of a convolution");
        let (once, all) = (once.get(weight).expect("was asked for"), all.get(weight).expect("was asked for"));
        assert!(far(all, &(once * count)?)? < 1e-8);
        Ok(())
    }
}
