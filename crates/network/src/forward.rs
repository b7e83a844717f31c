//! The walk forward over blocks, nodes and edges.

use std::{cell::OnceCell, collections::BTreeMap, rc::Rc};

use candle_core::Tensor;
use controller::Paths;
use ops::{
    Forward, Op, Saved, Summand,
    kernels::{gpu, sum},
    layers::readers,
    op,
};
use rand::Rng;
use search_space::{Block, Cell, Edge};

use crate::{
    Error, Place, Purpose, Routes,
    bypass::{self, Bypass},
    graph::{Built, Graph, Input, edge_place},
    terms::Terms,
    trace::{BlockTrace, CellTrace, Choice, EdgeTrace, Ran, Trace},
};

/// The logits of a forward pass.
#[derive(Clone, Debug)]
pub struct Logits {
    /// `(N, classes)`.
    pub main: Tensor,
    /// `(N, classes)` of the auxiliary head, in training where the network has one.
    pub auxiliary: Option<Tensor>,
}

/// What a block puts out: maps whose channels lie side by side, joined where someone does not read them so.
pub(crate) struct Output {
    maps: Vec<Tensor>,
    joined: OnceCell<Tensor>,
}

impl Output {
    pub(crate) fn of(maps: Vec<Tensor>) -> Self {
        Self { maps, joined: OnceCell::new() }
    }

    /// One map for all who ask.
    fn joined(&self) -> candle_core::Result<&Tensor> {
        if let [only] = &self.maps[..] {
            return Ok(only);
        }
        let joined = match self.joined.get() {
            Some(joined) => joined.clone(),
            None => sum::join(&self.maps)?,
        };
        Ok(self.joined.get_or_init(|| joined))
    }
}

/// A forward pass under way.
pub(crate) struct Walk<'w, 'p> {
    pub(crate) pass: &'w mut Forward<'p>,
    pub(crate) purpose: Purpose,
    /// Probability of dropping an edge's output for one example.
    pub(crate) drop_path: f64,
    /// Whether every output is checked to be finite.
    pub(crate) watch: bool,
    /// Inputs of cells that were made together with another's, of the same output, before their cell's turn.
    pub(crate) ahead: BTreeMap<Input, (Tensor, Option<Saved>)>,
}

impl<'w, 'p> Walk<'w, 'p> {
    /// One that drops nothing and checks nothing.
    pub(crate) fn new(pass: &'w mut Forward<'p>, purpose: Purpose) -> Self {
        Self { pass, purpose, drop_path: 0.0, watch: false, ahead: BTreeMap::new() }
    }

