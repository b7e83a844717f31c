//! A convolution and the batch norm over its output, computed together.

use candle_core::{Result, Tensor};

use super::{BatchNorm, Conv};
use crate::{
    Backward, Forward, Layer, Mode, ParamStore, Returned, Sketch, Summand,
    kernels::{Later, batch_norm::Moments, conv::Wanted, conv_norm, pending, sum},
};

/// `norm(conv(x))`. With the batch's own statistics both are computed together, in fewer passes over memory; with
/// running ones, one after the other.
#[derive(Clone, Debug)]
pub struct ConvNorm {
    /// The convolution. Its bias, if it has one, gets the gradient 0 in training: the mean takes it out again.
    pub conv: Conv,
    /// The norm.
    pub norm: BatchNorm,
}

/// What both keep.
#[derive(Debug)]
pub enum ConvNormSaved {
    /// The convolution's input and output, and the moments of that.
    Train {
        /// The maps that make the input, side by side.
        xs: Vec<Tensor>,
        /// Output of the convolution.
        y: Tensor,
        /// Its moments.
        moments: Moments,
    },
    /// What each of the two keeps.
    Eval(<Conv as Layer>::Saved, <BatchNorm as Layer>::Saved),
}

/// Adds the gradients of everything but a convolution's weights, of it and the norm behind it, if they are asked for.
pub(super) fn add_others(
    conv: &Conv,
    norm: &BatchNorm,
    scale_shift: Option<(Tensor, Tensor)>,
    pass: &mut Backward<'_>,
) -> Result<()> {
    let Some(gradients) = pass.gradients.as_deref_mut() else { return Ok(()) };
    if let Some(bias) = conv.bias {
        gradients.add(bias, pass.params.weight(bias).zeros_like()?)?;
    }
    scale_shift.map_or(Ok(()), |(of_scale, of_shift)| norm.add(gradients, of_scale, of_shift))
}

impl ConvNorm {
    fn weights<'a>(&self, params: &'a ParamStore) -> (&'a Tensor, Option<&'a Tensor>) {
        (params.weight(self.conv.weight), self.conv.bias.map(|bias| params.weight(bias)))
    }

    /// A forward with the batch's own statistics.
    fn train(&self, xs: &[Tensor], pass: &mut Forward<'_>) -> Result<(Summand, ConvNormSaved)> {
        let Self { conv, norm } = self;
        let (weights, affine) = (self.weights(pass.params), norm.scale_shift(pass.params));
        let waiting = conv_norm::forward_beside(xs, weights, affine, norm.eps, &conv.window, conv.prelude)?;
        norm.report(&waiting.moments, pass);
        let summand = Summand { map: waiting.y.clone(), norm: Some(waiting.by) };
        Ok((summand, ConvNormSaved::Train { xs: xs.to_vec(), y: waiting.y, moments: waiting.moments }))
    }

    /// The gradients at the maps that the forward was given, and `⟨grad, z⟩`.
    fn back(
        &self,
        saved: ConvNormSaved,
        grad: &Tensor,
        pass: &mut Backward<'_>,
    ) -> Result<(Vec<Tensor>, Option<Later>)> {
        match saved {
            ConvNormSaved::Train { xs, y, moments } => {
                let wanted = if pass.gradients.is_some() { Wanted::Both } else { Wanted::Input };
                let (gxs, product) = self.gradients((&xs, &y, &moments), grad, pass, wanted)?;
                Ok((gxs.expect("an input's gradient was wanted"), product))
            }
            ConvNormSaved::Eval(of_conv, of_norm) => {
                let grad = self.norm.backward(of_norm, grad, pass)?;
                Ok((vec![self.conv.backward(of_conv, &grad, pass)?], None))
            }
        }
    }

    /// The gradients that are both `wanted` and asked for by the pass; and `⟨grad, z⟩`.
    fn gradients(
        &self,
        (xs, y, moments): (&[Tensor], &Tensor, &Moments),
        grad: &Tensor,
        pass: &mut Backward<'_>,
        wanted: Wanted,
    ) -> Result<(Option<Vec<Tensor>>, Option<Later>)> {
        let Self { conv, norm } = self;
        let (w, affine) = (pass.params.weight(conv.weight), norm.scale_shift(pass.params));
        let found =
            conv_norm::backward_beside(grad, xs, w, y, affine, moments, &conv.window, conv.prelude, wanted)?;
        if let (Some(gradients), Some(of_weight)) = (pass.gradients.as_deref_mut(), found.w) {
            gradients.add(conv.weight, of_weight)?;
        }
        add_others(&self.conv, &self.norm, found.scale_shift, pass)?;
        Ok((found.x, found.product))
    }

    /// As [`ConvNorm::back`] to a map, whose gradient is left to whoever adds it up, and with it the convolution's weights'.
    fn pending(
        &self,
        (x, y, moments): (&Tensor, &Tensor, &Moments),
        grad: &Tensor,
        pass: &mut Backward<'_>,
    ) -> Result<(Returned, Option<Later>)> {
        let Self { conv, norm } = self;
        let (wanted, weights) = match pass.gradients {
            Some(_) => (Wanted::Both, vec![conv.weight]),
            None => (Wanted::Input, Vec::new()),
        };
        let (w, affine) = (pass.params.weight(conv.weight), norm.scale_shift(pass.params));
        let (gradient, found) =
            conv_norm::backward_pending(grad, x, w, y, affine, moments, &conv.window, conv.prelude, wanted)?;
        add_others(&self.conv, &self.norm, found.scale_shift, pass)?;
        Ok((Returned::Pending { gradient, weights }, found.product))
    }
}

