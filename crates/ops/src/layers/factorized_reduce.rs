//! Halving a map without losing every second pixel.

use candle_core::{Result, Tensor};
use search_space::Site;

use super::{BatchNorm, Conv, NormSaved, axes};
use crate::{
    Backward, Forward, Layer, Mode, ParamBuilder, ParamStore, Sketch, Summand,
    kernels::{
        Later, Prelude, Window,
        batch_norm::Moments,
        conv_norm::Wanted,
        strided::{self, Convolution},
        sum,
    },
};

/// `y = [a(x), b(x)]` along the channels.
#[derive(Clone, Debug)]
pub struct Concat<A, B> {
    /// The first path.
    pub a: A,
    /// The second path.
    pub b: B,
    /// Channels of either.
    pub channels: [usize; 2],
}

impl<A: Layer, B: Layer> Layer for Concat<A, B> {
    type Saved = (A::Saved, B::Saved);

    fn forward(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Tensor, Self::Saved)> {
        let (a, saved_a) = self.a.forward(x, pass)?;
        let (b, saved_b) = self.b.forward(x, pass)?;
        Ok((sum::concat_channels(&[&a, &b])?, (saved_a, saved_b)))
    }

    fn backward(&self, (a, b): Self::Saved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<Tensor> {
        let parts = sum::split_channels(grad, &self.channels)?;
        let grad_a = self.a.backward(a, &parts[0], pass)?;
        sum::add(&grad_a, &self.b.backward(b, &parts[1], pass)?)
    }

    fn gathers(&self) -> bool {
        self.a.gathers() && self.b.gathers()
    }

    fn sketch(&self, params: &ParamStore) -> Option<Sketch> {
        Some(Sketch::Concat(vec![self.a.sketch(params)?, self.b.sketch(params)?]))
    }
}

/// DARTS's `FactorizedReduce`: two strided 1×1 convolutions, the second on the map shifted by one pixel, so that
/// together they read the diagonal neighbors a single one would skip; then one batch norm.
///
/// ```text
/// y = bn([a(relu(x)), b(relu(x shifted by (1, 1)))])      named a, b, bn
/// ```
///
/// Where the shift leaves the map it reads zeros, so odd sizes work; an odd number of channels gives the second
/// convolution one more (the original refuses both). With the batch's own statistics all are computed together where the
/// [kernels](strided) can, otherwise one after the other.
///
/// # References
/// - Liu, Simonyan & Yang, *DARTS*, 2019, <https://arxiv.org/abs/1806.09055>; its code's `operations.py`.
#[derive(Clone, Debug)]
pub struct FactorizedReduce {
    convolutions: Concat<Conv, Conv>,
    norm: BatchNorm,
}

/// What it keeps.
#[derive(Debug)]
pub enum ReduceSaved {
    /// The convolutions' input and output, and the moments of that.
    Train {
        /// The maps that make the input, side by side.
        xs: Vec<Tensor>,
        /// Outputs of the convolutions.
        y: Tensor,
        /// Their moments.
        moments: Moments,
    },
    /// What convolutions and norm keep.
    Apart((Tensor, Tensor), NormSaved),
}

impl FactorizedReduce {
    /// What changes a map as `site` says.
    ///
    /// # Errors
    /// A name is taken.
    pub fn new(params: &mut ParamBuilder<'_>, site: &Site) -> Result<Self> {
        let channels = [site.c_out / 2, site.c_out - site.c_out / 2];
        let rank = site.extent.rank();
        let window = Window::same((1, 1), axes(rank, site.stride), (1, 1));
        let (down, right) = axes(rank, 2);
        let shifted = Window { pad: (1 - down as isize, 1 - right as isize), ..window };
        let mut conv = |name, c_out, window| {
            let channels = (site.c_in, c_out);
            Conv::before_norm(&mut params.scope(name), channels, window, Prelude::Relu, &site.norm)
        };
        let (a, b) = (conv("a", channels[0], window)?, conv("b", channels[1], shifted)?);
        let norm = BatchNorm::new(&mut params.scope("bn"), site.c_out, &site.norm)?;
        Ok(Self { convolutions: Concat { a, b, channels }, norm })
    }

    fn both(&self) -> [&Conv; 2] {
        [&self.convolutions.a, &self.convolutions.b]
    }

    fn kernels<'a>(&'a self, params: &'a ParamStore) -> [Convolution<'a>; 2] {
        self.both().map(|conv| Convolution { w: params.weight(conv.weight), window: &conv.window })
    }

    /// Whether all is computed together.
    fn together(&self, xs: &[Tensor], pass: &Forward<'_>) -> Result<bool> {
        let plain = pass.mode == Mode::Train && self.both().iter().all(|conv| conv.bias.is_none());
        Ok(plain && strided::fits(xs, &self.kernels(pass.params))?)
    }