    /// Runs the whole network. What it stores on the way may be narrower than what goes in and comes out.
    pub(crate) fn run(
        mut self,
        graph: &Graph,
        x: &Tensor,
        routes: Routes<'_>,
    ) -> Result<(Logits, Trace), Error> {
        let mut trace = Trace {
            purpose: self.purpose,
            mode: self.pass.mode,
            draw: self.pass.draw,
            stem: None,
            blocks: Vec::with_capacity(graph.blocks.len()),
            before_pool: None,
            classifier: None,
            auxiliary: None,
        };
        let mut last = Rc::new(Output::of(vec![x.to_dtype(self.pass.params.maps())?]));
        if let Some(stem) = &graph.stem {
            let (y, saved) = self.step(stem.as_ref(), &last, || Place::Stem)?;
            (last, trace.stem) = (Rc::new(Output::of(vec![y])), saved);
        }
        let mut before = last.clone(); // the output before the last one
        let mut auxiliary = None;
        for (index, (built, block)) in graph.blocks.iter().zip(&graph.layout.blocks).enumerate() {
            let (y, kept) = match (built, block) {
                (Built::Cell { edges, .. }, Block::Cell(cell)) => {
                    let sources = [&*last, &before];
                    let (y, kept) = gpu::recorded(|| {
                        let inputs = self.inputs(graph, index, sources)?;
                        self.cell(cell, inputs, edges, routes)
                    })?;
                    (y, BlockTrace::Cell(kept))
                }
                (Built::Fixed(op), _) => {
                    let (y, saved) = gpu::recorded(|| self.step(op.as_ref(), &last, || Place::Block(index)))?;
                    (vec![y], BlockTrace::Fixed(saved))
                }
                (Built::Cell { .. }, Block::Fixed { .. }) => unreachable!("a graph is built block by block"),
            };
            trace.blocks.push(kept);
            (before, last) = (last, Rc::new(Output::of(y)));
            if let (Some(op), Some(aux)) = (&graph.auxiliary, &graph.layout.auxiliary)
                && aux.after == index
                && matches!(self.purpose, Purpose::Weights | Purpose::Joint)
            {
                let (logits, saved) = self.step(op.as_ref(), &last, || Place::Auxiliary)?;
                (auxiliary, trace.auxiliary) = (Some(logits), saved);
            }
        }
        if let Some(op) = &graph.before_pool {
            let (y, saved) = self.step(op.as_ref(), &last, || Place::Head)?;
            (last, trace.before_pool) = (Rc::new(Output::of(vec![y])), saved);
        }
        let (main, saved) = self.step(&graph.classifier, &last, || Place::Head)?;
        trace.classifier = saved;
        let wide = |logits: Tensor| logits.to_dtype(self.pass.params.dtype());
        let logits = Logits { main: wide(main)?, auxiliary: auxiliary.map(wide).transpose()? };
        Ok((logits, trace))
    }

    /// The inputs of the cell that block `block` is, from the outputs of the block before it and of the one before that; and what
    /// their preprocessing kept.
    pub(crate) fn inputs(
        &mut self,
        graph: &Graph,
        block: usize,
        sources: [&Output; 2],
    ) -> Result<Vec<(Tensor, Option<Saved>)>, Error> {
        let (Built::Cell { preprocess, .. }, Block::Cell(cell)) =
            (&graph.blocks[block], &graph.layout.blocks[block])
        else {
            unreachable!("only cells have inputs");
        };
        let mut values = Vec::with_capacity(cell.inputs.len());
        for (index, (input, op)) in cell.inputs.iter().zip(preprocess).enumerate() {
            let x = sources[input.back - 1];
            let Some(op) = op else {
                values.push((x.joined()?.clone(), None));
                continue;
            };
            let (at, op) = (Input { block, index }, op.as_ref());
            let place = || Place::Input { cell: (cell.index, cell.name.clone()), input: index };
            let found = match self.ahead.remove(&at) {
                Some(found) => Some(found),
                None => self.look_ahead(graph, (at, at.source(cell)), op, x)?,
            };
            values.push(match found {
                Some((y, saved)) => (self.checked(y, place)?, saved),
                None => self.step(op, x, place)?,
            });
        }
        Ok(values)
    }

    /// Runs what reads an output first, together with all that will read it and can run with it; nothing where that is alone.
    fn look_ahead(
        &mut self,
        graph: &Graph,
        (first, source): (Input, usize),
        op: &dyn Op,
        x: &Output,
    ) -> Result<Option<(Tensor, Option<Saved>)>, Error> {
        let later = graph.readers(source).filter(|&(at, other)| at != first && readers::alike(op, other));
        let (inputs, ops): (Vec<_>, Vec<_>) = std::iter::once((first, op)).chain(later).unzip();
        let Some(found) = readers::forward(&ops, &x.maps, self.pass)? else { return Ok(None) };
        let mut own = None;
        for (at, (y, saved)) in inputs.into_iter().zip(found) {
            let found = (y, self.kept(saved));
            if at == first {
                own = Some(found);
            } else {
                self.ahead.insert(at, found);
            }
        }
        Ok(own)
    }

