//! The linear layer.

use candle_core::{Result, Tensor};

use super::conv::scope_of;
use crate::{Backward, Forward, Layer, ParamBuilder, ParamStore, Sketch, WeightId, kernels::linear};

/// `y = x·w + b`: `(N, C)` becomes `(N, O)`, with `w (C, O)` named `weight` and `b (O,)` named `bias`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: WeightId,
    bias: WeightId,
}

impl Linear {
    /// A linear layer from `features` to `outputs`.
    ///
    /// # Errors
    /// A name is taken.
    pub fn new(params: &mut ParamBuilder<'_>, features: usize, outputs: usize) -> Result<Self> {
        let weight = params.uniform("weight", (features, outputs), features)?;
        Ok(Self { weight, bias: params.uniform("bias", outputs, features)? })
    }
}

impl Layer for Linear {
    type Saved = Tensor;

    fn forward(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Tensor, Tensor)> {
        let y = linear::forward(x, pass.params.weight(self.weight), pass.params.weight(self.bias))?;
        Ok((y, x.clone()))
    }

    fn backward(&self, x: Tensor, grad: &Tensor, pass: &mut Backward<'_>) -> Result<Tensor> {
        let gx = linear::input_gradient(grad, pass.params.weight(self.weight))?;
        self.backward_weights(x, grad, pass)?;
        Ok(gx)
    }

    fn backward_weights(&self, x: Tensor, grad: &Tensor, pass: &mut Backward<'_>) -> Result<()> {
        let Some(gradients) = pass.gradients.as_deref_mut() else { return Ok(()) };
        let (of_weight, of_bias) = linear::weight_gradient(&x, grad)?;
        gradients.add(self.weight, of_weight)?;
        gradients.add(self.bias, of_bias)
    }

    fn gathers(&self) -> bool {
        true
    }

    fn sketch(&self, params: &ParamStore) -> Option<Sketch> {
        Some(Sketch::Linear { name: scope_of(params, self.weight) })
    }
}
