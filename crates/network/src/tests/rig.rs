//! A network with its weights, run for one loss.

use candle_core::{DType, Device, Tensor};
use ops::{Backward, Catalog, Draw, Forward, Gradients, Mode, ParamStore, Statistics, kernels::loss};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use search_space::{Extent, Layout, LayoutRequest, Phase, Shape, Space};

use crate::{Error, Purpose, Routes, Supernet};

/// A shipped space, small.
pub(super) fn space(name: &str) -> Space {
    let path = format!("{}/../../search_spaces/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    Space::load(path.as_ref(), &Catalog::standard()).expect("shipped spaces are valid")
}

pub(super) fn layout(space: &Space, side: usize, channels: usize, cells: usize) -> Layout {
    let request = LayoutRequest {
        input: Shape { extent: Extent::Image { height: side, width: side }, channels: 3 },
        classes: 10,
        phase: Phase::Search,
        channels: Some(channels),
        cells: Some(cells),
    };
    space.layout(&request, &Catalog::standard()).expect("the space fits")
}

/// A supernet, its weights and a batch.
pub(super) struct Rig {
    pub(super) net: Supernet,
    pub(super) params: ParamStore,
    pub(super) x: Tensor,
    pub(super) labels: Vec<u32>,
}

/// What one pass gives.
pub(super) struct Answer {
    pub(super) loss: f64,
    pub(super) gates: Vec<Vec<Vec<f64>>>,
    pub(super) strengths: Vec<Vec<f64>>,
    pub(super) gradients: Gradients,
    pub(super) statistics: Statistics,
}

pub(super) fn draw() -> Draw {
    Draw { seed: 1, step: 2 }
}

impl Rig {
    pub(super) fn new(layout: Layout, dtype: DType, x: &Tensor, labels: Vec<u32>) -> Result<Self, Error> {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (net, params) = Supernet::new(layout, &Catalog::standard(), dtype, &Device::Cpu, &mut rng)?;
        Ok(Self { net, params, x: x.to_dtype(dtype)?, labels })
    }

    pub(super) fn loss<'r>(&self, routes: impl Into<Routes<'r>>) -> Result<f64, Error> {
        Ok(self.answer(routes, Purpose::Evaluate)?.loss)
    }

    /// Forward, and back as the purpose asks.
    pub(super) fn answer<'r>(
        &self,
        routes: impl Into<Routes<'r>>,
        purpose: Purpose,
    ) -> Result<Answer, Error> {
        let (mut statistics, mut gradients) = (Statistics::default(), Gradients::new(&self.params));
        let mut pass =
            Forward { params: &self.params, mode: Mode::Train, statistics: &mut statistics, draw: draw() };
        let (logits, trace) = self.net.forward(&self.x, routes, purpose, &mut pass)?;
        let head = loss::cross_entropy(&logits, &self.labels, 0.0)?;
        let mut answer = Answer {
            loss: head.loss,
            gates: Vec::new(),
            strengths: Vec::new(),
            gradients: Gradients::new(&self.params),
            statistics,
        };
        if purpose == Purpose::Evaluate {
            return Ok(answer);
        }
        let weights = matches!(purpose, Purpose::Weights | Purpose::Joint).then_some(&mut gradients);
        let mut back = Backward { params: &self.params, gradients: weights };
        let mut slopes = self.net.backward(trace, &head.grad, &mut back)?;
        if slopes.numbers().next().is_some() {
            let answers = slopes.answers(self.net.layout())?;
            answer.strengths = answers.strengths;
            answer.gates = answers.gates.iter().map(Tensor::to_vec2).collect::<Result<_, _>>()?;
        }
        answer.gradients = gradients;
        Ok(answer)
    }
}