    /// Runs one cell: the nodes that make its output.
    pub(crate) fn cell(
        &mut self,
        cell: &Cell,
        inputs: Vec<(Tensor, Option<Saved>)>,
        edges: &[Vec<Option<Box<dyn Op>>>],
        routes: Routes<'_>,
    ) -> Result<(Vec<Tensor>, CellTrace), Error> {
        let (mut nodes, preprocess): (Vec<_>, _) = inputs.into_iter().unzip();
        let mut kept = CellTrace { preprocess, nodes: Vec::new(), edges: Vec::with_capacity(edges.len()) };
        let mut next = 0;
        for node in nodes.len()..cell.inputs.len() + cell.nodes {
            let mut terms = Terms::default();
            while let Some(edge) = cell.edges.get(next).filter(|edge| edge.to == node) {
                let x = &nodes[edge.from];
                kept.edges.push(self.edge(cell, edge, &edges[next], x, routes, &mut terms)?);
                next += 1;
            }
            let value = terms.total()?;
            nodes.push(value.map_or_else(|| nothing(cell, node, &nodes), Ok)?);
        }
        let y = cell.output.iter().map(|&node| nodes[node].clone()).collect();
        if self.purpose.probes() {
            kept.nodes = nodes;
        }
        Ok((y, kept))
    }

    /// Adds what the edge carries to the terms of its node, and says what ran.
    fn edge(
        &mut self,
        cell: &Cell,
        edge: &Edge,
        candidates: &[Option<Box<dyn Op>>],
        x: &Tensor,
        routes: Routes<'_>,
        terms: &mut Terms,
    ) -> Result<EdgeTrace, Error> {
        let (paths, strength) = (&routes.paths[edge.group], routes.strength(edge));
        if edge.partial == 1 {
            let ran = self.choice(cell, edge, candidates, x, paths, &mut Weighed { strength, terms })?;
            return Ok(EdgeTrace { ran, strength, bypass: None });
        }
        let (part, rest) = bypass::cut(edge, x)?;
        let mut mixed = Terms::default();
        let weighed = &mut Weighed { strength: 1.0, terms: &mut mixed };
        let ran = self.choice(cell, edge, candidates, &part, paths, weighed)?;
        let (y, passed) = bypass::join(edge, mixed.total()?, rest)?;
        terms.push(strength, y)?;
        let asked = routes.strengths.is_some() && self.purpose.weighs_outputs();
        let bypass = Bypass { rest: passed.rest.filter(|_| asked), ..passed };
        Ok(EdgeTrace { ran, strength, bypass: Some(bypass) })
    }

    /// Runs what `paths` says of the candidates.
    fn choice(
        &mut self,
        cell: &Cell,
        edge: &Edge,
        candidates: &[Option<Box<dyn Op>>],
        x: &Tensor,
        paths: &Paths,
        weighed: &mut Weighed<'_>,
    ) -> Result<Choice, Error> {
        let (chosen, rival) = match paths {
            Paths::Single(chosen) => (chosen[edge.row], None),
            Paths::Pair(pairs) => (pairs[edge.row][0], Some(pairs[edge.row][1])),
            Paths::Weighted(rows) => {
                let mut parts = Vec::with_capacity(candidates.len());
                for (k, &weight) in rows[edge.row].iter().enumerate() {
                    let (y, ran) = self.candidate(cell, edge, k, candidates, x)?.unzip();
                    y.map_or(Ok(()), |y| weighed.push(weight, y))?;
                    parts.push((weight, ran));
                }
                return Ok(Choice::Mixture(parts));
            }
        };
        let (y, ran) = self.candidate(cell, edge, chosen, candidates, x)?.unzip();
        y.map_or(Ok(()), |y| weighed.push(1.0, y))?;
        Ok(Choice::Single { chosen, rival, ran })
    }

