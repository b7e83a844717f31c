//! Fully connected layer: `y = x·w + b`.

#[cfg(test)]
mod tests;

use candle_core::{Result, Tensor};

use super::{Prelude, Window, conv};

/// `x·w + b` of `x` `(N, C)`, `w` `(C, O)`, `b` `(O,)`: `(N, O)`.
///
/// # Errors
/// Shapes or types do not fit.
pub fn forward(x: &Tensor, w: &Tensor, b: &Tensor) -> Result<Tensor> {
    x.dims2()?;
    conv::forward_biased(x, &kernel(w)?, b, &point(), Prelude::Identity)
}

/// `∂L/∂x = ∂L/∂y·wᵀ`.
///
/// # Errors
/// Shapes or types do not fit.
pub fn input_gradient(gy: &Tensor, w: &Tensor) -> Result<Tensor> {
    let x = Tensor::zeros((gy.dims2()?.0, w.dims2()?.0), gy.dtype(), gy.device())?; // for its shape only
    conv::input_gradient(gy, &kernel(w)?, &x, &point(), Prelude::Identity)
}

/// `(∂L/∂w, ∂L/∂b) = (xᵀ·∂L/∂y, Σ ∂L/∂y)`.
///
/// # Errors
/// Shapes or types do not fit.
pub fn weight_gradient(x: &Tensor, gy: &Tensor) -> Result<(Tensor, Tensor)> {
    let dims = (x.dims2()?.1, gy.dims2()?.1);
    let (gw, gb) = conv::weight_and_bias_gradients(x, gy, &point(), Prelude::Identity)?;
    Ok((gw.reshape(dims)?, gb))
}

/// A batch of vectors is a batch of one-pixel images.
fn point() -> Window {
    Window::same((1, 1), (1, 1), (1, 1))
}

fn kernel(w: &Tensor) -> Result<Tensor> {
    let (c, o) = w.dims2()?;
    w.reshape((1, 1, c, o))
}
