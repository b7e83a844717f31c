//! An operation that runs: a forward that keeps what its backward needs, and that backward.
//!
//! candle's own reverse pass cannot carry a supernet (it fills and adds a fresh tensor for every gradient, its custom
//! operations save no state), and a supernet is a graph that we know. So an [`Op`] is a pair of functions, and
//! `network` walks its edges back in a fixed order.

use std::any::Any;

use candle_core::{Result, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{
    Returned, Sketch, Summand,
    kernels::{Later, gpu, sum},
    params::{Gradients, ParamStore, Statistics},
};

/// A built operation: shapes are those of the [`search_space::Site`] it was built for, channels last. Maps and their
/// gradients may be narrower than weights ([`ParamStore::maps`]); what is made of them is as narrow.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no operation",
    note = "implement `Op`, implement `Layer` (typed saved state), or wrap a candle function in `Autograd`"
)]
pub trait Op: Any + Send + Sync {
    /// Computes `y` from `x`, and what [`Op::backward`] needs besides `∂L/∂y`.
    ///
    /// # Errors
    /// candle's, when shapes or types do not fit.
    fn forward(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Tensor, Saved)>;

    /// As [`Op::forward`], for whoever adds `y` to a sum at once: a batch norm at the end may be left to the reader, which
    /// saves writing its output and reading it again.
    ///
    /// # Errors
    /// As [`Op::forward`].
    fn forward_summand(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Summand, Saved)> {
        let (y, saved) = self.forward(x, pass)?;
        Ok((Summand::from(y), saved))
    }

    /// As [`Op::forward`], of maps of one shape `(N, …, c)` whose channels lie side by side, as the nodes of a cell do, if this
    /// reads them where they are. Else nothing: it is to be given them joined.
    ///
    /// # Errors
    /// As [`Op::forward`].
    fn forward_beside(&self, _xs: &[Tensor], _pass: &mut Forward<'_>) -> Result<Option<(Tensor, Saved)>> {
        Ok(None)
    }

    /// `⟨grad, y⟩` of an output that nobody keeps.
    ///
    /// # Errors
    /// As [`Op::forward`].
    fn probe(&self, x: &Tensor, grad: &Tensor, pass: &mut Forward<'_>) -> Result<Later> {
        sum::dot_later(grad, &self.forward(x, pass)?.0)
    }

    /// Computes `∂L/∂x` from `∂L/∂y`; adds the weights' gradients to `pass.gradients` only where that is present.
    ///
    /// # Errors
    /// candle's, when shapes or types do not fit.
    fn backward(&self, saved: Saved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<Tensor>;

    /// As [`Op::backward`], for whoever adds `∂L/∂x` to a sum: it may be left to be made there, and with it what is added to
    /// `pass.gradients`. And `⟨grad, y⟩`, where the operation comes by it on its way, as a batch norm at its end does.
    ///
    /// # Errors
    /// As [`Op::backward`].
    fn backward_summand(
        &self,
        saved: Saved,
        grad: &Tensor,
        pass: &mut Backward<'_>,
    ) -> Result<(Returned, Option<Later>)> {
        Ok((Returned::from(self.backward(saved, grad, pass)?), None))
    }

    /// `∂L/∂x` of each of the `n` maps that the forward was given side by side, or joined.
    ///
    /// # Errors
    /// As [`Op::backward`].
    fn backward_beside(
        &self,
        saved: Saved,
        grad: &Tensor,
        n: usize,
        pass: &mut Backward<'_>,
    ) -> Result<Vec<Tensor>> {
        sum::separate(&self.backward(saved, grad, pass)?, n)
    }

    /// Adds the weights' gradients and leaves out `∂L/∂x`: for a network's first operation, since nobody asks for
    /// the gradient of the images.
    ///
    /// # Errors
    /// As [`Op::backward`].
    fn backward_weights(&self, saved: Saved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<()> {
        self.backward(saved, grad, pass).map(drop)
    }

    /// Whether all that this does to its tensors it leaves to [`kernels`](crate::kernels), so that a device's launches may
    /// wait to be sent together ([`recorded`](crate::kernels::gpu::recorded)). What hands tensors to candle must not say so:
    /// it would read what is not computed yet.
    fn gathers(&self) -> bool {
        false
    }

    /// What this computes in evaluation, for exporters; `None`: it can be run here only.
    fn sketch(&self, _params: &ParamStore) -> Option<Sketch> {
        None
    }
}

/// Runs a function of an operation, whose launches wait where it says that they may.
///
/// # Errors
/// Those of `f`; or a launch fails.
pub fn run<R>(op: &dyn Op, f: impl FnOnce() -> Result<R>) -> Result<R> {
    if op.gathers() { f() } else { gpu::at_once(f) }
}

/// What a forward reads and reports, besides its input.
#[derive(Debug)]
pub struct Forward<'a> {
    /// Weights and running statistics.
    pub params: &'a ParamStore,
    /// Which statistics normalize.
    pub mode: Mode,
    /// Where batch norms report their batch's moments; the caller decides whether running statistics move.
    pub statistics: &'a mut Statistics,
    /// The key of this pass's random numbers, for operations that draw (`noise`, dropout).
    pub draw: Draw,
}

/// What a backward reads and adds to.
#[derive(Debug)]
pub struct Backward<'a> {
    /// The weights the forward ran with.
    pub params: &'a ParamStore,
    /// Present in a weight step only: an architecture step needs no gradient of a weight.
    pub gradients: Option<&'a mut Gradients>,
}

/// Which statistics a batch norm uses, and whether stochastic operations act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The batch's own moments; dropout acts.
    Train,
    /// The running statistics; dropout rests. (`noise` is random by definition, here too.)
    Eval,
}

