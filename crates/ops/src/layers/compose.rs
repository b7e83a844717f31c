//! One after the other, perhaps, and side by side.

use candle_core::{Result, Tensor};

use crate::{
    Backward, Forward, Layer, ParamStore, Returned, Sketch, Summand,
    kernels::{Later, sum},
};

/// `y = x`.
#[derive(Clone, Copy, Debug)]
pub struct Identity;

/// `y = a(x) + b(x)`.
#[derive(Clone, Debug)]
pub struct Sum<A, B>(pub A, pub B);

impl Layer for Identity {
    type Saved = ();

    fn forward(&self, x: &Tensor, _: &mut Forward<'_>) -> Result<(Tensor, ())> {
        Ok((x.clone(), ()))
    }

    fn backward(&self, (): (), grad: &Tensor, _: &mut Backward<'_>) -> Result<Tensor> {
        Ok(grad.clone())
    }

    fn gathers(&self) -> bool {
        true
    }

    fn sketch(&self, _: &ParamStore) -> Option<Sketch> {
        Some(Sketch::identity())
    }
}

impl<A: Layer, B: Layer> Layer for Sum<A, B> {
    type Saved = (A::Saved, B::Saved);

    fn forward(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Tensor, Self::Saved)> {
        let (a, saved_a) = self.0.forward(x, pass)?;
        let (b, saved_b) = self.1.forward(x, pass)?;
        Ok((sum::add(&a, &b)?, (saved_a, saved_b)))
    }

    fn backward(&self, (a, b): Self::Saved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<Tensor> {
        let grad_a = self.0.backward(a, grad, pass)?;
        let grad_b = self.1.backward(b, grad, pass)?;
        sum::add(&grad_a, &grad_b)
    }

    fn backward_weights(&self, (a, b): Self::Saved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<()> {
        self.0.backward_weights(a, grad, pass)?;
        self.1.backward_weights(b, grad, pass)
    }

    fn gathers(&self) -> bool {
        self.0.gathers() && self.1.gathers()
    }

    fn sketch(&self, params: &ParamStore) -> Option<Sketch> {
        Some(Sketch::Sum(vec![self.0.sketch(params)?, self.1.sketch(params)?]))
    }
}

/// `y = b(a(x))`.
impl<A: Layer, B: Layer> Layer for (A, B) {
    type Saved = (A::Saved, B::Saved);

    fn forward(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Tensor, Self::Saved)> {
        let (inner, saved_a) = self.0.forward(x, pass)?;
        let (y, saved_b) = self.1.forward(&inner, pass)?;
        Ok((y, (saved_a, saved_b)))
    }

    fn forward_summand(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Summand, Self::Saved)> {
        let (inner, saved_a) = self.0.forward(x, pass)?;
        let (y, saved_b) = self.1.forward_summand(&inner, pass)?;
        Ok((y, (saved_a, saved_b)))
    }

    fn probe(&self, x: &Tensor, grad: &Tensor, pass: &mut Forward<'_>) -> Result<Later> {
        let (inner, _) = self.0.forward(x, pass)?;
        self.1.probe(&inner, grad, pass)
    }

    fn backward_summand(
        &self,
        (a, b): Self::Saved,
        grad: &Tensor,
        pass: &mut Backward<'_>,
    ) -> Result<(Returned, Option<Later>)> {
        let (inner, product) = self.1.backward_summand(b, grad, pass)?;
        let inner = inner.whole(pass)?;
        Ok((self.0.backward_summand(a, &inner, pass)?.0, product))
    }

    fn backward(&self, (a, b): Self::Saved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<Tensor> {
        let inner = self.1.backward(b, grad, pass)?;
        self.0.backward(a, &inner, pass)
    }

    fn backward_weights(&self, (a, b): Self::Saved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<()> {
        let inner = self.1.backward(b, grad, pass)?;
        self.0.backward_weights(a, &inner, pass)
    }

    fn gathers(&self) -> bool {
        self.0.gathers() && self.1.gathers()
    }

    fn sketch(&self, params: &ParamStore) -> Option<Sketch> {
        Some(self.0.sketch(params)?.then(self.1.sketch(params)?))
    }
}

/// `y = a(x)` where there is an `a`, otherwise `y = x`.
impl<A: Layer> Layer for Option<A> {
    type Saved = Option<A::Saved>;

    fn forward(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Tensor, Self::Saved)> {
        let Some(layer) = self else { return Ok((x.clone(), None)) };
        let (y, saved) = layer.forward(x, pass)?;
        Ok((y, Some(saved)))
    }

    fn forward_summand(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<(Summand, Self::Saved)> {
        let Some(layer) = self else { return Ok((Summand::from(x.clone()), None)) };
        let (y, saved) = layer.forward_summand(x, pass)?;
        Ok((y, Some(saved)))
    }

    fn probe(&self, x: &Tensor, grad: &Tensor, pass: &mut Forward<'_>) -> Result<Later> {
        match self {
            Some(layer) => layer.probe(x, grad, pass),
            None => sum::dot_later(grad, x),
        }
    }

    fn backward_summand(
        &self,
        saved: Self::Saved,
        grad: &Tensor,
        pass: &mut Backward<'_>,
    ) -> Result<(Returned, Option<Later>)> {
        match self.as_ref().zip(saved) {
            Some((layer, saved)) => layer.backward_summand(saved, grad, pass),
            None => Ok((Returned::from(grad.clone()), None)),
        }
    }

    fn backward(&self, saved: Self::Saved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<Tensor> {
        match self.as_ref().zip(saved) {
            Some((layer, saved)) => layer.backward(saved, grad, pass),
            None => Ok(grad.clone()),
        }
    }

    fn backward_weights(&self, saved: Self::Saved, grad: &Tensor, pass: &mut Backward<'_>) -> Result<()> {
        match self.as_ref().zip(saved) {
            Some((layer, saved)) => layer.backward_weights(saved, grad, pass),
            None => Ok(()),
        }
    }

    fn gathers(&self) -> bool {
        self.as_ref().is_none_or(Layer::gathers)
    }

    fn sketch(&self, params: &ParamStore) -> Option<Sketch> {
        self.as_ref().map_or_else(|| Some(Sketch::identity()), |layer| layer.sketch(params))
    }
}
