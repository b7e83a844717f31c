//! The walk back: blocks, nodes and edges in the reverse of the forward's order.

use candle_core::{Device, Tensor};
use ops::{
    Backward, Forward, Op, Returned, Saved, Statistics, Summand,
    kernels::{Later, gpu, shuffle, sum},
    layers::readers::{self, Returning},
    op,
};
use search_space::{Block, Cell, Edge, Layout};

use crate::{
    Error, Purpose, bypass,
    graph::{Built, Graph, Input},
    terms::Arriving,
    trace::{BlockTrace, CellTrace, Choice, EdgeTrace, Ran, Trace},
};

/// A walk back under way.
pub(crate) struct WalkBack<'w, 'p> {
    pub(crate) pass: &'w mut Backward<'p>,
    slopes: Vec<Slope>,
}

/// A product that adds to the gradients of an edge; a device may still be computing it.
#[derive(Debug)]
struct Slope {
    group: usize,
    row: usize,
    /// The candidate whose gate it adds to, and with which factor.
    gate: Option<(usize, f64)>,
    /// The factor with which it adds to the gradient of the edge's strength.
    strength: Option<f64>,
    product: Later,
}

/// What a walk back found for the relaxation; a device may still be computing it.
#[derive(Debug, Default)]
pub struct Slopes(Vec<Slope>);

/// What a walk back answers the relaxation: sums over the cells that share a group.
#[derive(Clone, Debug)]
pub struct Answers {
    /// `∂L/∂gates`, one `(E, K)` matrix of `f64` per group.
    pub gates: Vec<Tensor>,
    /// `∂L/∂strength` of every edge, by group and row, likewise; of use where the pass was told strengths.
    pub strengths: Vec<Vec<f64>>,
}

impl Slopes {
    /// What [`Later::settle`] makes known, so that the other numbers of a step come with them.
    pub fn numbers(&mut self) -> impl Iterator<Item = &mut Later> {
        self.0.iter_mut().map(|slope| &mut slope.product)
    }

    /// The sums. Waits for a device at every number that is not settled.
    ///
    /// # Errors
    /// The device fails.
    pub fn answers(&self, layout: &Layout) -> Result<Answers, Error> {
        let mut gates: Vec<_> =
            layout.groups.iter().map(|g| vec![vec![0.0; g.candidates.len()]; g.edges.len()]).collect();
        let mut strengths: Vec<_> = layout.groups.iter().map(|g| vec![0.0; g.edges.len()]).collect();
        for &Slope { group, row, gate, strength, ref product } in &self.0 {
            let product = product.get()?;
            if let Some((k, factor)) = gate {
                gates[group][row][k] += factor * product;
            }
            if let Some(factor) = strength {
                strengths[group][row] += factor * product;
            }
        }
        let gates = gates.into_iter().map(|rows| Tensor::new(rows, &Device::Cpu));
        Ok(Answers { gates: gates.collect::<Result<_, _>>()?, strengths })
    }
}

/// A candidate that ran, and how it counted.
#[derive(Clone, Copy)]
struct At<'e> {
    edge: &'e Edge,
    k: usize,
    strength: f64,
    weight: f64,
}

impl At<'_> {
    /// What `⟨∂L/∂f, output⟩` adds to: the edge adds `strength·weight·output` to its node.
    fn slope(self, product: Later) -> Slope {
        let Self { edge, k, strength, weight } = self;
        Slope { group: edge.group, row: edge.row, gate: Some((k, strength)), strength: Some(weight), product }
    }
}

/// Which block outputs need their gradient: 0 is the stem's, `i + 1` that of block `i`.
pub(crate) struct Wanted(pub(crate) Vec<bool>);

impl<'w, 'p> WalkBack<'w, 'p> {
    pub(crate) fn new(pass: &'w mut Backward<'p>) -> Self {
        Self { pass, slopes: Vec::new() }
    }

    /// What was found.
    pub(crate) fn slopes(self) -> Slopes {
        Slopes(self.slopes)
    }