impl Layer for ConvNorm {
    type Saved = ConvNormSaved;

    fn forward(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Tensor, ConvNormSaved)> {
        let Self { conv, norm } = self;
        if pass.mode == Mode::Eval {
            let (y, of_conv) = conv.forward(x, pass)?;
            let (z, of_norm) = norm.forward(&y, pass)?;
            return Ok((z, ConvNormSaved::Eval(of_conv, of_norm)));
        }
        let (summand, saved) = self.train(std::slice::from_ref(x), pass)?;
        Ok((Summand::total(&[(1.0, summand)])?, saved))
    }

    fn forward_summand(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Summand, ConvNormSaved)> {
        if pass.mode == Mode::Eval {
            let (z, saved) = self.forward(x, pass)?;
            return Ok((Summand::from(z), saved));
        }
        self.train(std::slice::from_ref(x), pass)
    }

    fn forward_beside(
        &self,
        xs: &[Tensor],
        pass: &mut Forward<'_>,
    ) -> Result<Option<(Tensor, ConvNormSaved)>> {
        let w = pass.params.weight(self.conv.weight);
        if pass.mode == Mode::Eval || !conv_norm::reads_beside(xs, w, &self.conv.window)? {
            return Ok(None);
        }
        let (summand, saved) = self.train(xs, pass)?;
        Ok(Some((Summand::total(&[(1.0, summand)])?, saved)))
    }

    fn probe(&self, x: &Tensor, grad: &Tensor, pass: &mut Forward<'_>) -> Result<Later> {
        if pass.mode == Mode::Eval {
            return sum::dot_later(grad, &self.forward(x, pass)?.0);
        }
        let Self { conv, norm } = self;
        let (weights, affine) = (self.weights(pass.params), norm.scale_shift(pass.params));
        conv_norm::probe(grad, x, weights, affine, norm.eps, &conv.window, conv.prelude)
    }

    fn backward(&self, saved: ConvNormSaved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<Tensor> {
        sum::join(&self.back(saved, grad, pass)?.0)
    }

    fn backward_summand(
        &self,
        saved: ConvNormSaved,
        grad: &Tensor,
        pass: &mut Backward<'_>,
    ) -> Result<(Returned, Option<Later>)> {
        if let ConvNormSaved::Train { xs, y, moments } = &saved
            && let [x] = &xs[..]
            && pending::pays(x.dims(), pass.params.weight(self.conv.weight).elem_count(), x)
        {
            return self.pending((x, y, moments), grad, pass);
        }
        let (gxs, product) = self.back(saved, grad, pass)?;
        Ok((sum::join(&gxs)?.into(), product))
    }

    fn backward_beside(
        &self,
        saved: ConvNormSaved,
        grad: &Tensor,
        n: usize,
        pass: &mut Backward<'_>,
    ) -> Result<Vec<Tensor>> {
        sum::apart(self.back(saved, grad, pass)?.0, n)
    }

    fn backward_weights(&self, saved: ConvNormSaved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<()> {
        match saved {
            ConvNormSaved::Train { xs, y, moments } => {
                self.gradients((&xs, &y, &moments), grad, pass, Wanted::Weights).map(drop)
            }
            ConvNormSaved::Eval(of_conv, of_norm) => {
                let grad = self.norm.backward(of_norm, grad, pass)?;
                self.conv.backward_weights(of_conv, &grad, pass)
            }
        }
    }

    fn gathers(&self) -> bool {
        true
    }

    fn sketch(&self, params: &ParamStore) -> Option<Sketch> {
        Some(self.conv.sketch(params)?.then(self.norm.sketch(params)?))
    }
}