/// The key of a pass's random numbers: the same key draws the same numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Draw {
    /// The run's seed, already mixed with the stream's number.
    pub seed: u64,
    /// The step within the stream.
    pub step: u64,
}

impl Draw {
    /// The generator of one operation in this pass; `stream` is its [`crate::ParamBuilder::stream`].
    #[must_use]
    pub fn rng(self, stream: u64) -> ChaCha8Rng {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&self.step.to_le_bytes());
        key[16..24].copy_from_slice(&stream.to_le_bytes());
        ChaCha8Rng::from_seed(key)
    }
}

/// What a forward keeps for its backward; each operation knows its own kind.
pub type Saved = Box<dyn Any + Send>;

/// An operation whose saved state has a type: what operations are written and composed as. Every `Layer` is an [`Op`].
pub trait Layer: Any + Send + Sync {
    /// What the forward keeps.
    type Saved: Any + Send;

    /// See [`Op::forward`].
    ///
    /// # Errors
    /// candle's, when shapes or types do not fit.
    fn forward(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Tensor, Self::Saved)>;

    /// See [`Op::forward_summand`].
    ///
    /// # Errors
    /// As [`Layer::forward`].
    fn forward_summand(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Summand, Self::Saved)> {
        let (y, saved) = self.forward(x, pass)?;
        Ok((Summand::from(y), saved))
    }

    /// See [`Op::forward_beside`].
    ///
    /// # Errors
    /// As [`Layer::forward`].
    fn forward_beside(
        &self,
        _xs: &[Tensor],
        _pass: &mut Forward<'_>,
    ) -> Result<Option<(Tensor, Self::Saved)>> {
        Ok(None)
    }

    /// See [`Op::probe`].
    ///
    /// # Errors
    /// As [`Layer::forward`].
    fn probe(&self, x: &Tensor, grad: &Tensor, pass: &mut Forward<'_>) -> Result<Later> {
        self.forward_summand(x, pass)?.0.dot(grad)
    }

    /// See [`Op::backward`].
    ///
    /// # Errors
    /// candle's, when shapes or types do not fit.
    fn backward(&self, saved: Self::Saved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<Tensor>;

    /// See [`Op::backward_summand`].
    ///
    /// # Errors
    /// As [`Layer::backward`].
    fn backward_summand(
        &self,
        saved: Self::Saved,
        grad: &Tensor,
        pass: &mut Backward<'_>,
    ) -> Result<(Returned, Option<Later>)> {
        Ok((Returned::from(self.backward(saved, grad, pass)?), None))
    }

    /// See [`Op::backward_beside`].
    ///
    /// # Errors
    /// As [`Layer::backward`].
    fn backward_beside(
        &self,
        saved: Self::Saved,
        grad: &Tensor,
        n: usize,
        pass: &mut Backward<'_>,
    ) -> Result<Vec<Tensor>> {
        sum::separate(&self.backward(saved, grad, pass)?, n)
    }

    /// See [`Op::backward_weights`].
    ///
    /// # Errors
    /// As [`Layer::backward`].
    fn backward_weights(&self, saved: Self::Saved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<()> {
        self.backward(saved, grad, pass).map(drop)
    }

    /// See [`Op::gathers`].
    fn gathers(&self) -> bool {
        false
    }

    /// See [`Op::sketch`].
    fn sketch(&self, _params: &ParamStore) -> Option<Sketch> {
        None
    }
}

impl<L: Layer> Op for L {
    fn forward(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Tensor, Saved)> {
        let (y, saved) = Layer::forward(self, x, pass)?;
        Ok((y, Box::new(saved)))
    }

    fn forward_summand(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Summand, Saved)> {
        let (y, saved) = Layer::forward_summand(self, x, pass)?;
        Ok((y, Box::new(saved)))
    }

    fn forward_beside(&self, xs: &[Tensor], pass: &mut Forward<'_>) -> Result<Option<(Tensor, Saved)>> {
        let found = Layer::forward_beside(self, xs, pass)?;
        Ok(found.map(|(y, saved)| (y, Box::new(saved) as Saved)))
    }

    fn probe(&self, x: &Tensor, grad: &Tensor, pass: &mut Forward<'_>) -> Result<Later> {
        Layer::probe(self, x, grad, pass)
    }

    fn backward(&self, saved: Saved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<Tensor> {
        Layer::backward(self, own::<L>(saved)?, grad, pass)
    }

    fn backward_summand(
        &self,
        saved: Saved,
        grad: &Tensor,
        pass: &mut Backward<'_>,
    ) -> Result<(Returned, Option<Later>)> {
        Layer::backward_summand(self, own::<L>(saved)?, grad, pass)
    }

    fn backward_beside(
        &self,
        saved: Saved,
        grad: &Tensor,
        n: usize,
        pass: &mut Backward<'_>,
    ) -> Result<Vec<Tensor>> {
        Layer::backward_beside(self, own::<L>(saved)?, grad, n, pass)
    }

    fn backward_weights(&self, saved: Saved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<()> {
        Layer::backward_weights(self, own::<L>(saved)?, grad, pass)
    }

    fn gathers(&self) -> bool {
        Layer::gathers(self)
    }

    fn sketch(&self, params: &ParamStore) -> Option<Sketch> {
        Layer::sketch(self, params)
    }
}

fn own<L: Layer>(saved: Saved) -> Result<L::Saved> {
    match saved.downcast::<L::Saved>() {
        Ok(saved) => Ok(*saved),
        Err(_) => candle_core::bail!("a backward was given the saved state of another operation"),
    }
}
