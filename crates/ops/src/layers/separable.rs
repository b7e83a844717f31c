//! A depthwise convolution, a convolution and the batch norm over its output, computed together.

use candle_core::{Result, Tensor};

use super::{BatchNorm, Conv, Depthwise};
use crate::{
    Backward, Forward, Layer, Mode, ParamStore, Sketch,
    kernels::{
        Prelude,
        batch_norm::Moments,
        conv_norm::{Normalized, Wanted},
        separable::{self, Convolutions},
    },
};

/// `norm(conv(depthwise(x)))`. With the batch's own statistics all are computed together, and nothing between the
/// convolutions is kept; with running ones, one after the other.
#[derive(Clone, Debug)]
pub struct Separable {
    depthwise: Depthwise,
    conv: Conv,
    norm: BatchNorm,
}

/// What the three keep.
#[derive(Debug)]
pub enum SeparableSaved {
    /// The input, the second convolution's output, and the moments of that.
    Train {
        /// Input.
        x: Tensor,
        /// Output of the second convolution.
        y: Tensor,
        /// Its moments.
        moments: Moments,
    },
    /// What each of the three keeps.
    Eval(<Depthwise as Layer>::Saved, <Conv as Layer>::Saved, <BatchNorm as Layer>::Saved),
}

impl Separable {
    /// One after the other. A bias of the convolution gets the gradient 0 in training: the mean takes it out again.
    ///
    /// # Errors
    /// The convolution has a prelude of its own.
    pub fn new(depthwise: Depthwise, conv: Conv, norm: BatchNorm) -> Result<Self> {
        if conv.prelude != Prelude::Identity {
            candle_core::bail!("found {:?} between two convolutions; expected nothing", conv.prelude);
        }
        Ok(Self { depthwise, conv, norm })
    }

    fn convolutions<'a>(&'a self, params: &'a ParamStore) -> Convolutions<'a> {
        Convolutions {
            d: params.weight(self.depthwise.weight),
            across: &self.depthwise.window,
            prelude: self.depthwise.prelude,
            w: params.weight(self.conv.weight),
            bias: self.conv.bias.map(|bias| params.weight(bias)),
            window: &self.conv.window,
        }
    }

    /// The gradients that are both `wanted` and asked for by the pass.
    fn gradients(
        &self,
        (x, y, moments): (&Tensor, &Tensor, &Moments),
        grad: &Tensor,
        pass: &mut Backward<'_>,
        wanted: Wanted,
    ) -> Result<Option<Tensor>> {
        let scale = self.norm.scale_shift(pass.params).map(|(scale, _)| scale);
        let convolutions = self.convolutions(pass.params);
        let found = separable::backward(grad, x, convolutions, (y, moments), scale, wanted)?;
        if let (Some(gradients), Some((of_depthwise, of_conv))) =
            (pass.gradients.as_deref_mut(), found.weights)
        {
            gradients.add(self.depthwise.weight, of_depthwise)?;
            gradients.add(self.conv.weight, of_conv)?;
            if let Some(bias) = self.conv.bias {
                gradients.add(bias, pass.params.weight(bias).zeros_like()?)?;
            }
            if let Some((of_scale, of_shift)) = found.scale_shift {
                self.norm.add(gradients, of_scale, of_shift)?;
            }
        }
        Ok(found.x)
    }
}

impl Layer for Separable {
    type Saved = SeparableSaved;

    fn forward(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Tensor, SeparableSaved)> {
        if pass.mode == Mode::Eval {
            let (a, of_depthwise) = self.depthwise.forward(x, pass)?;
            let (y, of_conv) = self.conv.forward(&a, pass)?;
            let (z, of_norm) = self.norm.forward(&y, pass)?;
            return Ok((z, SeparableSaved::Eval(of_depthwise, of_conv, of_norm)));
        }
        let (convolutions, affine) = (self.convolutions(pass.params), self.norm.scale_shift(pass.params));
        let Normalized { y, z, moments } = separable::forward_train(x, convolutions, affine, self.norm.eps)?;
        self.norm.report(&moments, pass);
        Ok((z, SeparableSaved::Train { x: x.clone(), y, moments }))
    }

    fn backward(&self, saved: SeparableSaved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<Tensor> {
        match saved {
            SeparableSaved::Train { x, y, moments } => {
                let wanted = if pass.gradients.is_some() { Wanted::Both } else { Wanted::Input };
                let gx = self.gradients((&x, &y, &moments), grad, pass, wanted)?;
                Ok(gx.expect("an input's gradient was wanted"))
            }
            SeparableSaved::Eval(of_depthwise, of_conv, of_norm) => {
                let grad = self.norm.backward(of_norm, grad, pass)?;
                let grad = self.conv.backward(of_conv, &grad, pass)?;
                self.depthwise.backward(of_depthwise, &grad, pass)
            }
        }
    }

    fn backward_weights(&self, saved: SeparableSaved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<()> {
        match saved {
            SeparableSaved::Train { x, y, moments } => {
                self.gradients((&x, &y, &moments), grad, pass, Wanted::Weights).map(drop)
            }
            saved @ SeparableSaved::Eval(..) => self.backward(saved, grad, pass).map(drop),
        }
    }

    fn sketch(&self, params: &ParamStore) -> Option<Sketch> {
        let convolutions = self.depthwise.sketch(params)?.then(self.conv.sketch(params)?);
        Some(convolutions.then(self.norm.sketch(params)?))
    }
}
