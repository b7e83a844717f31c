//! Pools: over a window, over bins, over everything.

use candle_core::{Result, Tensor};

use crate::{
    Backward, Forward, Layer, ParamStore, Sketch,
    kernels::{Window, pool},
};

/// The largest value of each window; of equal ones the first in row-major order gets the gradient.
#[derive(Clone, Debug)]
pub struct MaxPool(pub Window);

/// The mean of the cells of each window that lie inside the map.
#[derive(Clone, Debug)]
pub struct AveragePool(pub Window);

/// Means over a fixed number of bins, whatever comes in: bin `i` of `n` spans `⌊i·h/n⌋ .. ⌈(i+1)·h/n⌉`.
#[derive(Clone, Debug)]
pub struct AdaptivePool(pub (usize, usize));

/// The mean over all positions: `(N, …, C)` becomes `(N, C)`.
#[derive(Clone, Copy, Debug)]
pub struct GlobalPool;

impl Layer for MaxPool {
    /// Winners of the windows, and the input's dimensions.
    type Saved = (Tensor, Vec<usize>);

    fn forward(&self, x: &Tensor, _: &mut Forward<'_>) -> Result<(Tensor, Self::Saved)> {
        let (y, winners) = pool::max(x, &self.0)?;
        Ok((y, (winners, x.dims().to_vec())))
    }

    fn backward(&self, (winners, dims): Self::Saved, grad: &Tensor, _: &mut Backward<'_>) -> Result<Tensor> {
        pool::max_gradient(grad, &winners, &dims, &self.0)
    }

    fn sketch(&self, _: &ParamStore) -> Option<Sketch> {
        Some(Sketch::MaxPool(self.0))
    }
}

impl Layer for AveragePool {
    /// The input's dimensions.
    type Saved = Vec<usize>;

    fn forward(&self, x: &Tensor, _: &mut Forward<'_>) -> Result<(Tensor, Self::Saved)> {
        Ok((pool::average(x, &self.0)?, x.dims().to_vec()))
    }

    fn backward(&self, dims: Self::Saved, grad: &Tensor, _: &mut Backward<'_>) -> Result<Tensor> {
        pool::average_gradient(grad, &dims, &self.0)
    }

    fn sketch(&self, _: &ParamStore) -> Option<Sketch> {
        Some(Sketch::AveragePool(self.0))
    }
}

impl Layer for AdaptivePool {
    /// The input's dimensions.
    type Saved = Vec<usize>;

    fn forward(&self, x: &Tensor, _: &mut Forward<'_>) -> Result<(Tensor, Self::Saved)> {
        Ok((pool::adaptive_average(x, self.0)?, x.dims().to_vec()))
    }

    fn backward(&self, dims: Self::Saved, grad: &Tensor, _: &mut Backward<'_>) -> Result<Tensor> {
        pool::adaptive_average_gradient(grad, &dims)
    }
}

impl Layer for GlobalPool {
    /// The input's dimensions.
    type Saved = Vec<usize>;

    fn forward(&self, x: &Tensor, _: &mut Forward<'_>) -> Result<(Tensor, Self::Saved)> {
        Ok((pool::global_average(x)?, x.dims().to_vec()))
    }

    fn backward(&self, dims: Self::Saved, grad: &Tensor, _: &mut Backward<'_>) -> Result<Tensor> {
        pool::global_average_gradient(grad, &dims)
    }

    fn sketch(&self, _: &ParamStore) -> Option<Sketch> {
        Some(Sketch::GlobalPool)
    }
}
