//! Operations whose backward is candle's.

use candle_core::{Result, Tensor, Var};

use crate::{Backward, Forward, Layer, WeightId};

/// An [`crate::Op`] of any function of `(x, weights)` written with candle's ordinary operations.
///
/// The forward records candle's graph and the backward walks it: convenient, and several times slower than an
/// operation with a backward of its own. The function sees the weights' type; narrower maps are cast before and after.
///
/// ```
/// use candle_core::Result;
/// use ops::{Autograd, Op, ParamBuilder};
///
/// /// `y = x·σ(βx)`, one β per channel.
/// fn swish(params: &mut ParamBuilder<'_>, channels: usize) -> Result<Box<dyn Op>> {
///     let beta = params.constant("beta", channels, 1.0)?;
///     Ok(Box::new(Autograd::new(vec![beta], |x, weights| {
///         let gate = (x.broadcast_mul(&weights[0])?.neg()?.exp()? + 1.0)?.recip()?;
///         x * gate
///     })))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Autograd<F> {
    weights: Vec<WeightId>,
    function: F,
}

/// The recorded graph: its output, and the leaves whose gradients are asked for.
#[derive(Debug)]
pub struct Recorded {
    y: Tensor,
    x: Var,
    weights: Vec<Var>,
}

impl<F> Autograd<F>
where
    F: Fn(&Tensor, &[Tensor]) -> Result<Tensor> + Send + Sync + 'static,
{
    /// The operation `function(x, weights)`; the weights come in the order given here.
    pub fn new(weights: Vec<WeightId>, function: F) -> Self {
        Self { weights, function }
    }
}

impl<F> Layer for Autograd<F>
where
    F: Fn(&Tensor, &[Tensor]) -> Result<Tensor> + Send + Sync + 'static,
{
    type Saved = Recorded;

    fn forward(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Tensor, Recorded)> {
        let (maps, x) = (x.dtype(), Var::from_tensor(&x.to_dtype(pass.params.dtype())?)?);
        let leaf = |id: &WeightId| Var::from_tensor(pass.params.weight(*id));
        let weights = self.weights.iter().map(leaf).collect::<Result<Vec<_>>>()?;
        let tensors: Vec<Tensor> = weights.iter().map(|var| var.as_tensor().clone()).collect();
        let y = (self.function)(x.as_tensor(), &tensors)?;
        Ok((y.detach().to_dtype(maps)?, Recorded { y, x, weights }))
    }

    fn backward(&self, saved: Recorded, grad: &Tensor, pass: &mut Backward<'_>) -> Result<Tensor> {
        let found = (&saved.y * grad.to_dtype(saved.y.dtype())?)?.sum_all()?.backward()?;
        if let Some(gradients) = pass.gradients.as_deref_mut() {
            for (id, var) in self.weights.iter().zip(&saved.weights) {
                if let Some(grad) = found.get(var) {
                    gradients.add(*id, grad.clone())?;
                }
            }
        }
        found
            .get(&saved.x)
            .map_or_else(|| saved.x.zeros_like(), |grad| Ok(grad.clone()))?
            .to_dtype(grad.dtype())
    }
}
