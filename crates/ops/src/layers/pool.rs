//! Pools: over a window, over corners, over everything.

use candle_core::{Result, Tensor};

use crate::{
    Backward, Forward, Layer, ParamStore, Returned, Sketch,
    kernels::{Later, Window, gpu::computed_in, pending, pool},
};

/// The largest value of each window; of equal ones the first in row-major order gets the gradient.
#[derive(Clone, Debug)]
pub struct MaxPool(pub Window);

/// The mean of the cells of each window that lie inside the map.
#[derive(Clone, Debug)]
pub struct AveragePool(pub Window);

/// Means over the corners of the map: two overlapping windows along every spatial axis, `(N, H, W, C)` becomes
/// `(N, 2, 2, C)`.
///
/// A window covers `⌈5h/8⌉` of the `h` cells of an axis: 5 of 8 with stride 3, 5 of 7 with stride 2, which are the pools
/// of DARTS's auxiliary heads for CIFAR-10 and for ImageNet (Liu et al., 2019, `cnn/model.py`). Of two cells each is a
/// window of its own; a single one is both.
#[derive(Clone, Copy, Debug)]
pub struct CornerPool;

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

    fn gathers(&self) -> bool {
        true
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

    fn backward_summand(
        &self,
        dims: Self::Saved,
        grad: &Tensor,
        pass: &mut Backward<'_>,
    ) -> Result<(Returned, Option<Later>)> {
        if !pending::pays(&dims, 0, grad) {
            return Ok((self.backward(dims, grad, pass)?.into(), None));
        }
        let gradient = pool::average_gradient_pending(grad, &dims, &self.0)?;
        Ok((Returned::Pending { gradient, weights: Vec::new() }, None))
    }

    fn gathers(&self) -> bool {
        true
    }

    fn sketch(&self, _: &ParamStore) -> Option<Sketch> {
        Some(Sketch::AveragePool(self.0))
    }
}

impl Layer for CornerPool {
    /// The input's dimensions.
    type Saved = Vec<usize>;

    fn forward(&self, x: &Tensor, _: &mut Forward<'_>) -> Result<(Tensor, Self::Saved)> {
        let (n, h, w, c) = plane(x.dims());
        let map = x.reshape((n, h, w, c))?.to_dtype(computed_in(x.dtype()))?;
        let mean = |((top, height), (left, width))| {
            map.narrow(1, top, height)?.narrow(2, left, width)?.mean((1, 2)) // (N, C)
        };
        let means = corners(x.dims()).into_iter().map(mean).collect::<Result<Vec<_>>>()?;
        let mut dims: Vec<usize> = x.dims().iter().map(|_| 2).collect();
        (dims[0], dims[x.rank() - 1]) = (n, c);
        Ok((Tensor::stack(&means, 1)?.reshape(dims)?.to_dtype(x.dtype())?, x.dims().to_vec()))
    }

    fn backward(&self, dims: Self::Saved, grad: &Tensor, _: &mut Backward<'_>) -> Result<Tensor> {
        let ((n, h, w, c), windows) = (plane(&dims), corners(&dims));
        let maps = grad.dtype();
        let grad = grad.reshape((n, windows.len(), c))?.to_dtype(computed_in(maps))?;
        let mut sum = Tensor::zeros((n, h, w, c), grad.dtype(), grad.device())?;
        for (index, ((top, height), (left, width))) in windows.into_iter().enumerate() {
            let share = (grad.narrow(1, index, 1)?.unsqueeze(1)? / (height * width) as f64)?; // (N, 1, 1, C)
            let share = share.broadcast_as((n, height, width, c))?.contiguous()?;
            let share = share.pad_with_zeros(1, top, h - top - height)?;
            sum = (sum + share.pad_with_zeros(2, left, w - left - width)?)?;
        }
        sum.reshape(dims)?.to_dtype(maps)
    }
}

