//! A pool and the batch norm over its output, computed together.

use candle_core::{Result, Tensor};

use super::{BatchNorm, NormSaved};
use crate::{
    Backward, Forward, Layer, Mode, ParamStore, Returned, Sketch, Summand,
    kernels::{
        Later, Window,
        batch_norm::Moments,
        pending,
        pool::norm::{self, Pool},
        sum,
    },
};

/// `norm(pool(x))`, `(N, H, W, C)` to `(N, ⌈H/s⌉, ⌈W/s⌉, C)`. With the batch's own statistics both are computed together; with
/// running ones, one after the other.
///
/// # References
/// - Liu, Simonyan & Yang, *DARTS*, 2019, <https://arxiv.org/abs/1806.09055>: its search puts a batch norm without scale and
///   shift behind every pool (`cnn/model_search.py`).
#[derive(Clone, Debug)]
pub struct PoolNorm {
    /// What is taken of each window.
    pub pool: Pool,
    /// The windows.
    pub window: Window,
    /// The norm over the output.
    pub norm: BatchNorm,
}

/// What the two keep.
#[derive(Debug)]
pub struct PoolNormSaved {
    /// The input's dimensions.
    dims: Vec<usize>,
    /// Which taps had the largest values, of a maximum.
    winners: Option<Tensor>,
    norm: Normed,
}

/// What is kept of the norm.
#[derive(Debug)]
enum Normed {
    /// The pool's output and its moments.
    Train(Tensor, Moments),
    /// What the norm keeps.
    Eval(NormSaved),
}

impl Layer for PoolNorm {
    type Saved = PoolNormSaved;

    fn forward(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Tensor, PoolNormSaved)> {
        if pass.mode == Mode::Eval {
            let (y, winners) = norm::pooled(x, (self.pool, &self.window))?;
            let (z, saved) = self.norm.forward(&y, pass)?;
            return Ok((z, PoolNormSaved { dims: x.dims().to_vec(), winners, norm: Normed::Eval(saved) }));
        }
        let (summand, saved) = self.forward_summand(x, pass)?;
        Ok((Summand::total(&[(1.0, summand)])?, saved))
    }

    fn forward_summand(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Summand, PoolNormSaved)> {
        if pass.mode == Mode::Eval {
            let (z, saved) = self.forward(x, pass)?;
            return Ok((Summand::from(z), saved));
        }
        let affine = self.norm.scale_shift(pass.params);
        let pool = (self.pool, &self.window);
        let (waiting, winners) = norm::forward_waiting(x, pool, affine, self.norm.eps)?;
        self.norm.report(&waiting.moments, pass);
        let summand = Summand { map: waiting.y.clone(), norm: Some(waiting.by) };
        let norm = Normed::Train(waiting.y, waiting.moments);
        Ok((summand, PoolNormSaved { dims: x.dims().to_vec(), winners, norm }))
    }

    fn probe(&self, x: &Tensor, grad: &Tensor, pass: &mut Forward<'_>) -> Result<Later> {
        if pass.mode == Mode::Eval {
            return sum::dot_later(grad, &self.forward(x, pass)?.0);
        }
        let affine = self.norm.scale_shift(pass.params);
        norm::probe(grad, x, (self.pool, &self.window), affine, self.norm.eps)
    }

    fn backward(&self, saved: PoolNormSaved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<Tensor> {
        self.backward_summand(saved, grad, pass)?.0.whole(pass)
    }

    fn backward_summand(
        &self,
        saved: PoolNormSaved,
        grad: &Tensor,
        pass: &mut Backward<'_>,
    ) -> Result<(Returned, Option<Later>)> {
        let (dims, winners) = (&saved.dims, saved.winners.as_ref());
        let (y, moments) = match saved.norm {
            Normed::Train(y, moments) => (y, moments),
            Normed::Eval(of_norm) => {
                let grad = self.norm.backward(of_norm, grad, pass)?;
                return Ok((norm::pooled_gradient(&grad, winners, dims, &self.window)?.into(), None));
            }
        };
        let affine = self.norm.scale_shift(pass.params);
        let (gradient, scale_shift, product) = if pending::pays(dims, 0, grad) {
            let (gradient, scale_shift, product) =
                norm::backward_pending(grad, dims, &self.window, winners, (&y, &moments), affine)?;
            (Returned::Pending { gradient, weights: Vec::new() }, scale_shift, Some(product))
        } else {
            let found = norm::backward(grad, dims, &self.window, winners, (&y, &moments), affine)?;
            (found.x.into(), found.scale_shift, found.product)
        };
        if let (Some(gradients), Some((of_scale, of_shift))) = (pass.gradients.as_deref_mut(), scale_shift) {
            self.norm.add(gradients, of_scale, of_shift)?;
        }
        Ok((gradient, product))
    }

    fn gathers(&self) -> bool {
        true
    }

    fn sketch(&self, params: &ParamStore) -> Option<Sketch> {
        let pool = match self.pool {
            Pool::Max => Sketch::MaxPool(self.window),
            Pool::Average => Sketch::AveragePool(self.window),
        };
        Some(pool.then(self.norm.sketch(params)?))
    }
}
