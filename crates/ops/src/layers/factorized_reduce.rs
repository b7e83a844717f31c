//! Halving a map without losing every second pixel.

use candle_core::{Result, Tensor};
use search_space::Site;

use super::{BatchNorm, Conv, axes};
use crate::{
    Backward, Forward, Layer, ParamBuilder, ParamStore, Sketch,
    kernels::{Prelude, Window, sum},
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
/// convolution one more (the original refuses both).
///
/// # Errors
/// A name is taken.
///
/// # References
/// - Liu, Simonyan & Yang, *DARTS*, 2019, <https://arxiv.org/abs/1806.09055>; its code's `operations.py`.
pub fn factorized_reduce(
    params: &mut ParamBuilder<'_>,
    site: &Site,
) -> Result<(Concat<Conv, Conv>, BatchNorm)> {
    let channels = [site.c_out / 2, site.c_out - site.c_out / 2];
    let rank = site.extent.rank();
    let window = Window::same((1, 1), axes(rank, site.stride), (1, 1));
    let (down, right) = axes(rank, 2);
    let shifted = Window { pad: (1 - down as isize, 1 - right as isize), ..window };
    let mut conv = |name, c_out, window| {
        Conv::before_norm(&mut params.scope(name), (site.c_in, c_out), window, Prelude::Relu, &site.norm)
    };
    let (a, b) = (conv("a", channels[0], window)?, conv("b", channels[1], shifted)?);
    Ok((Concat { a, b, channels }, BatchNorm::new(&mut params.scope("bn"), site.c_out, &site.norm)?))
}