/// `(N, …, C)` as `(N, H, W, C)`, with 1 for the axes it lacks.
fn plane(dims: &[usize]) -> (usize, usize, usize, usize) {
    match *dims {
        [n, h, w, c] => (n, h, w, c),
        [n, l, c] => (n, 1, l, c),
        _ => (dims[0], 1, 1, dims[dims.len() - 1]),
    }
}

/// First cell and length of the windows along both axes, row by row.
fn corners(dims: &[usize]) -> Vec<((usize, usize), (usize, usize))> {
    let pair = |cells: usize| {
        let length = if cells < 3 { 1 } else { (5 * cells).div_ceil(8) };
        vec![(0, length), (cells - length, length)]
    };
    let (_, h, w, _) = plane(dims);
    let rows = if dims.len() == 4 { pair(h) } else { vec![(0, h)] };
    let columns = if dims.len() > 2 { pair(w) } else { vec![(0, w)] };
    rows.into_iter().flat_map(|row| columns.iter().map(move |&column| (row, column))).collect()
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

    fn gathers(&self) -> bool {
        true
    }

    fn sketch(&self, _: &ParamStore) -> Option<Sketch> {
        Some(Sketch::GlobalPool)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::{Draw, Mode, Statistics};

    /// The numbers 0, 1, 2, … as a map of one channel.
    fn counted(dims: &[usize]) -> Result<Tensor> {
        let n = dims.iter().product::<usize>() as f64;
        Tensor::arange(0.0, n, &Device::Cpu)?.to_dtype(DType::F64)?.reshape(dims)
    }

    fn pooled(x: &Tensor) -> Result<Vec<f64>> {
        let params = ParamStore::new(DType::F64, &Device::Cpu);
        let statistics = &mut Statistics::default();
        let mut pass = Forward { params: &params, mode: Mode::Train, statistics, draw: Draw::default() };
        CornerPool.forward(x, &mut pass)?.0.flatten_all()?.to_vec1()
    }

    /// Rows 0–4 have the mean 2, rows 3–7 the mean 5, columns likewise: PyTorch's `AvgPool2d(5, stride=3)`.
    #[test]
    fn of_eight_cells_windows_of_five_move_by_three() -> Result<()> {
        assert_eq!(pooled(&counted(&[1, 8, 8, 1])?)?, [18.0, 21.0, 42.0, 45.0]);
        Ok(())
    }

    /// Rows 0–4 and 2–6, columns likewise: `AvgPool2d(5, stride=2)` of the head for ImageNet.
    #[test]
    fn of_seven_cells_windows_of_five_move_by_two() -> Result<()> {
        assert_eq!(pooled(&counted(&[1, 7, 7, 1])?)?, [16.0, 18.0, 30.0, 32.0]);
        Ok(())
    }

    #[test]
    fn small_maps_and_series_have_corners_too() -> Result<()> {
        assert_eq!(pooled(&counted(&[1, 2, 2, 1])?)?, [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(pooled(&(counted(&[1, 1, 1, 1])? + 7.0)?)?, [7.0; 4]);
        assert_eq!(pooled(&counted(&[1, 8, 1])?)?, [2.0, 5.0]);
        assert_eq!(pooled(&counted(&[1, 3])?)?, [0.0, 1.0, 2.0]);
        Ok(())
    }

    /// Cells 3 and 4 lie in both windows.
    #[test]
    fn the_gradient_goes_to_every_window_that_read_a_cell() -> Result<()> {
        let params = ParamStore::new(DType::F64, &Device::Cpu);
        let mut pass = Backward { params: &params, gradients: None };
        let grad = Tensor::new(&[[[10.0], [20.0]]], &Device::Cpu)?;
        let found = CornerPool.backward(vec![1, 8, 1], &grad, &mut pass)?.flatten_all()?.to_vec1::<f64>()?;
        assert_eq!(found, [2.0, 2.0, 2.0, 6.0, 6.0, 4.0, 4.0, 4.0]);
        Ok(())
    }
}
