//! Halving a map without losing every second pixel.

use candle_core::{Result, Tensor};
use search_space::Site;

use super::{BatchNorm, Conv, NormSaved, axes};
use crate::{
    Backward, Forward, Layer, Mode, ParamBuilder, ParamStore, Returned, Sketch, Summand,
    kernels::{
        Later, Prelude, Window,
        batch_norm::Moments,
        conv::Wanted,
        pixelwise::{self, Convolution},
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
/// together they read the diagonal neighbors a single one would skip; then one batch norm: `(N, H, W, c_in)` to
/// `(N, ⌈H/s⌉, ⌈W/s⌉, c_out)`.
///
/// ```text
/// y = bn([a(relu(x)), b(relu(x shifted by (1, 1)))])      named a, b, bn
/// ```
///
/// Where the shift leaves the map it reads zeros, so odd sizes work; an odd number of channels gives the second
/// convolution one more (the original refuses both). With the batch's own statistics all are computed together where the
/// [kernels](pixelwise) can, otherwise one after the other.
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
        Ok(plain && pixelwise::fits(xs, &self.kernels(pass.params))?)
    }

    fn train(&self, xs: &[Tensor], pass: &mut Forward<'_>) -> Result<(Summand, ReduceSaved)> {
        let (convolutions, affine) = (self.kernels(pass.params), self.norm.scale_shift(pass.params));
        let waiting = pixelwise::forward_waiting(xs, &convolutions, Prelude::Relu, affine, self.norm.eps)?;
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
                let (grad, product) = self.norm.backward_summand(of_norm, grad, pass)?;
                let grad = grad.whole(pass)?;
                return Ok((vec![self.convolutions.backward(of_convolutions, &grad, pass)?], product));
            }
        };
        let (convolutions, affine) = (self.kernels(pass.params), self.norm.scale_shift(pass.params));
        let of = (&y, &moments);
        let found = pixelwise::backward(grad, &xs, &convolutions, Prelude::Relu, of, affine, wanted)?;
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
        pixelwise::probe(grad, x, &convolutions, Prelude::Relu, affine, self.norm.eps)
    }

    fn backward(&self, saved: ReduceSaved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<Tensor> {
        self.backward_summand(saved, grad, pass)?.0.whole(pass)
    }

    fn backward_summand(
        &self,
        saved: ReduceSaved,
        grad: &Tensor,
        pass: &mut Backward<'_>,
    ) -> Result<(Returned, Option<Later>)> {
        let (gxs, product) = self.back(saved, grad, pass)?;
        Ok((sum::join(&gxs)?.into(), product))
    }

    fn backward_beside(
        &self,
        saved: ReduceSaved,
        grad: &Tensor,
        n: usize,
        pass: &mut Backward<'_>,
    ) -> Result<Vec<Tensor>> {
        sum::apart(self.back(saved, grad, pass)?.0, n)
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

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use search_space::{Extent, Norm};

    use super::*;
    use crate::{
        Draw, Gradients, Statistics,
        kernels::testing::{assert_close, assert_tensors_close, random},
    };

    fn layer(c_in: usize, norm: Norm) -> Result<(FactorizedReduce, ParamStore)> {
        let (mut store, mut rng) = (ParamStore::new(DType::F64, &Device::Cpu), ChaCha8Rng::seed_from_u64(1));
        let site = Site { extent: Extent::Image { height: 5, width: 6 }, c_in, c_out: 32, stride: 2, norm };
        let layer = FactorizedReduce::new(&mut ParamBuilder::new(&mut store, &mut rng), &site)?;
        Ok((layer, store))
    }

    fn forward<'a>(params: &'a ParamStore, mode: Mode, statistics: &'a mut Statistics) -> Forward<'a> {
        Forward { params, mode, statistics, draw: Draw::default() }
    }

    /// Convolutions and norm, one after the other, are the specification; three maps are one map, joined.
    #[test]
    fn together_is_one_after_the_other() -> Result<()> {
        let (layer, params) = layer(48, Norm::default())?;
        let xs = (0..3).map(|i| random(&[4, 5, 6, 16], i)).collect::<Result<Vec<_>>>()?;
        let (x, gz) = (sum::join(&xs)?, random(&[4, 3, 3, 32], 9)?);
        let mut reported = [Statistics::default(), Statistics::default(), Statistics::default()];
        let [of_apart, of_one, of_three] = &mut reported;
        let apart = (layer.convolutions.clone(), layer.norm.clone());
        let (z, saved) = Layer::forward(&apart, &x, &mut forward(&params, Mode::Train, of_apart))?;
        let (one, saved_one) = Layer::forward(&layer, &x, &mut forward(&params, Mode::Train, of_one))?;
        let three = layer.forward_beside(&xs, &mut forward(&params, Mode::Train, of_three))?;
        let (three, saved_three) = three.expect("channels fill vectors");
        assert!(matches!(saved_one, ReduceSaved::Train { .. }));
        assert_tensors_close(&one, &z, 1e-12)?;
        assert_tensors_close(&three, &z, 1e-12)?;
        let moments = reported.each_ref().map(|statistics| statistics.iter().collect::<Vec<_>>());
        for other in &moments[1..] {
            for ((id, found), (expected_id, expected)) in other.iter().zip(&moments[0]) {
                assert_eq!(id, expected_id);
                assert_tensors_close(&found.mean, &expected.mean, 1e-12)?;
                assert_tensors_close(&found.var, &expected.var, 1e-12)?;
            }
        }
        let probed =
            layer.probe(&x, &gz, &mut forward(&params, Mode::Train, &mut Statistics::default()))?.get()?;
        assert_close(&[probed], &[sum::dot(&gz, &z)?], 1e-10);

        let mut gradients = [(); 4].map(|()| Gradients::new(&params));
        let [of_apart, of_one, of_three, of_weights] = &mut gradients;
        let back = |gradients| Backward { params: &params, gradients: Some(gradients) };
        let gx = Layer::backward(&apart, saved, &gz, &mut back(of_apart))?;
        let mut pass = back(of_one);
        let (found, product) = layer.backward_summand(saved_one, &gz, &mut pass)?;
        let found = found.whole(&mut pass)?;
        assert_tensors_close(&found, &gx, 1e-10)?;
        assert_close(&[product.expect("of a norm").get()?], &[probed], 1e-10);
        let beside = layer.backward_beside(saved_three, &gz, 3, &mut back(of_three))?;
        assert_eq!(beside.len(), 3);
        assert_tensors_close(&sum::join(&beside)?, &gx, 1e-10)?;
        let (_, saved) =
            Layer::forward(&layer, &x, &mut forward(&params, Mode::Train, &mut Statistics::default()))?;
        layer.backward_weights(saved, &gz, &mut back(of_weights))?;
        let [expected, found @ ..] = &gradients;
        assert_eq!(expected.iter().count(), 4);
        for found in found {
            for ((id, expected), (found_id, found)) in expected.iter().zip(found.iter()) {
                assert_eq!(id, found_id);
                assert_tensors_close(found, expected, 1e-10)?;
            }
        }
        Ok(())
    }

    #[test]
    fn biases_running_statistics_and_few_channels_go_one_after_the_other() -> Result<()> {
        for (c_in, norm, mode) in [
            (16, Norm { conv_bias: true, ..Norm::default() }, Mode::Train),
            (16, Norm::default(), Mode::Eval),
            (3, Norm::default(), Mode::Train),
        ] {
            let (layer, params) = layer(c_in, norm)?;
            let x = random(&[2, 5, 6, c_in], 1)?;
            let (_, saved) =
                Layer::forward(&layer, &x, &mut forward(&params, mode, &mut Statistics::default()))?;
            assert!(matches!(saved, ReduceSaved::Apart(..)), "{c_in} channels, {norm:?}, {mode:?}");
        }
        Ok(())
    }
}