    /// Walks from the logits' gradients to the first block whose gradient anybody needs.
    pub(crate) fn run(
        &mut self,
        graph: &Graph,
        mut trace: Trace,
        grad: &Tensor,
        auxiliary: Option<&Tensor>,
    ) -> Result<(), Error> {
        let maps = self.pass.params.maps();
        let (grad, auxiliary) =
            (&grad.to_dtype(maps)?, auxiliary.map(|grad| grad.to_dtype(maps)).transpose()?);
        let wanted = Wanted::of(&graph.layout, trace.purpose);
        let n_blocks = graph.blocks.len();
        // At each block's output, map by map; 0 is the stem's.
        let mut grads: Vec<Vec<Arriving>> =
            (0..=n_blocks).map(|index| nothing(maps_of(&graph.layout, index))).collect();
        let classifier = trace.classifier.take().ok_or(Error::NothingKept)?;
        let (last, need) = (maps_of(&graph.layout, n_blocks), wanted.0[n_blocks]);
        let g = match &graph.before_pool {
            None => self.op(&graph.classifier, Some(classifier), grad, (need, last))?,
            Some(op) => match self.op(&graph.classifier, Some(classifier), grad, (true, 1))?.pop() {
                Some(back) => self.op(op.as_ref(), trace.before_pool.take(), &back, (need, last))?,
                None => Vec::new(),
            },
        };
        self.accumulate(&mut grads[n_blocks], g)?;
        // What prepared each output for cells: it goes back together, once all of these have been walked.
        let mut waiting: Vec<Vec<Returning<'_>>> = (0..=n_blocks).map(|_| Vec::new()).collect();
        for index in (0..n_blocks).rev() {
            if let (Some(op), Some(aux), Some(g)) = (&graph.auxiliary, &graph.layout.auxiliary, &auxiliary)
                && aux.after == index
            {
                let (need, maps) = (wanted.0[index + 1], maps_of(&graph.layout, index + 1));
                let g = self.op(op.as_ref(), trace.auxiliary.take(), g, (need, maps))?;
                self.accumulate(&mut grads[index + 1], g)?;
            }
            let Some(kept) = trace.blocks.pop() else { continue };
            let (mut arrived, readers) =
                (std::mem::take(&mut grads[index + 1]), std::mem::take(&mut waiting[index + 1]));
            match (&graph.blocks[index], &graph.layout.blocks[index], kept) {
                (Built::Fixed(op), _, BlockTrace::Fixed(saved)) => {
                    let g = gpu::recorded(|| {
                        self.readers(readers, &mut arrived)?;
                        let Some(g) = self.total(arrived)? else { return Ok::<_, Error>(Vec::new()) };
                        self.op(op.as_ref(), saved, &g, (wanted.0[index], maps_of(&graph.layout, index)))
                    })?;
                    self.accumulate(&mut grads[index], g)?;
                }
                (Built::Cell { preprocess, edges }, Block::Cell(cell), BlockTrace::Cell(mut kept)) => {
                    let frame = Frame { mode: trace.mode, draw: trace.draw, purpose: trace.purpose };
                    let sources: Vec<_> = (0..cell.inputs.len())
                        .map(|input| Input { block: index, index: input }.source(cell))
                        .collect();
                    let needs: Vec<_> = (sources.iter().zip(preprocess))
                        .map(|(&at, op)| wanted.0[at] || (op.is_some() && self.pass.gradients.is_some()))
                        .collect();
                    let prepared = std::mem::take(&mut kept.preprocess);
                    gpu::recorded(|| {
                        self.readers(readers, &mut arrived)?;
                        let back = self.cell(cell, edges, kept, arrived, frame, &needs)?;
                        let of_inputs = preprocess.iter().zip(prepared).zip(&sources).zip(back);
                        for (((op, saved), &source), g) in of_inputs.rev() {
                            let Some(g) = g else { continue };
                            match op {
                                None => self.accumulate(
                                    &mut grads[source],
                                    sum::separate(&g, maps_of(&graph.layout, source))?,
                                )?,
                                Some(op) if wanted.0[source] => {
                                    let saved = saved.ok_or(Error::NothingKept)?;
                                    waiting[source].push(Returning { op: op.as_ref(), saved, grad: g });
                                }
                                Some(op) => drop(self.op(op.as_ref(), saved, &g, (false, 1))?),
                            }
                        }
                        Ok::<_, Error>(())
                    })?;
                }
                _ => return Err(Error::NothingKept),
            }
        }
        gpu::recorded(|| self.readers(std::mem::take(&mut waiting[0]), &mut grads[0]))?;
        let at_stem = self.total(grads.swap_remove(0))?;
        if let (Some(stem), Some(g)) = (&graph.stem, at_stem) {
            self.op(stem.as_ref(), trace.stem.take(), &g, (false, 1))?;
        }
        Ok(())
    }

