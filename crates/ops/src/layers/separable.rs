//! A depthwise convolution, a convolution and the batch norm over its output, computed together.

use candle_core::{Result, Tensor};

use super::{BatchNorm, Conv, Depthwise, conv_norm::add_others};
use crate::{
    Backward, Forward, Layer, Mode, ParamStore, Returned, Sketch, Summand,
    kernels::{
        Later, Prelude,
        batch_norm::{Channelwise, Moments, Sums},
        conv::Wanted,
        pending,
        separable::{self, Convolutions},
        sum,
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
        /// Input, perhaps in front of its norm.
        x: Summand,
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

    fn convolutions<'a>(&'a self, params: &'a ParamStore, norm: Option<&'a Channelwise>) -> Convolutions<'a> {
        Convolutions {
            norm,
            d: params.weight(self.depthwise.weight),
            across: &self.depthwise.window,
            prelude: self.depthwise.prelude,
            w: params.weight(self.conv.weight),
            bias: self.conv.bias.map(|bias| params.weight(bias)),
            window: &self.conv.window,
        }
    }

    /// A forward with the batch's own statistics.
    fn train(&self, x: Summand, pass: &mut Forward<'_>) -> Result<(Summand, SeparableSaved)> {
        let affine = self.norm.scale_shift(pass.params);
        let convolutions = self.convolutions(pass.params, x.norm.as_ref());
        let waiting = separable::forward_waiting(&x.map, convolutions, affine, self.norm.eps)?;
        self.norm.report(&waiting.moments, pass);
        let summand = Summand { map: waiting.y.clone(), norm: Some(waiting.by) };
        Ok((summand, SeparableSaved::Train { x, y: waiting.y, moments: waiting.moments }))
    }

    fn probe_train(&self, x: &Summand, grad: &Tensor, pass: &Forward<'_>) -> Result<Later> {
        let convolutions = self.convolutions(pass.params, x.norm.as_ref());
        let affine = self.norm.scale_shift(pass.params);
        separable::probe(grad, &x.map, convolutions, affine, self.norm.eps)
    }

    /// The gradients that are both `wanted` and asked for by the pass; `⟨grad, z⟩`; and what the first says to the input's norm.
    fn gradients(
        &self,
        (x, y, moments): (&Summand, &Tensor, &Moments),
        (grad, sums): (&Tensor, Option<Sums>),
        pass: &mut Backward<'_>,
        wanted: Wanted,
    ) -> Result<(Option<Tensor>, Option<Later>, Option<Sums>)> {
        let affine = self.norm.scale_shift(pass.params);
        let convolutions = self.convolutions(pass.params, x.norm.as_ref());
        let found = separable::backward(grad, &x.map, convolutions, (y, moments), affine, wanted, sums)?;
        if let (Some(gradients), Some((of_depthwise, of_conv))) =
            (pass.gradients.as_deref_mut(), found.weights)
        {
            gradients.add(self.depthwise.weight, of_depthwise)?;
            gradients.add(self.conv.weight, of_conv)?;
        }
        add_others(&self.conv, &self.norm, found.scale_shift, pass)?;
        Ok((found.x, found.product, found.sums))
    }

    /// Whether it pays to leave the gradient at `x` pending.
    fn pays(&self, x: &Tensor, pass: &Backward<'_>) -> bool {
        let weights = [self.depthwise.weight, self.conv.weight].map(|id| pass.params.weight(id).elem_count());
        pending::pays(x.dims(), weights.iter().sum(), x)
    }

    /// As [`Separable::back`], but the gradient at the input may be left to whoever adds it up, and with it the convolutions'
    /// weights'.
    fn back_summand(
        &self,
        saved: SeparableSaved,
        (grad, sums): (&Tensor, Option<Sums>),
        pass: &mut Backward<'_>,
    ) -> Result<(Returned, Option<Later>)> {
        let (x, y, moments) = match &saved {
            SeparableSaved::Train { x, y, moments } if x.norm.is_none() && self.pays(&x.map, pass) => {
                (&x.map, y, moments)
            }
            _ => {
                let (gx, product, _) = self.back(saved, (grad, sums), pass)?;
                return Ok((gx.into(), product));
            }
        };
        let (wanted, weights) = match pass.gradients {
            Some(_) => (Wanted::Both, vec![self.depthwise.weight, self.conv.weight]),
            None => (Wanted::Input, Vec::new()),
        };
        let affine = self.norm.scale_shift(pass.params);
        let convolutions = self.convolutions(pass.params, None);
        let (gradient, found) =
            separable::backward_pending(grad, x, convolutions, (y, moments), affine, wanted, sums)?;
        add_others(&self.conv, &self.norm, found.scale_shift, pass)?;
        Ok((Returned::Pending { gradient, weights }, found.product))
    }

    /// The gradient at the input, `⟨grad, z⟩`, and what the former says to the input's norm; `sums` is what `grad` says to this
    /// one's, where its maker knows.
    fn back(
        &self,
        saved: SeparableSaved,
        (grad, sums): (&Tensor, Option<Sums>),
        pass: &mut Backward<'_>,
    ) -> Result<(Tensor, Option<Later>, Option<Sums>)> {
        match saved {
            SeparableSaved::Train { x, y, moments } => {
                let wanted = if pass.gradients.is_some() { Wanted::Both } else { Wanted::Input };
                let (gx, product, sums) = self.gradients((&x, &y, &moments), (grad, sums), pass, wanted)?;
                Ok((gx.expect("an input's gradient was wanted"), product, sums))
            }
            SeparableSaved::Eval(of_depthwise, of_conv, of_norm) => {
                let grad = self.norm.backward(of_norm, grad, pass)?;
                let grad = self.conv.backward(of_conv, &grad, pass)?;
                Ok((self.depthwise.backward(of_depthwise, &grad, pass)?, None, None))
            }
        }
    }

    /// As [`Layer::backward_weights`], of a gradient that may have told its `sums`.
    fn back_to_weights(
        &self,
        saved: SeparableSaved,
        (grad, sums): (&Tensor, Option<Sums>),
        pass: &mut Backward<'_>,
    ) -> Result<()> {
        match saved {
            SeparableSaved::Train { x, y, moments } => {
                self.gradients((&x, &y, &moments), (grad, sums), pass, Wanted::Weights).map(drop)
            }
            saved @ SeparableSaved::Eval(..) => self.backward(saved, grad, pass).map(drop),
        }
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
        let (summand, saved) = self.forward_summand(x, pass)?;
        Ok((Summand::total(&[(1.0, summand)])?, saved))
    }

    fn forward_summand(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Summand, SeparableSaved)> {
        if pass.mode == Mode::Eval {
            let (z, saved) = self.forward(x, pass)?;
            return Ok((Summand::from(z), saved));
        }
        self.train(Summand::from(x.clone()), pass)
    }

    fn probe(&self, x: &Tensor, grad: &Tensor, pass: &mut Forward<'_>) -> Result<Later> {
        if pass.mode == Mode::Eval {
            return sum::dot_later(grad, &self.forward(x, pass)?.0);
        }
        self.probe_train(&Summand::from(x.clone()), grad, pass)
    }

    fn backward(&self, saved: SeparableSaved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<Tensor> {
        Ok(self.back(saved, (grad, None), pass)?.0)
    }

    fn backward_summand(
        &self,
        saved: SeparableSaved,
        grad: &Tensor,
        pass: &mut Backward<'_>,
    ) -> Result<(Returned, Option<Later>)> {
        self.back_summand(saved, (grad, None), pass)
    }

    fn backward_weights(&self, saved: SeparableSaved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<()> {
        self.back_to_weights(saved, (grad, None), pass)
    }

    fn gathers(&self) -> bool {
        true
    }

    fn sketch(&self, params: &ParamStore) -> Option<Sketch> {
        let convolutions = self.depthwise.sketch(params)?.then(self.conv.sketch(params)?);
        Some(convolutions.then(self.norm.sketch(params)?))
    }
}

/// One separable convolution after the other. In training the norm between them is applied while the second reads, so
/// that its output is never stored.
#[derive(Clone, Debug)]
pub struct SeparablePair(pub Separable, pub Separable);

impl Layer for SeparablePair {
    type Saved = (SeparableSaved, SeparableSaved);

    fn forward(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Tensor, Self::Saved)> {
        let (summand, saved) = self.forward_summand(x, pass)?;
        Ok((Summand::total(&[(1.0, summand)])?, saved))
    }

    fn forward_summand(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Summand, Self::Saved)> {
        let (inner, first) = self.0.forward_summand(x, pass)?;
        let (y, second) = match pass.mode {
            Mode::Train => self.1.train(inner, pass)?,
            Mode::Eval => self.1.forward_summand(&inner.map, pass)?,
        };
        Ok((y, (first, second)))
    }

    fn probe(&self, x: &Tensor, grad: &Tensor, pass: &mut Forward<'_>) -> Result<Later> {
        let (inner, _) = self.0.forward_summand(x, pass)?;
        match pass.mode {
            Mode::Train => self.1.probe_train(&inner, grad, pass),
            Mode::Eval => self.1.probe(&inner.map, grad, pass),
        }
    }

    fn backward(&self, saved: Self::Saved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<Tensor> {
        self.backward_summand(saved, grad, pass)?.0.whole(pass)
    }

    fn backward_summand(
        &self,
        (first, second): Self::Saved,
        grad: &Tensor,
        pass: &mut Backward<'_>,
    ) -> Result<(Returned, Option<Later>)> {
        let (inner, product, sums) = self.1.back(second, (grad, None), pass)?;
        Ok((self.0.back_summand(first, (&inner, sums), pass)?.0, product))
    }

    fn backward_weights(
        &self,
        (first, second): Self::Saved,
        grad: &Tensor,
        pass: &mut Backward<'_>,
    ) -> Result<()> {
        let (inner, _, sums) = self.1.back(second, (grad, None), pass)?;
        self.0.back_to_weights(first, (&inner, sums), pass)
    }

    fn gathers(&self) -> bool {
        true
    }

    fn sketch(&self, params: &ParamStore) -> Option<Sketch> {
        Some(self.0.sketch(params)?.then(self.1.sketch(params)?))
    }
}
