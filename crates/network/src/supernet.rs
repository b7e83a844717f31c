//! The supernet: every candidate of every edge.

use candle_core::{DType, Device, Tensor};
use ops::{Backward, Catalog, Forward, ParamBuilder, ParamStore};
use rand_chacha::ChaCha8Rng;
use search_space::Layout;

use crate::{
    Error, Place, Purpose, Routes, Trace,
    backward::{Slopes, WalkBack},
    forward::Walk,
    graph::Graph,
};

/// A network in which every edge still holds all its candidates, and gates say which run.
pub struct Supernet(pub(crate) Graph);

impl Supernet {
    /// Builds every candidate of `layout`, with fresh weights drawn from `rng` in the order of construction.
    ///
    /// # Errors
    /// The catalog cannot build an operation at its site.
    pub fn new(
        layout: Layout,
        catalog: &Catalog,
        dtype: DType,
        device: &Device,
        rng: &mut ChaCha8Rng,
    ) -> Result<(Self, ParamStore), Error> {
        let mut store = ParamStore::new(dtype, device);
        let graph = Graph::build(layout, catalog, &mut ParamBuilder::new(&mut store, rng))?;
        Ok((Self(graph), store))
    }

    /// The plan it was built from.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.0.layout
    }

    /// The logits `(N, classes)` of a batch `x` (`(N, H, W, C)`, `(N, L, C)` or `(N, C)`), and what
    /// [`Supernet::backward`] needs. `routes` says what runs: paths, and strengths where edges are normalized.
    ///
    /// # Errors
    /// The number of groups differs, or shapes do not fit.
    pub fn forward<'r>(
        &self,
        x: &Tensor,
        routes: impl Into<Routes<'r>>,
        purpose: Purpose,
        pass: &mut Forward<'_>,
    ) -> Result<(Tensor, Trace), Error> {
        let routes = self.checked(routes.into())?;
        let (logits, trace) = Walk::new(pass, purpose).run(&self.0, x, routes)?;
        Ok((logits.main, trace))
    }

    /// Walks back from `∂L/∂logits`.
    ///
    /// In a weight step it fills `pass.gradients`. In an architecture step, where that is absent, and in a joint step it
    /// finds what answers the estimator; in others nothing of that.
    ///
    /// # Errors
    /// The trace is that of an evaluation, or shapes do not fit.
    pub fn backward(&self, trace: Trace, grad: &Tensor, pass: &mut Backward<'_>) -> Result<Slopes, Error> {
        let mut walk = WalkBack::new(pass);
        walk.run(&self.0, trace, grad, None)?;
        Ok(walk.slopes())
    }

    /// The first operation whose output is not finite, found by one more forward pass; for the message after a loss
    /// that is not.
    ///
    /// # Errors
    /// As [`Supernet::forward`].
    pub fn diagnose<'r>(
        &self,
        x: &Tensor,
        routes: impl Into<Routes<'r>>,
        pass: &mut Forward<'_>,
    ) -> Result<Option<Place>, Error> {
        let routes = self.checked(routes.into())?;
        let walk = Walk { watch: true, ..Walk::new(pass, Purpose::Evaluate) };
        culprit(walk.run(&self.0, x, routes))
    }

    fn checked<'r>(&self, routes: Routes<'r>) -> Result<Routes<'r>, Error> {
        let (found, expected) = (routes.paths.len(), self.0.layout.groups.len());
        let strengths = routes.strengths.map_or(expected, <[_]>::len);
        match found == expected && strengths == expected {
            true => Ok(routes),
            false => Err(Error::Groups { found: found.min(strengths), expected }),
        }
    }
}

/// Turns "not finite" into an answer.
pub(crate) fn culprit<T>(result: Result<T, Error>) -> Result<Option<Place>, Error> {
    match result {
        Ok(_) => Ok(None),
        Err(Error::NotFinite(place)) => Ok(Some(place)),
        Err(error) => Err(error),
    }
}
