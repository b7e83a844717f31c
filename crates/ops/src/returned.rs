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
    /// The gradient by itself. Those of weights that come with it are added to the pass's, as
    /// [`Gradients::add`](crate::Gradients::add) does it.
    ///
    /// # Errors
    /// Shapes or types do not fit.
    pub fn whole(self, pass: &mut Backward<'_>) -> Result<Tensor> {
        let (sum, found) = summed(&[(1.0, self)])?;
        if let Some(gradients) = pass.gradients.as_deref_mut() {
            found.into_iter().try_for_each(|(_, id, grad)| gradients.add(id, grad))?;
        }
        Ok(sum)
    }

    /// `Σ factor·term`, those that are pending first; a map that is alone and counts once is itself. The gradients of weights
    /// that come with terms are added to the pass's, each as often as its term counts and no more
    /// ([`Gradients::add_times`](crate::Gradients::add_times)).
    ///
    /// # Errors
    /// There is none, or shapes or types do not fit.
    pub fn total(terms: &[(f64, Self)], pass: &mut Backward<'_>) -> Result<Tensor> {
        let (sum, found) = summed(terms)?;
        if let Some(gradients) = pass.gradients.as_deref_mut() {
            found.into_iter().try_for_each(|(factor, id, grad)| gradients.add_times(id, grad, factor))?;
        }
        Ok(sum)
    }
}

/// Of each weight whose gradient came with a term, how often that term counts, and the gradient, once.
type Found = Vec<(f64, WeightId, Tensor)>;

/// The sum, and what came with it.
fn summed(terms: &[(f64, Returned)]) -> Result<(Tensor, Found)> {
    if let [(1.0, Returned::Map(map))] = terms {
        return Ok((map.clone(), Vec::new()));
    }
    let added = terms.iter().map(|(factor, term)| match term {
        Returned::Map(map) => (*factor, pending::Term::Map(map)),
        Returned::Pending { gradient, .. } => (*factor, pending::Term::Pending(gradient)),
    });
    let (sum, found) = pending::total(&added.collect::<Vec<_>>())?;
    let pending = terms.iter().filter_map(|(factor, term)| match term {
        Returned::Map(_) => None,
        Returned::Pending { weights, .. } => Some((*factor, weights)),
    });
    let weights = pending.zip(found).flat_map(|((factor, weights), found)| {
        weights.iter().zip(found).map(move |(&id, grad)| (factor, id, grad))
    });
    Ok((sum, weights.collect()))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use search_space::{Extent, Norm, Rank, Site, Vocabulary, Written};

    use super::*;
    use crate::{
        Catalog, Draw, Forward, Gradients, Mode, Op, ParamBuilder, ParamStore, Statistics,
        kernels::{
            sum,
            testing::{assert_tensors_close, random},
        },
    };

    /// An operation at a map that lies in memory, and what it says of its input and of its weights.
    fn said(op: &dyn Op, params: &ParamStore, x: &Tensor, gradients: &mut Gradients) -> Result<Returned> {
        let (mut statistics, draw) = (Statistics::default(), Draw::default());
        let mut pass = Forward { params, mode: Mode::Train, statistics: &mut statistics, draw };
        let (y, saved) = op.forward(x, &mut pass)?;
        let gy = random(y.dims(), 5)?;
        Ok(op.backward_summand(saved, &gy, &mut Backward { params, gradients: Some(gradients) })?.0)
    }

    /// A mixture of three, of which a pool has no weights; what another operation was told to count as is not theirs.
    #[test]
    fn what_comes_with_a_term_counts_as_often_as_the_term() -> Result<()> {
        let (mut params, mut rng) = (ParamStore::new(DType::F64, &Device::Cpu), ChaCha8Rng::seed_from_u64(1));
        let extent = Extent::Image { height: 64, width: 64 };
        let site = Site { extent, c_in: 16, c_out: 16, stride: 1, norm: Norm::default() };
        let catalog = Catalog::standard();
        let labels = ["sep_conv_3x3", "avg_pool_3x3", "nor_conv_3x3"];
        let mut builder = ParamBuilder::new(&mut params, &mut rng);
        let ops = labels.map(|label| {
            let spec = catalog.resolve(&Written::Label(label.into()), Rank::Image).expect("the word exists");
            catalog.build(&spec, &site, &mut builder.scope(label))
        });
        let ops = ops.map(|op| op.expect("the site is legal"));
        let (x, factors) = (random(&[4, 64, 64, 16], 2)?, [0.3, 0.5, 0.2]);
        let (mut alone, mut maps, mut returned) = (Vec::new(), Vec::new(), Vec::new());
        let mut together = Gradients::new(&params);
        for (op, factor) in ops.iter().zip(factors) {
            let mut gradients = Gradients::new(&params);
            gradients.multiply(factor);
            let one = said(op.as_ref(), &params, &x, &mut gradients)?;
            assert!(matches!(one, Returned::Pending { .. }));
            let pass = &mut Backward { params: &params, gradients: Some(&mut gradients) };
            maps.push((factor, one.whole(pass)?));
            alone.push(gradients);
            together.multiply(factor);
            returned.push((factor, said(op.as_ref(), &params, &x, &mut together)?));
            together.multiply(7.0);
        }
        let pass = &mut Backward { params: &params, gradients: Some(&mut together) };
        let found = Returned::total(&returned, pass)?;
        let expected: Vec<_> = maps.iter().map(|(factor, map)| sum::Term::of(*factor, map)).collect();
        assert_tensors_close(&found, &sum::weighted(&expected)?, 1e-12)?;
        let expected: Vec<_> = alone.iter().flat_map(Gradients::iter).collect();
        assert_eq!(expected.len(), together.iter().count());
        for ((id, found), (expected_id, expected)) in together.iter().zip(expected) {
            assert_eq!(id, expected_id);
            assert_tensors_close(found, expected, 1e-12)?;
        }
        Ok(())
    }
}
