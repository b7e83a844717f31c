//! Batch normalization, with the statistics of the batch or with frozen ones.

use candle_core::{Result, Tensor};
use search_space::Norm;

use crate::{
    Backward, BatchStats, Forward, Gradients, Layer, Mode, ParamBuilder, ParamStore, Returned, Sketch,
    StatId, Summand, WeightId,
    kernels::{
        Later,
        batch_norm::{self, Moments},
        bias, gpu,
    },
};

/// `y = (x − μ)/√(σ² + ε) · scale + shift` over every axis but the channels.
///
/// In training `μ` and the biased `σ²` are the batch's, and the batch's mean and unbiased variance are reported to
/// [`Forward::statistics`]: whoever runs the pass decides whether the running statistics move. In evaluation they are
/// the running ones. Scale and shift, `(C,)` each, are named `weight` and `bias` as in PyTorch.
///
/// # References
/// - Ioffe & Szegedy, *Batch Normalization*, 2015, <https://arxiv.org/abs/1502.03167>
#[derive(Clone, Debug)]
pub struct BatchNorm {
    stats: StatId,
    affine: Option<(WeightId, WeightId)>,
    pub(super) eps: f64,
    momentum: f64,
}

/// What a batch norm keeps: its input, and the batch's moments where those normalized it.
#[derive(Debug)]
pub struct NormSaved {
    x: Tensor,
    moments: Option<Moments>,
}

impl BatchNorm {
    /// A batch norm over `channels`; it is named as the scope.
    ///
    /// # Errors
    /// A name is taken.
    pub fn new(params: &mut ParamBuilder<'_>, channels: usize, norm: &Norm) -> Result<Self> {
        let affine = match norm.affine {
            true => {
                Some((params.constant("weight", channels, 1.0)?, params.constant("bias", channels, 0.0)?))
            }
            false => None,
        };
        let stats = params.running_stats(channels)?;
        Ok(Self { stats, affine, eps: norm.eps, momentum: norm.momentum })
    }

    pub(super) fn scale_shift<'a>(&self, params: &'a ParamStore) -> Option<(&'a Tensor, &'a Tensor)> {
        self.affine.map(|(scale, shift)| (params.weight(scale), params.weight(shift)))
    }

    /// Adds the gradients of scale and shift, if there are any.
    pub(super) fn add(&self, gradients: &mut Gradients, of_scale: Tensor, of_shift: Tensor) -> Result<()> {
        let Some((scale, shift)) = self.affine else { return Ok(()) };
        gradients.add(scale, of_scale)?;
        gradients.add(shift, of_shift)
    }

    /// Tells the pass what the batch's moments are.
    pub(super) fn report(&self, moments: &Moments, pass: &mut Forward<'_>) {
        let (mean, var) = (moments.mean.clone(), moments.var_unbiased.clone());
        pass.statistics.report(self.stats, BatchStats { mean, var, momentum: self.momentum });
    }

    /// With frozen statistics the map is affine in `x`, and so is its backward.
    fn backward_frozen(&self, x: &Tensor, grad: &Tensor, pass: &mut Backward<'_>) -> Result<Tensor> {
        let scale = self.scale_shift(pass.params).map(|(scale, _)| scale);
        let running = pass.params.stats(self.stats);
        if let Some(gradients) = pass.gradients.as_deref_mut() {
            let whitened = batch_norm::forward_eval(x, None, &running.mean, &running.var, self.eps)?;
            gpu::send()?; // candle multiplies
            self.add(gradients, bias::gradient(&(grad * whitened)?)?, bias::gradient(grad)?)?;
        }
        batch_norm::backward_eval(grad, scale, &running.var, self.eps)
    }
}

impl Layer for BatchNorm {
    type Saved = NormSaved;

    fn forward(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Tensor, NormSaved)> {
        let affine = self.scale_shift(pass.params);
        if pass.mode == Mode::Eval {
            let running = pass.params.stats(self.stats);
            let y = batch_norm::forward_eval(x, affine, &running.mean, &running.var, self.eps)?;
            return Ok((y, NormSaved { x: x.clone(), moments: None }));
        }
        let (summand, saved) = self.forward_summand(x, pass)?;
        Ok((Summand::total(&[(1.0, summand)])?, saved))
    }

    fn forward_summand(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Summand, NormSaved)> {
        if pass.mode == Mode::Eval {
            let (y, saved) = self.forward(x, pass)?;
            return Ok((Summand::from(y), saved));
        }
        let affine = self.scale_shift(pass.params);
        let (moments, by) = batch_norm::forward_waiting(x, affine, self.eps)?;
        self.report(&moments, pass);
        let summand = Summand { map: x.clone(), norm: Some(by) };
        Ok((summand, NormSaved { x: x.clone(), moments: Some(moments) }))
    }

    fn backward(&self, saved: NormSaved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<Tensor> {
        self.backward_summand(saved, grad, pass)?.0.whole(pass)
    }

    fn backward_summand(
        &self,
        saved: NormSaved,
        grad: &Tensor,
        pass: &mut Backward<'_>,
    ) -> Result<(Returned, Option<Later>)> {
        let NormSaved { x, moments: Some(moments) } = &saved else {
            return Ok((self.backward_frozen(&saved.x, grad, pass)?.into(), None));
        };
        let found = batch_norm::backward(x, grad, self.scale_shift(pass.params), moments)?;
        if let (Some(gradients), Some((of_scale, of_shift))) =
            (pass.gradients.as_deref_mut(), found.scale_shift)
        {
            self.add(gradients, of_scale, of_shift)?;
        }
        Ok((found.x.into(), found.product))
    }

    fn gathers(&self) -> bool {
        true
    }

    fn sketch(&self, params: &ParamStore) -> Option<Sketch> {
        let name = params.stats_name(self.stats).to_owned();
        Some(Sketch::BatchNorm { name, affine: self.affine.is_some(), eps: self.eps })
    }
}
