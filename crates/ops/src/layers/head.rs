//! From the last map to the logits.

use candle_core::{Device, Result, Tensor};
use rand::Rng;
use search_space::Site;

use super::{Activation, Conv, ConvNorm, CornerPool, GlobalPool, Linear, always_affine, axes, conv_norm};
use crate::{
    Backward, Forward, Layer, Mode, ParamBuilder, ParamStore, Sketch,
    kernels::{Prelude, Window, gpu::computed_in},
};

/// Global average pool, dropout, linear: `(N, …, C)` becomes `(N, classes)`.
pub type Classifier = (GlobalPool, (Dropout, Linear));

/// ReLU, pool to 2×2, 1×1 convolution to 128 channels, batch norm, ReLU, 2×2 convolution to 768 with or without a batch norm,
/// ReLU, linear.
pub type AuxiliaryHead = (
    Activation,
    (CornerPool, (ConvNorm, ((Option<ConvNorm>, Option<Conv>), (Activation, (GlobalPool, Linear))))),
);

/// Channels of the auxiliary head's two convolutions.
pub(crate) const AUXILIARY: [usize; 2] = [128, 768];

/// The classifier of `features` channels; its linear layer is named `fc`. `dropout` is a probability in [0, 1).
///
/// # Errors
/// A name is taken.
pub fn classifier(
    params: &mut ParamBuilder<'_>,
    features: usize,
    classes: usize,
    dropout: f64,
) -> Result<Classifier> {
    let dropout = Dropout { probability: dropout, stream: params.scope("dropout").stream() };
    Ok((GlobalPool, (dropout, Linear::new(&mut params.scope("fc"), features, classes)?)))
}

/// DARTS's auxiliary head at `site`, whose `c_out` is the number of classes. Named `a`, `b` and `fc`.
///
/// The original averages 5×5 windows, made for 8×8 maps (stride 3) and for the 7×7 maps of ImageNet (stride 2, and there
/// without the second batch norm; Liu et al., 2019, `cnn/model.py`); [`CornerPool`] does so there, and gives 2×2 from any
/// size.
///
/// # Errors
/// A name is taken.
pub fn auxiliary_head(
    params: &mut ParamBuilder<'_>,
    site: &Site,
    second_norm: bool,
) -> Result<AuxiliaryHead> {
    let norm = always_affine(&site.norm);
    let bins = axes(site.extent.rank(), 2);
    let point = Window::same((1, 1), (1, 1), (1, 1));
    let whole = Window { kernel: bins, stride: bins, dilation: (1, 1), pad: (0, 0) };
    let [narrow, wide] = AUXILIARY;
    let a = conv_norm(&mut params.scope("a"), (site.c_in, narrow), point, Prelude::Identity, &norm)?;
    let mut scope = params.scope("b");
    let b = if second_norm {
        (Some(conv_norm(&mut scope, (narrow, wide), whole, Prelude::Relu, &norm)?), None)
    } else {
        (None, Some(Conv::new(&mut scope.scope("conv"), (narrow, wide), whole, Prelude::Relu)?))
    };
    let fc = Linear::new(&mut params.scope("fc"), wide, site.c_out)?;
    Ok((Activation::Relu, (CornerPool, (a, (b, (Activation::Relu, (GlobalPool, fc)))))))
}

/// In training, sets features to zero with a probability and divides the others by the chance of staying.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// Probability of dropping a feature, in [0, 1).
    pub probability: f64,
    /// Which random numbers are its own.
    pub stream: u64,
}

impl Layer for Dropout {
    /// The factors, 0 or `1/(1 − p)`, shaped like the input.
    type Saved = Option<Tensor>;

    fn forward(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Tensor, Self::Saved)> {
        if pass.mode == Mode::Eval || self.probability <= 0.0 {
            return Ok((x.clone(), None));
        }
        let mut rng = pass.draw.rng(self.stream);
        let kept = 1.0 / (1.0 - self.probability);
        let draw = || if rng.random::<f64>() < self.probability { 0.0 } else { kept };
        let factors: Vec<f64> = std::iter::repeat_with(draw).take(x.elem_count()).collect();
        let factors = Tensor::from_vec(factors, x.shape(), &Device::Cpu)?;
        let factors = factors.to_dtype(computed_in(x.dtype()))?.to_device(x.device())?;
        Ok((scaled(x, &factors)?, Some(factors)))
    }

    fn backward(&self, saved: Self::Saved, grad: &Tensor, _: &mut Backward<'_>) -> Result<Tensor> {
        saved.map_or_else(|| Ok(grad.clone()), |factors| scaled(grad, &factors))
    }

    fn sketch(&self, _: &ParamStore) -> Option<Sketch> {
        Some(Sketch::identity())
    }
}

/// `x·factors`, of which a narrow `x` is rounded once.
fn scaled(x: &Tensor, factors: &Tensor) -> Result<Tensor> {
    (x.to_dtype(factors.dtype())? * factors)?.to_dtype(x.dtype())
}