    /// Runs one candidate; nothing where it is `none`.
    fn candidate(
        &mut self,
        cell: &Cell,
        edge: &Edge,
        k: usize,
        candidates: &[Option<Box<dyn Op>>],
        x: &Tensor,
    ) -> Result<Option<(Summand, Ran)>, Error> {
        let Some(op) = &candidates[k] else { return Ok(None) };
        if self.drop_path == 0.0 && !self.watch {
            let (y, saved) = op::run(op.as_ref(), || op.forward_summand(x, self.pass))?;
            let saved = (self.purpose != Purpose::Evaluate).then_some(saved);
            let output = self.purpose.weighs_outputs().then(|| y.clone());
            return Ok(Some((y, Ran { saved, output, factors: None })));
        }
        let (y, saved) = self.step(op.as_ref(), &Output::of(vec![x.clone()]), || {
            edge_place(cell, edge, &edge.candidates[k])
        })?;
        let identity = y.id() == x.id(); // what returns its own input is not dropped (Liu et al., 2019, `cnn/train.py`)
        let factors = (self.drop_path > 0.0 && !identity).then(|| self.path_factors(cell, edge, x));
        let y = match &factors {
            None => y,
            Some(factors) => sum::scale_samples(&y, factors)?,
        };
        let y = Summand::from(y);
        let output = self.purpose.weighs_outputs().then(|| y.clone());
        Ok(Some((y, Ran { saved, output, factors })))
    }

    /// Per example: 0 with the probability of dropping, else the reciprocal of the probability of keeping.
    fn path_factors(&self, cell: &Cell, edge: &Edge, x: &Tensor) -> Vec<f64> {
        let keep = 1.0 - self.drop_path;
        let stream = (1 << 63) | ((cell.index as u64) << 32) | ((edge.from as u64) << 16) | edge.to as u64;
        let mut rng = self.pass.draw.rng(stream);
        let n = x.dims().first().copied().unwrap_or(0);
        (0..n).map(|_| if rng.random::<f64>() < keep { 1.0 / keep } else { 0.0 }).collect()
    }

    /// Runs one operation; keeps its state only where a backward will come.
    fn step(
        &mut self,
        op: &dyn Op,
        x: &Output,
        place: impl Fn() -> Place,
    ) -> Result<(Tensor, Option<Saved>), Error> {
        let apart = match &x.maps[..] {
            [_] => None,
            xs => op::run(op, || op.forward_beside(xs, self.pass))?,
        };
        let found = match apart {
            Some(found) => found,
            None => {
                let x = x.joined()?;
                op::run(op, || op.forward(x, self.pass))?
            }
        };
        let (y, saved) = found;
        Ok((self.checked(y, place)?, self.kept(saved)))
    }

    /// An output, if it is finite where that is asked for.
    fn checked(&self, y: Tensor, place: impl Fn() -> Place) -> Result<Tensor, Error> {
        if self.watch && !sum::is_finite(&y)? {
            return Err(Error::NotFinite(place()));
        }
        Ok(y)
    }

    /// What an operation keeps, where a backward will come.
    fn kept(&self, saved: Saved) -> Option<Saved> {
        (self.purpose != Purpose::Evaluate).then_some(saved)
    }
}

/// Terms of a node from an edge that counts there with a strength.
struct Weighed<'t> {
    strength: f64,
    terms: &'t mut Terms,
}

impl Weighed<'_> {
    fn push(&mut self, weight: f64, y: Summand) -> Result<(), Error> {
        self.terms.push(self.strength * weight, y)
    }
}

/// The value of a node that no operation reaches: zeros of its shape.
fn nothing(cell: &Cell, node: usize, nodes: &[Tensor]) -> Result<Tensor, Error> {
    let like = &nodes[0];
    let n = like.dims().first().copied().unwrap_or(0);
    // Intermediate nodes all have the shape of a map that is the whole output, or an equal share of its channels.
    let mut shape = cell.shape;
    shape.channels /= cell.output.len();
    debug_assert!(node >= cell.inputs.len(), "inputs always have a value");
    Ok(Tensor::zeros(shape.batch_dims(n), like.dtype(), like.device())?)
}