    fn train(&self, xs: &[Tensor], pass: &mut Forward<'_>) -> Result<(Summand, ReduceSaved)> {
        let (convolutions, affine) = (self.kernels(pass.params), self.norm.scale_shift(pass.params));
        let waiting = strided::forward_waiting(xs, &convolutions, Prelude::Relu, affine, self.norm.eps)?;
        self.norm.report(&waiting.moments, pass);
        let summand = Summand { map: waiting.y.clone(), norm: Some(waiting.by) };
        Ok((summand, ReduceSaved::Train { xs: xs.to_vec(), y: waiting.y, moments: waiting.moments }))
    }

    /// The gradients that are both `wanted` and asked for by the pass; and `⟨grad, z⟩`.
    fn gradients(
        &self,
        saved: ReduceSaved,
        grad: &Tensor,
        pass: &mut Backward<'_>,
        wanted: Wanted,
    ) -> Result<(Vec<Tensor>, Option<Later>)> {
        let (xs, y, moments) = match saved {
            ReduceSaved::Train { xs, y, moments } => (xs, y, moments),
            ReduceSaved::Apart(of_convolutions, of_norm) => {
                let (grad, product) = self.norm.backward_weighed(of_norm, grad, pass)?;
                return Ok((vec![self.convolutions.backward(of_convolutions, &grad, pass)?], product));
            }
        };
        let (convolutions, affine) = (self.kernels(pass.params), self.norm.scale_shift(pass.params));
        let of = (&y, &moments);
        let found = strided::backward(grad, &xs, &convolutions, Prelude::Relu, of, affine, wanted)?;
        if let (Some(gradients), Some(of_weights)) = (pass.gradients.as_deref_mut(), found.ws) {
            for (conv, of_weight) in self.both().into_iter().zip(of_weights) {
                gradients.add(conv.weight, of_weight)?;
            }
            if let Some((of_scale, of_shift)) = found.scale_shift {
                self.norm.add(gradients, of_scale, of_shift)?;
            }
        }
        Ok((found.xs.unwrap_or_default(), found.product))
    }

    /// The gradients at the maps that the forward was given, and `⟨grad, z⟩`.
    fn back(
        &self,
        saved: ReduceSaved,
        grad: &Tensor,
        pass: &mut Backward<'_>,
    ) -> Result<(Vec<Tensor>, Option<Later>)> {
        let wanted = if pass.gradients.is_some() { Wanted::Both } else { Wanted::Input };
        self.gradients(saved, grad, pass, wanted)
    }
}

impl Layer for FactorizedReduce {
    type Saved = ReduceSaved;

    fn forward(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Tensor, ReduceSaved)> {
        let (summand, saved) = self.forward_summand(x, pass)?;
        Ok((Summand::total(&[(1.0, summand)])?, saved))
    }

    fn forward_summand(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Summand, ReduceSaved)> {
        let xs = std::slice::from_ref(x);
        if self.together(xs, pass)? {
            return self.train(xs, pass);
        }
        let (y, of_convolutions) = self.convolutions.forward(x, pass)?;
        let (summand, of_norm) = self.norm.forward_summand(&y, pass)?;
        Ok((summand, ReduceSaved::Apart(of_convolutions, of_norm)))
    }

    fn forward_beside(&self, xs: &[Tensor], pass: &mut Forward<'_>) -> Result<Option<(Tensor, ReduceSaved)>> {
        if !self.together(xs, pass)? {
            return Ok(None);
        }
        let (summand, saved) = self.train(xs, pass)?;
        Ok(Some((Summand::total(&[(1.0, summand)])?, saved)))
    }

    fn probe(&self, x: &Tensor, grad: &Tensor, pass: &mut Forward<'_>) -> Result<Later> {
        if !self.together(std::slice::from_ref(x), pass)? {
            return self.forward_summand(x, pass)?.0.dot(grad);
        }
        let (convolutions, affine) = (self.kernels(pass.params), self.norm.scale_shift(pass.params));
        strided::probe(grad, x, &convolutions, Prelude::Relu, affine, self.norm.eps)
    }

    fn backward(&self, saved: ReduceSaved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<Tensor> {
        Ok(self.backward_weighed(saved, grad, pass)?.0)
    }

    fn backward_weighed(
        &self,
        saved: ReduceSaved,
        grad: &Tensor,
        pass: &mut Backward<'_>,
    ) -> Result<(Tensor, Option<Later>)> {
        let (gxs, product) = self.back(saved, grad, pass)?;
        Ok((sum::join(&gxs)?, product))
    }

    fn backward_beside(
        &self,
        saved: ReduceSaved,
        grad: &Tensor,
        n: usize,
        pass: &mut Backward<'_>,
    ) -> Result<Vec<Tensor>> {
        match &self.back(saved, grad, pass)?.0[..] {
            [joined] => sum::separate(joined, n),
            gxs => Ok(gxs.to_vec()),
        }
    }

    fn backward_weights(&self, saved: ReduceSaved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<()> {
        self.gradients(saved, grad, pass, Wanted::Weights).map(drop)
    }

    fn gathers(&self) -> bool {
        true
    }

    fn sketch(&self, params: &ParamStore) -> Option<Sketch> {
        Some(self.convolutions.sketch(params)?.then(self.norm.sketch(params)?))
    }
}
