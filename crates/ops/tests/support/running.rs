//! One operation with its weights, run forward and back.

use candle_core::{DType, Device, Result, Tensor};
use ops::{
    Backward, Catalog, Draw, Forward, Gradients, Mode, Op, ParamBuilder, ParamStore, Returned, Statistics,
    Summand,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use search_space::{OpSpec, Rank, Site, Vocabulary, Written};

/// An operation and its weights.
pub(crate) struct Running {
    pub(crate) op: Box<dyn Op>,
    pub(crate) params: ParamStore,
}

/// What a pass forward and back found.
pub(crate) struct Pass {
    pub(crate) y: Tensor,
    pub(crate) gx: Tensor,
    pub(crate) gradients: Gradients,
    pub(crate) statistics: Statistics,
}

pub(crate) const DRAW: Draw = Draw { seed: 5, step: 3 };

pub(crate) fn resolve(catalog: &Catalog, label: &str, rank: Rank) -> OpSpec {
    catalog.resolve(&Written::Label(label.to_owned()), rank).expect("the catalog knows its own labels")
}

impl Running {
    pub(crate) fn build(catalog: &Catalog, label: &str, site: &Site, dtype: DType) -> Self {
        let mut params = ParamStore::new(dtype, &Device::Cpu);
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let spec = resolve(catalog, label, site.extent.rank());
        let op = catalog.build(&spec, site, &mut ParamBuilder::new(&mut params, &mut rng));
        Self { op: op.expect("the site is legal"), params }
    }

    /// The same operation with the same values in `f32`, on another device.
    pub(crate) fn on(&self, device: &Device, catalog: &Catalog, label: &str, site: &Site) -> Result<Self> {
        let mut params = ParamStore::new(DType::F32, device);
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let spec = resolve(catalog, label, site.extent.rank());
        let op = catalog.build(&spec, site, &mut ParamBuilder::new(&mut params, &mut rng));
        for (name, value) in self.params.tensors() {
            params.load(&name, value)?;
        }
        Ok(Self { op: op.expect("the site is legal"), params })
    }

    pub(crate) fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let mut statistics = Statistics::default();
        let mut pass = Forward { params: &self.params, mode, statistics: &mut statistics, draw: DRAW };
        Ok(self.op.forward(x, &mut pass)?.0)
    }

    /// Forward, then back from `gy`.
    pub(crate) fn pass(&self, x: &Tensor, gy: &Tensor, mode: Mode) -> Result<Pass> {
        let (mut statistics, mut gradients) = (Statistics::default(), Gradients::new(&self.params));
        let mut pass = Forward { params: &self.params, mode, statistics: &mut statistics, draw: DRAW };
        let (y, saved) = self.op.forward(x, &mut pass)?;
        let mut back = Backward { params: &self.params, gradients: Some(&mut gradients) };
        let gx = self.op.backward(saved, gy, &mut back)?;
        Ok(Pass { y, gx, gradients, statistics })
    }

    /// Forward, then back as an architecture step goes: `∂L/∂x` alone.
    pub(crate) fn input_gradient(&self, x: &Tensor, gy: &Tensor) -> Result<Tensor> {
        let mut statistics = Statistics::default();
        let mut pass =
            Forward { params: &self.params, mode: Mode::Train, statistics: &mut statistics, draw: DRAW };
        let saved = self.op.forward(x, &mut pass)?.1;
        self.op.backward(saved, gy, &mut Backward { params: &self.params, gradients: None })
    }

    /// The output as a term of a sum; `⟨gy, y⟩` of an output that nobody keeps; and, from the backward, `∂L/∂x` and the same
    /// product where the operation came by it.
    pub(crate) fn weighed(
        &self,
        x: &Tensor,
        gy: &Tensor,
        mode: Mode,
    ) -> Result<(Tensor, f64, Tensor, Option<f64>)> {
        let mut statistics = Statistics::default();
        let mut pass = Forward { params: &self.params, mode, statistics: &mut statistics, draw: DRAW };
        let probed = self.op.probe(x, gy, &mut pass)?.get()?;
        let (summand, saved) = self.op.forward_summand(x, &mut pass)?;
        let mut back = Backward { params: &self.params, gradients: None };
        let (gx, product) = self.op.backward_summand(saved, gy, &mut back)?;
        let gx = gx.whole(&mut back)?;
        let product = product.map(|product| product.get()).transpose()?;
        Ok((Summand::total(&[(1.0, summand)])?, probed, gx, product))
    }

    /// Forward, then back as an edge of a search goes that may leave `∂L/∂x` to whoever adds it up: whether it did, that
    /// gradient, and the weights'.
    pub(crate) fn returned(&self, x: &Tensor, gy: &Tensor) -> Result<(bool, Tensor, Gradients)> {
        let (mut statistics, mut gradients) = (Statistics::default(), Gradients::new(&self.params));
        let mut pass =
            Forward { params: &self.params, mode: Mode::Train, statistics: &mut statistics, draw: DRAW };
        let (_, saved) = self.op.forward_summand(x, &mut pass)?;
        let mut back = Backward { params: &self.params, gradients: Some(&mut gradients) };
        let (returned, _) = self.op.backward_summand(saved, gy, &mut back)?;
        let pending = matches!(returned, Returned::Pending { .. });
        let gx = returned.whole(&mut back)?;
        Ok((pending, gx, gradients))
    }

    /// Forward, then back as a network's first operation goes: the weights' gradients alone.
    pub(crate) fn weight_gradients(&self, x: &Tensor, gy: &Tensor) -> Result<Gradients> {
        let (mut statistics, mut gradients) = (Statistics::default(), Gradients::new(&self.params));
        let mut pass =
            Forward { params: &self.params, mode: Mode::Train, statistics: &mut statistics, draw: DRAW };
        let saved = self.op.forward(x, &mut pass)?.1;
        let mut back = Backward { params: &self.params, gradients: Some(&mut gradients) };
        self.op.backward_weights(saved, gy, &mut back)?;
        Ok(gradients)
    }
}

/// Values from `U(−1, 1)`, in `f64`.
pub(crate) fn uniform(dims: &[usize], rng: &mut ChaCha8Rng) -> Result<Tensor> {
    let draw = || 2.0 * rng.random::<f64>() - 1.0;
    let values: Vec<f64> = std::iter::repeat_with(draw).take(dims.iter().product()).collect();
    Tensor::from_vec(values, dims, &Device::Cpu)
}
