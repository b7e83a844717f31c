//! Stochastic gradient descent with momentum, for the weights.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use ops::{
    Gradients, ParamStore, WeightId,
    kernels::update::{self, Moved, SgdStep},
};

use crate::config::WeightsConfig;

/// Momentum, optionally Nesterov's, weight decay in the gradient, and clipping of the global norm: PyTorch's SGD.
///
/// ```text
/// s = min(1, clip / (‖g‖ + 1e-6))  over all gradients that exist
/// d = s·g + weight_decay·w
/// v ← momentum·v + d               at first d
/// w ← w − lr·(nesterov ? d + momentum·v : v)
/// ```
///
/// **A weight without a gradient does not move**: candidates that were not sampled feel neither decay nor momentum, and
/// their velocity waits unchanged. PyTorch before 2.0 left zeros where it now leaves nothing, so the same script moved
/// such weights by decay and momentum there and does not here; we decide for not.
#[derive(Clone, Debug)]
pub struct Sgd {
    settings: WeightsConfig,
    /// Of every weight that has made a step.
    velocity: BTreeMap<WeightId, Tensor>,
}

/// A gradient that is infinite or not a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFinite {
    /// The first weight that has one; its name says cell, edge and operation.
    pub weight: String,
}

impl Sgd {
    /// An optimizer at rest. The learning rate comes with every step.
    #[must_use]
    pub fn new(settings: WeightsConfig) -> Self {
        Self { settings, velocity: BTreeMap::new() }
    }

    /// Moves every weight that has a gradient, and returns the gradients' norm before clipping.
    ///
    /// # Errors
    /// candle's, when shapes or types do not fit. The inner result names a weight whose gradient is not finite; then
    /// nothing has moved.
    pub fn step(
        &mut self,
        params: &mut ParamStore,
        gradients: &Gradients,
        lr: f64,
    ) -> Result<std::result::Result<f64, NotFinite>> {
        let moved = self.prepare(params, gradients, lr)?;
        self.commit(moved, params, gradients)
    }

    /// Computes a step, or has a device begin to, and moves nothing yet.
    pub(crate) fn prepare(&self, params: &ParamStore, gradients: &Gradients, lr: f64) -> Result<Moved> {
        let WeightsConfig { momentum, nesterov, weight_decay, clip, .. } = self.settings;
        let step = SgdStep { lr, momentum, nesterov, weight_decay, grad_scale: 1.0 };
        let triples: Vec<_> =
            gradients.iter().map(|(id, g)| (params.weight(id), g, self.velocity(id))).collect();
        update::sgd_of_many(&triples, step, clip)
    }

    /// Makes the step that [`Sgd::prepare`] has computed from these very gradients. Waits for the device.
    pub(crate) fn commit(
        &mut self,
        moved: Moved,
        params: &mut ParamStore,
        gradients: &Gradients,
    ) -> Result<std::result::Result<f64, NotFinite>> {
        let squared = moved.norm_squared()?;
        if !squared.is_finite() {
            return Ok(Err(culprit(params, gradients)?));
        }
        for ((id, _), (weight, velocity)) in gradients.iter().zip(moved.moved) {
            self.velocity.insert(id, velocity);
            params.set_weight(id, weight)?;
        }
        Ok(Ok(squared.sqrt()))
    }

    /// The velocity of a weight; `None` before its first step.
    #[must_use]
    pub fn velocity(&self, id: WeightId) -> Option<&Tensor> {
        self.velocity.get(&id)
    }

    /// Puts a saved velocity back.
    pub fn restore(&mut self, id: WeightId, velocity: Tensor) {
        self.velocity.insert(id, velocity);
    }

    /// Where one step from here would lead without clipping, as the unrolled architecture step looks ahead:
    /// `w − lr·(momentum·v + g + weight_decay·w)`, no velocity touched.
    ///
    /// # Errors
    /// candle's, when shapes or types do not fit.
    pub fn look_ahead(&self, params: &ParamStore, gradients: &Gradients, lr: f64) -> Result<ParamStore> {
        let WeightsConfig { momentum, weight_decay, .. } = self.settings;
        let step = SgdStep { lr, momentum, nesterov: false, weight_decay, grad_scale: 1.0 };
        let mut ahead = params.clone();
        for (id, gradient) in gradients.iter() {
            let (weight, _) = update::sgd(params.weight(id), gradient, self.velocity(id), step)?;
            ahead.set_weight(id, weight)?;
        }
        Ok(ahead)
    }
}

/// The weight up to which the sum of the squares was finite.
fn culprit(params: &ParamStore, gradients: &Gradients) -> Result<NotFinite> {
    let mut squared = 0.0;
    for (id, gradient) in gradients.iter() {
        squared += update::norm_squared(gradient)?;
        if !squared.is_finite() {
            return Ok(NotFinite { weight: name(params, id).to_owned() });
        }
    }
    Ok(NotFinite { weight: String::new() })
}

fn name(params: &ParamStore, id: WeightId) -> &str {
    params.weights().find(|(known, ..)| *known == id).map_or("", |(_, name, _)| name)
}
