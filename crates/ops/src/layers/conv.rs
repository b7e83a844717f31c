//! Convolutions, dense and depthwise, with the ReLU in front of them.

use candle_core::{Result, Tensor};
use search_space::Norm;

use crate::{
    Backward, Forward, Layer, ParamBuilder, ParamStore, Sketch, WeightId,
    kernels::{Prelude, Window, conv, depthwise},
};

/// `y = w ∗ prelude(x) + b`, with `w (kh, kw, c_in, c_out)` named `weight` and `b (c_out,)`, where there is one, `bias`.
///
/// The ReLU that spaces put before a convolution is applied while reading: its output is never stored.
#[derive(Clone, Debug)]
pub struct Conv {
    pub(super) weight: WeightId,
    pub(super) bias: Option<WeightId>,
    pub(super) window: Window,
    pub(super) prelude: Prelude,
}

impl Conv {
    /// A convolution of `channels` (in, out) without bias.
    ///
    /// # Errors
    /// A name is taken.
    pub fn new(
        params: &mut ParamBuilder<'_>,
        channels: (usize, usize),
        window: Window,
        prelude: Prelude,
    ) -> Result<Self> {
        let ((kh, kw), (c_in, c_out)) = (window.kernel, channels);
        let weight = params.uniform("weight", (kh, kw, c_in, c_out), kh * kw * c_in)?;
        Ok(Self { weight, bias: None, window, prelude })
    }

    /// A convolution in front of a batch norm: it has a bias where the space says so.
    ///
    /// # Errors
    /// A name is taken.
    pub fn before_norm(
        params: &mut ParamBuilder<'_>,
        channels: (usize, usize),
        window: Window,
        prelude: Prelude,
        norm: &Norm,
    ) -> Result<Self> {
        let mut conv = Self::new(params, channels, window, prelude)?;
        if norm.conv_bias {
            let fan_in = window.kernel.0 * window.kernel.1 * channels.0;
            conv.bias = Some(params.uniform("bias", channels.1, fan_in)?);
        }
        Ok(conv)
    }
}

impl Layer for Conv {
    type Saved = Tensor;

    fn forward(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Tensor, Tensor)> {
        let w = pass.params.weight(self.weight);
        let y = match self.bias.map(|bias| pass.params.weight(bias)) {
            Some(bias) => conv::forward_biased(x, w, bias, &self.window, self.prelude)?,
            None => conv::forward(x, w, &self.window, self.prelude)?,
        };
        Ok((y, x.clone()))
    }

    fn backward(&self, x: Tensor, grad: &Tensor, pass: &mut Backward<'_>) -> Result<Tensor> {
        let gx = conv::input_gradient(grad, pass.params.weight(self.weight), &x, &self.window, self.prelude)?;
        self.backward_weights(x, grad, pass)?;
        Ok(gx)
    }

    fn backward_weights(&self, x: Tensor, grad: &Tensor, pass: &mut Backward<'_>) -> Result<()> {
        let Some(gradients) = pass.gradients.as_deref_mut() else { return Ok(()) };
        let Some(bias) = self.bias else {
            return gradients.add(self.weight, conv::weight_gradient(&x, grad, &self.window, self.prelude)?);
        };
        let (of_weight, of_bias) = conv::weight_and_bias_gradients(&x, grad, &self.window, self.prelude)?;
        gradients.add(self.weight, of_weight)?;
        gradients.add(bias, of_bias)
    }

    fn gathers(&self) -> bool {
        true
    }

    fn sketch(&self, params: &ParamStore) -> Option<Sketch> {
        let (name, bias) = (scope_of(params, self.weight), self.bias.is_some());
        Some(Sketch::Conv { name, bias, window: self.window, prelude: self.prelude })
    }
}

/// One filter per channel: `y = w ∗ prelude(x)`, with `w (kh, kw, c)` named `weight`.
#[derive(Clone, Debug)]
pub struct Depthwise {
    pub(super) weight: WeightId,
    pub(super) window: Window,
    pub(super) prelude: Prelude,
}

impl Depthwise {
    /// A depthwise convolution over `channels`, without bias.
    ///
    /// # Errors
    /// The name is taken.
    pub fn new(
        params: &mut ParamBuilder<'_>,
        channels: usize,
        window: Window,
        prelude: Prelude,
    ) -> Result<Self> {
        let (kh, kw) = window.kernel;
        Ok(Self { weight: params.uniform("weight", (kh, kw, channels), kh * kw)?, window, prelude })
    }
}

impl Layer for Depthwise {
    type Saved = Tensor;

    fn forward(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Tensor, Tensor)> {
        let y = depthwise::forward(x, pass.params.weight(self.weight), &self.window, self.prelude)?;
        Ok((y, x.clone()))
    }

    fn backward(&self, x: Tensor, grad: &Tensor, pass: &mut Backward<'_>) -> Result<Tensor> {
        let w = pass.params.weight(self.weight);
        let gx = depthwise::input_gradient(grad, w, &x, &self.window, self.prelude)?;
        self.backward_weights(x, grad, pass)?;
        Ok(gx)
    }

    fn backward_weights(&self, x: Tensor, grad: &Tensor, pass: &mut Backward<'_>) -> Result<()> {
        let Some(gradients) = pass.gradients.as_deref_mut() else { return Ok(()) };
        gradients.add(self.weight, depthwise::weight_gradient(&x, grad, &self.window, self.prelude)?)
    }

    fn gathers(&self) -> bool {
        true
    }

    fn sketch(&self, params: &ParamStore) -> Option<Sketch> {
        let name = scope_of(params, self.weight);
        Some(Sketch::Depthwise { name, window: self.window, prelude: self.prelude })
    }
}

/// The name of the layer whose `weight` this is.
pub(super) fn scope_of(params: &ParamStore, weight: WeightId) -> String {
    let name = params.name(weight);
    name.strip_suffix(".weight").unwrap_or(name).to_owned()
}
