//! Activations that stand alone; the ReLU before a convolution belongs to the convolution.

use candle_core::{Result, Tensor};

use crate::{Backward, Forward, Layer, ParamStore, Sketch, kernels::activation};

/// An elementwise function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x`.
    Identity,
    /// `max(x, 0)`; derivative 0 at 0.
    Relu,
    /// `min(max(x, 0), 6)`; derivative 0 at 0 and at 6.
    Relu6,
}

/// The output is kept, not the input: the next layer keeps it anyway, and `0 < y < 6` says the same as `0 < x < 6`.
impl Layer for Activation {
    type Saved = Option<Tensor>;

    fn forward(&self, x: &Tensor, _: &mut Forward<'_>) -> Result<(Tensor, Self::Saved)> {
        let y = match self {
            Self::Identity => return Ok((x.clone(), None)),
            Self::Relu => activation::relu(x)?,
            Self::Relu6 => activation::relu6(x)?,
        };
        Ok((y.clone(), Some(y)))
    }

    fn backward(&self, saved: Self::Saved, grad: &Tensor, _: &mut Backward<'_>) -> Result<Tensor> {
        match (self, saved) {
            (Self::Relu, Some(y)) => activation::relu_gradient(&y, grad),
            (Self::Relu6, Some(y)) => activation::relu6_gradient(&y, grad),
            _ => Ok(grad.clone()),
        }
    }

    fn gathers(&self) -> bool {
        true
    }

    fn sketch(&self, _: &ParamStore) -> Option<Sketch> {
        Some(match self {
            Self::Identity => Sketch::identity(),
            function => Sketch::Activation(*function),
        })
    }
}