    /// Adds what the readers of an output say of it to the terms of its maps.
    fn readers(&mut self, readers: Vec<Returning<'_>>, terms: &mut [Arriving]) -> Result<(), Error> {
        let found = readers::backward(readers, terms.len(), self.pass)?;
        found.into_iter().try_for_each(|g| self.accumulate(terms, g))
    }

    /// Adds gradients to those at as many maps.
    fn accumulate(&mut self, sums: &mut [Arriving], grads: Vec<Tensor>) -> Result<(), Error> {
        sums.iter_mut().zip(grads).try_for_each(|(sum, g)| sum.push(1.0, g, self.pass))
    }

    /// What arrives at the only map of an output.
    fn total(&mut self, arrived: Vec<Arriving>) -> Result<Option<Tensor>, Error> {
        arrived.into_iter().next().map_or(Ok(None), |terms| terms.total(self.pass))
    }

    /// Gradients at the cell's inputs, from those that arrive at the nodes of its output; `needs` says of each input whether
    /// its gradient is asked for.
    pub(crate) fn cell(
        &mut self,
        cell: &Cell,
        edges: &[Vec<Option<Box<dyn Op>>>],
        mut kept: CellTrace,
        arrived: Vec<Arriving>,
        frame: Frame,
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>, Error> {
        let n_inputs = cell.inputs.len();
        let mut grads = nothing(n_inputs + cell.nodes);
        for (&node, g) in cell.output.iter().zip(arrived) {
            grads[node] = g;
        }
        let mut arrived: (usize, Option<Tensor>) = (n_inputs + cell.nodes, None); // at the node that edges lead to now
        for (index, edge) in cell.edges.iter().enumerate().rev() {
            let ran = kept.edges.pop().ok_or(Error::NothingKept)?;
            if arrived.0 != edge.to {
                arrived = (edge.to, std::mem::take(&mut grads[edge.to]).total(self.pass)?);
            }
            let Some(g) = &arrived.1 else { continue };
            let need = edge.from >= n_inputs || needs[edge.from];
            let source = kept.nodes.get(edge.from);
            self.edge(edge, ran, &edges[index], source, g, need, frame, &mut grads[edge.from])?;
        }
        // Of all that is left, so that no weight's gradient stays pending; of the inputs it is asked for.
        let mut left: Vec<_> =
            grads.into_iter().map(|terms| terms.total(self.pass)).collect::<Result<_, _>>()?;
        left.truncate(n_inputs);
        Ok(left)
    }

    /// Adds `∂L/∂x` of one edge to the terms of where it comes from, and to `∂L/∂gate` and `∂L/∂strength` of what ran.
    /// `source` is the value of the node it comes from, where candidates are to be probed.
    #[expect(clippy::too_many_arguments, reason = "an edge's parts, and what arrives at it")]
    fn edge(
        &mut self,
        edge: &Edge,
        kept: EdgeTrace,
        candidates: &[Option<Box<dyn Op>>],
        source: Option<&Tensor>,
        grad: &Tensor,
        need: bool,
        frame: Frame,
        terms: &mut Arriving,
    ) -> Result<(), Error> {
        let EdgeTrace { ran, strength, bypass } = kept;
        let source = source.filter(|_| frame.purpose.probes());
        let Some(passed) = bypass else {
            if let Some(x) = source {
                self.probe(edge, strength, &ran, candidates, x, grad, frame)?;
            }
            return self.choice(edge, strength, ran, candidates, grad, need, terms);
        };
        let (part, rest) = shuffle::separate(grad, edge.partial)?;
        if let Some(x) = source {
            self.probe(edge, strength, &ran, candidates, &bypass::cut(edge, x)?.0, &part, frame)?;
        }
        if let Some(y) = &passed.rest {
            let product = sum::dot_later(&rest, y)?;
            self.slopes.push(Slope {
                group: edge.group,
                row: edge.row,
                gate: None,
                strength: Some(1.0),
                product,
            });
        }
        let mut mixed = Arriving::default();
        self.choice(edge, strength, ran, candidates, &part, need, &mut mixed)?;
        if need {
            let rest = if strength == 1.0 { rest } else { sum::scale(&rest, strength)? };
            let mixed = mixed.total(self.pass)?;
            terms.push(1.0, bypass::back(edge, &passed, mixed, rest)?, self.pass)?;
        }
        Ok(())
    }

    /// The candidates that ran, walked back.
    ///
    /// A mixture's gradient `weight·∂L/∂f` is never stored: backward is linear in it, so the weight multiplies results.
    #[expect(clippy::too_many_arguments, reason = "an edge's parts, and what arrives at it")]
    fn choice(
        &mut self,
        edge: &Edge,
        strength: f64,
        ran: Choice,
        candidates: &[Option<Box<dyn Op>>],
        grad: &Tensor,
        need: bool,
        terms: &mut Arriving,
    ) -> Result<(), Error> {
        let parts = match ran {
            Choice::Single { chosen, ran, .. } => vec![(chosen, 1.0, ran)],
            Choice::Mixture(parts) => {
                parts.into_iter().enumerate().map(|(k, (weight, ran))| (k, weight, ran)).collect()
            }
        };
        for (k, weight, ran) in parts.into_iter().rev() {
            let Some(ran) = ran else { continue };
            let at = At { edge, k, strength, weight };
            let factor = strength * weight;
            if factor == 0.0 {
                self.weigh(at, ran.output.as_ref(), grad)?;
            } else {
                self.multiply_gradients(factor);
                let g = self.candidate(at, &candidates[k], ran, grad, need)?;
                self.multiply_gradients(1.0);
                g.map_or(Ok(()), |g| terms.push(factor, g, self.pass))?;
            }
        }
        Ok(())
    }

    fn multiply_gradients(&mut self, factor: f64) {
        if let Some(gradients) = self.pass.gradients.as_deref_mut() {
            gradients.multiply(factor);
        }
    }

    /// Runs the candidates that did not run, weighs their outputs and keeps nothing of them.
    #[expect(clippy::too_many_arguments, reason = "an edge's parts, and what arrives at it")]
    fn probe(
        &mut self,
        edge: &Edge,
        strength: f64,
        ran: &Choice,
        candidates: &[Option<Box<dyn Op>>],
        x: &Tensor,
        grad: &Tensor,
        frame: Frame,
    ) -> Result<(), Error> {
        let Choice::Single { chosen, rival, .. } = ran else { return Ok(()) };
        let compared = |k: usize| k != *chosen && rival.is_none_or(|rival| rival == k);
        for (k, op) in candidates.iter().enumerate().filter(|(k, _)| compared(*k)) {
            let Some(op) = op else { continue };
            let mut statistics = Statistics::default(); // of a pass that never was: dropped
            let mut pass = Forward {
                params: self.pass.params,
                mode: frame.mode,
                statistics: &mut statistics,
                draw: frame.draw,
            };
            let product = op::run(op.as_ref(), || op.probe(x, grad, &mut pass))?;
            self.slopes.push(Slope {
                group: edge.group,
                row: edge.row,
                gate: Some((k, strength)),
                strength: None,
                product,
            });
        }
        Ok(())
    }

    /// Adds `⟨∂L/∂f, output⟩` to the gradients of a gate and of its edge's strength, where there is an output to be weighed.
    fn weigh(&mut self, at: At<'_>, output: Option<&Summand>, grad: &Tensor) -> Result<(), Error> {
        if let Some(output) = output {
            self.slopes.push(at.slope(output.dot(grad)?));
        }
        Ok(())
    }

    /// Walks back through a candidate that ran, and weighs its output where that was kept.
    fn candidate(
        &mut self,
        at: At<'_>,
        op: &Option<Box<dyn Op>>,
        ran: Ran,
        grad: &Tensor,
        need: bool,
    ) -> Result<Option<Returned>, Error> {
        let op = op.as_ref().ok_or(Error::NothingKept)?;
        let Ran { saved, output, factors } = ran;
        let dropped = factors.map(|factors| sum::scale_samples(grad, &factors)).transpose()?;
        if !need {
            self.weigh(at, output.as_ref(), grad)?;
            self.op(op.as_ref(), saved, dropped.as_ref().unwrap_or(grad), (false, 1))?;
            return Ok(None);
        }
        let saved = saved.ok_or(Error::NothingKept)?;
        let arriving = dropped.as_ref().unwrap_or(grad);
        let (g, product) = op::run(op.as_ref(), || op.backward_summand(saved, arriving, self.pass))?;
        match (product, &output) {
            (Some(product), Some(_)) if dropped.is_none() => self.slopes.push(at.slope(product)),
            _ => self.weigh(at, output.as_ref(), grad)?,
        }
        Ok(Some(g))
    }

    /// `∂L/∂x` of each of the maps that make `x`, if it is asked for; the weights' gradients where they are.
    fn op(
        &mut self,
        op: &dyn Op,
        saved: Option<Saved>,
        grad: &Tensor,
        (need, maps): (bool, usize),
    ) -> Result<Vec<Tensor>, Error> {
        let saved = saved.ok_or(Error::NothingKept)?;
        if need {
            return Ok(op::run(op, || match maps {
                1 => op.backward(saved, grad, self.pass).map(|g| vec![g]),
                _ => op.backward_beside(saved, grad, maps, self.pass),
            })?);
        }
        if self.pass.gradients.is_some() {
            op::run(op, || op.backward_weights(saved, grad, self.pass))?;
        }
        Ok(Vec::new())
    }
}

/// What a probe needs to know of the forward it repeats.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) mode: ops::Mode,
    pub(crate) draw: ops::Draw,
    pub(crate) purpose: Purpose,
}

impl Wanted {
    /// A weight step needs every gradient down to the stem's output; an architecture step those above a choice.
    pub(crate) fn of(layout: &Layout, purpose: Purpose) -> Self {
        let weights = matches!(purpose, Purpose::Weights | Purpose::Joint);
        let mut wanted = vec![weights && layout.stem.is_some()];
        for block in &layout.blocks {
            let last = wanted[wanted.len() - 1];
            let learns = match purpose {
                Purpose::Weights | Purpose::Joint => true,
                Purpose::Architecture(_) => matches!(block, Block::Cell(_)),
                Purpose::Evaluate => false,
            };
            wanted.push(last || learns);
        }
        Self(wanted)
    }
}

/// How many maps make the output of block `index − 1`; 0 is the stem's.
pub(crate) fn maps_of(layout: &Layout, index: usize) -> usize {
    match index.checked_sub(1).map(|block| &layout.blocks[block]) {
        Some(Block::Cell(cell)) => cell.output.len(),
        _ => 1,
    }
}

/// No gradients at so many maps.
fn nothing(maps: usize) -> Vec<Arriving> {
    (0..maps).map(|_| Arriving::default()).collect()
}
