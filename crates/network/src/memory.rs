//! What a step holds: the walk there and back, with sizes in place of tensors.

mod ledger;

use std::collections::BTreeMap;

use controller::{Demand, Paths};
use ops::{Catalog, Output, Side, VECTOR};
use search_space::{Block, Cell, Edge, Layout, OpSpec, Shape, Site, Vocabulary, WordError};

use self::ledger::{Ledger, Map, Maps, Term, Terms};
use crate::{
    Purpose,
    backward::{Wanted, maps_of},
    graph::Input,
};

/// Bytes of a number.
const NUMBER: u64 = 4;

/// Numbers of the parts of a weight's gradient that a device adds up, at most; and pixels of one part, at least.
const PARTS: u64 = 1 << 20;
const PART: u64 = 128;

/// Batches that are made or being made before a step asks for them (`data::batches`).
const AHEAD: u64 = 3;

/// A supernet's step, of which the memory is asked.
#[derive(Clone, Copy, Debug)]
pub struct StepMemory<'a> {
    /// The supernet.
    pub layout: &'a Layout,
    /// Its words.
    pub catalog: &'a Catalog,
    /// Examples in a batch.
    pub batch: usize,
    /// Where it runs.
    pub side: Side,
    /// Bytes of a number in a map: 4 of `f32`, 2 of bf16. Weights, their gradients and velocities have 4.
    pub map_bytes: u64,
}

impl StepMemory<'_> {
    /// An estimate of the most bytes that a weight step and an architecture step hold, one after the other, where
    /// the candidates of each edge are those that hold most: weights and velocities, batches, and the larger of what either
    /// step holds. What the program, the driver and its libraries need comes on top.
    ///
    /// # Errors
    /// An operation that the catalog does not know, or refuses at its site.
    pub fn peak(&self, demand: Demand) -> Result<u64, WordError> {
        let paths = self.heaviest(demand)?;
        self.peak_along(&paths, &paths, demand)
    }

    /// [`StepMemory::peak`] of a weight step along `weights` and an architecture step along `architecture`, each with an entry per
    /// group.
    ///
    /// # Errors
    /// As [`StepMemory::peak`].
    pub fn peak_along(
        &self,
        weights: &[Paths],
        architecture: &[Paths],
        demand: Demand,
    ) -> Result<u64, WordError> {
        let params = self.layout.cost(self.catalog)?.params;
        let batch = NUMBER * self.n() * self.layout.input.elements() as u64;
        let standing = 2 * NUMBER * params + self.batches() * batch;
        let steps = match demand {
            Demand::Joint => vec![self.pass(weights, Purpose::Joint)?],
            // Losses alone are asked for.
            Demand::Losses(_) | Demand::Enumeration(_) => {
                vec![self.pass(weights, Purpose::Weights)?, self.pass(architecture, Purpose::Evaluate)?]
            }
            demand => vec![
                self.pass(weights, Purpose::Weights)?,
                self.pass(architecture, Purpose::Architecture(demand))?,
            ],
        };
        Ok(standing + steps.into_iter().max().unwrap_or(0))
    }

    /// For each group, what holds most: one candidate an edge, or all of them.
    fn heaviest(&self, demand: Demand) -> Result<Vec<Paths>, WordError> {
        let mut held: Vec<Vec<Vec<u64>>> = (self.layout.groups.iter())
            .map(|group| vec![vec![0; group.candidates.len()]; group.edges.len()])
            .collect();
        for edge in self.layout.cells().flat_map(|cell| &cell.edges) {
            for (op, held) in edge.candidates.iter().zip(&mut held[edge.group][edge.row]) {
                if !op.is_none() {
                    let footprint = self.catalog.footprint(op, &edge.site, self.side)?;
                    let output = edge.site.output().elements() as u64;
                    *held += footprint.kept + if footprint.output == Output::Input { 0 } else { output };
                }
            }
        }
        let most = |row: &Vec<u64>| (0..row.len()).max_by_key(|&k| row[k]).unwrap_or(0);
        Ok(held
            .iter()
            .map(|rows| match demand.mixes() {
                true => Paths::Weighted(rows.iter().map(|row| vec![0.5; row.len()]).collect()),
                false => Paths::Single(rows.iter().map(most).collect()),
            })
            .collect())
    }

    /// The most bytes that a pass and its walk back hold; those of a weight step with its gradients and what they make
    /// of weights and velocities.
    fn pass(&self, paths: &[Paths], purpose: Purpose) -> Result<u64, WordError> {
        let ledger = Ledger::default();
        let mut walk = Walk { step: self, ledger: ledger.clone(), purpose, paths, gradients: Vec::new() };
        let batch = walk.map(self.layout.input);
        let trace = walk.forward(&batch)?;
        if purpose != Purpose::Evaluate {
            walk.backward(trace)?;
        }
        let moved: u64 = walk.gradients.iter().map(Map::bytes).sum();
        ledger.hold(2 * moved);
        Ok(ledger.peak())
    }

    /// Beside the one that a pass runs on: the other step's, that from which narrow maps are cast, and on the CPU those that
    /// are made ahead for both.
    fn batches(&self) -> u64 {
        match self.side {
            Side::Host => 1 + 2 * AHEAD,
            Side::Device => 1 + u64::from(self.map_bytes < NUMBER),
        }
    }

    fn n(&self) -> u64 {
        self.batch as u64
    }

    /// Of maps of so many numbers an example in all.
    fn bytes(&self, numbers: u64) -> u64 {
        self.map_bytes * self.n() * numbers
    }
}

/// What one operation left behind.
struct Ran<'a> {
    op: &'a OpSpec,
    site: &'a Site,
    /// What its backward needs.
    kept: Vec<Map>,
    /// The output, where it will be weighed.
    output: Option<Map>,
}

enum BlockTrace<'a> {
    Fixed(Ran<'a>),
    Cell { preprocess: Vec<Option<Ran<'a>>>, edges: Vec<EdgeTrace<'a>>, _nodes: Vec<Map> },
}

struct EdgeTrace<'a> {
    ran: Vec<(usize, Ran<'a>)>,
    /// What passed by, with partial channels.
    _bypass: Option<Map>,
}

/// What a pass left behind.
struct Trace<'a> {
    stem: Option<Ran<'a>>,
    blocks: Vec<BlockTrace<'a>>,
    before_pool: Option<Ran<'a>>,
}

struct Walk<'a> {
    step: &'a StepMemory<'a>,
    ledger: Ledger,
    purpose: Purpose,
    paths: &'a [Paths],
    gradients: Vec<Map>,
}

impl<'a> Walk<'a> {
    fn map(&self, shape: Shape) -> Map {
        self.maps(shape.elements() as u64)
    }

    /// Maps of so many numbers an example in all.
    fn maps(&self, numbers: u64) -> Map {
        self.ledger.hold(self.step.bytes(numbers))
    }

    /// So many numbers of what is never narrow: weights and their gradients.
    fn wide(&self, numbers: u64) -> Map {
        self.ledger.hold(NUMBER * numbers)
    }

    /// As [`ops::kernels::gpu::recorded`]: on a device, whatever `f` makes or reads is held until `f` is over.
    fn recorded<R>(&mut self, f: impl FnOnce(&mut Self) -> R) -> R {
        self.ledger.set_waiting(self.step.side == Side::Device);
        let result = f(self);
        self.ledger.set_waiting(false);
        result
    }

    fn trains(&self) -> bool {
        matches!(self.purpose, Purpose::Weights | Purpose::Joint)
    }

    fn forward(&mut self, batch: &Map) -> Result<Trace<'a>, WordError> {
        let layout = self.step.layout;
        let mut trace = Trace { stem: None, blocks: Vec::new(), before_pool: None };
        let mut last = Maps::of(vec![batch.clone()]);
        if let Some((op, site)) = &layout.stem {
            let (y, ran) = self.alone(op, site, &last)?;
            (last, trace.stem) = (Maps::of(vec![y]), Some(ran));
        }
        let mut before = last.clone();
        let mut ahead = BTreeMap::new();
        for (index, block) in layout.blocks.iter().enumerate() {
            let (y, kept) = match block {
                Block::Fixed { op, site } => {
                    let (y, ran) = self.recorded(|walk| walk.alone(op, site, &last))?;
                    (vec![y], BlockTrace::Fixed(ran))
                }
                Block::Cell(cell) => self.recorded(|walk| {
                    let inputs = walk.inputs(index, cell, [&last, &before], &mut ahead)?;
                    walk.cell(cell, inputs)
                })?,
            };
            if self.purpose != Purpose::Evaluate {
                trace.blocks.push(kept);
            }
            (before, last) = (last, Maps::of(y));
        }
        if let Some((op, site)) = &layout.head.before_pool {
            let (_y, ran) = self.alone(op, site, &last)?;
            trace.before_pool = Some(ran);
        }
        Ok(trace)
    }

    /// An operation whose output nobody adds up, on maps side by side.
    fn alone(&self, op: &'a OpSpec, site: &'a Site, x: &Maps) -> Result<(Map, Ran<'a>), WordError> {
        let beside = self.step.catalog.footprint(op, site, self.step.side)?.beside;
        let joined = if beside { &x.apart } else { std::slice::from_ref(x.joined(&self.ledger)) };
        let (term, ran) = self.run(op, site, joined)?;
        let y = if term.bare { term.map } else { self.map(site.output()) };
        Ok((y, ran))
    }

    fn run(&self, op: &'a OpSpec, site: &'a Site, xs: &[Map]) -> Result<(Term, Ran<'a>), WordError> {
        let footprint = self.step.catalog.footprint(op, site, self.step.side)?;
        let own = self.maps(footprint.kept);
        let mut kept = vec![own.clone()];
        if footprint.input {
            kept.extend_from_slice(xs);
        }
        let term = match footprint.output {
            Output::Input => Term::from(xs[0].clone()),
            Output::Waiting => {
                let bytes = self.step.bytes(site.output().elements() as u64);
                Term { map: own, bytes, bare: false }
            }
            Output::Fresh | Output::Kept => Term::from(self.map(site.output())),
        };
        if footprint.output == Output::Kept {
            kept.push(term.map.clone());
        }
        if self.purpose == Purpose::Evaluate {
            kept.clear();
        }
        Ok((term, Ran { op, site, kept, output: None }))
    }

    /// A cell's inputs; those of later cells that are made with them go `ahead`.
    fn inputs(
        &self,
        block: usize,
        cell: &'a Cell,
        sources: [&Maps; 2],
        ahead: &mut BTreeMap<Input, (Map, Ran<'a>)>,
    ) -> Result<Vec<(Map, Option<Ran<'a>>)>, WordError> {
        let mut values = Vec::with_capacity(cell.inputs.len());
        for (index, input) in cell.inputs.iter().enumerate() {
            let (x, first) = (sources[input.back - 1], Input { block, index });
            let Some((op, site)) = &input.preprocess else {
                values.push((x.joined(&self.ledger).clone(), None));
                continue;
            };
            let (y, ran) = match ahead.remove(&first) {
                Some(found) => found,
                None => {
                    for (at, other) in Input::readers(self.step.layout, first.source(cell)) {
                        if let Some((other, its_site)) = &other.inputs[at.index].preprocess
                            && at != first
                            && self.together((op, site), (other, its_site))?
                        {
                            ahead.insert(at, self.alone(other, its_site, x)?);
                        }
                    }
                    self.alone(op, site, x)?
                }
            };
            values.push((y, Some(ran)));
        }
        Ok(values)
    }

    /// Whether two operations that read one output run together, as [`readers`](ops::layers::readers) do.
    fn together(&self, a: (&OpSpec, &Site), b: (&OpSpec, &Site)) -> Result<bool, WordError> {
        // Channels that fill vectors are taken for those of one map, as footprints do.
        let beside = |(op, site): (&OpSpec, &Site)| {
            let fills = site.c_in.is_multiple_of(VECTOR) && site.c_out.is_multiple_of(VECTOR);
            let plain = fills && !site.norm.conv_bias;
            Ok::<_, WordError>(plain && self.step.catalog.footprint(op, site, self.step.side)?.beside)
        };
        Ok(a.0 == b.0 && a.1.stride == b.1.stride && beside(a)? && beside(b)?)
    }

    fn cell(
        &mut self,
        cell: &'a Cell,
        inputs: Vec<(Map, Option<Ran<'a>>)>,
    ) -> Result<(Vec<Map>, BlockTrace<'a>), WordError> {
        let ((mut nodes, preprocess), mut edges): ((Vec<_>, _), _) = (inputs.into_iter().unzip(), Vec::new());
        let inner = Shape { channels: cell.shape.channels / cell.output.len(), ..cell.shape };
        let mut next = 0;
        for node in nodes.len()..cell.inputs.len() + cell.nodes {
            let mut terms = Terms::default();
            while let Some(edge) = cell.edges.get(next).filter(|edge| edge.to == node) {
                edges.push(self.edge(edge, &nodes[edge.from], &mut terms)?);
                next += 1;
            }
            let sum = terms.total(&self.ledger).unwrap_or_else(|| self.map(inner));
            nodes.push(sum);
        }
        let y = cell.output.iter().map(|&node| nodes[node].clone()).collect();
        if !self.purpose.probes() {
            nodes.clear();
        }
        Ok((y, BlockTrace::Cell { preprocess, edges, _nodes: nodes }))
    }

    /// The candidates that run on an edge, each with its weight.
    fn running(&self, edge: &Edge) -> Vec<(usize, f64)> {
        match &self.paths[edge.group] {
            Paths::Single(chosen) => vec![(chosen[edge.row], 1.0)],
            Paths::Pair(pairs) => vec![(pairs[edge.row][0], 1.0)],
            Paths::Weighted(rows) => rows[edge.row].iter().copied().enumerate().collect(),
        }
    }

    fn edge(&mut self, edge: &'a Edge, x: &Map, terms: &mut Terms) -> Result<EdgeTrace<'a>, WordError> {
        let rest = edge.bypass().map(|shape| self.map(shape));
        let part = if rest.is_some() { &self.map(edge.site.input()) } else { x };
        let (mut ran, mut mixed) = (Vec::new(), Terms::default());
        for (k, weight) in self.running(edge) {
            let op = &edge.candidates[k];
            if op.is_none() {
                continue;
            }
            let (term, mut left) = self.run(op, &edge.site, std::slice::from_ref(part))?;
            left.output = self.purpose.weighs_outputs().then(|| term.map.clone());
            let term = Term { bare: term.bare && weight == 1.0, ..term };
            let into = if rest.is_some() { &mut mixed } else { &mut *terms };
            into.push(&self.ledger, term);
            ran.push((k, left));
        }
        if let Some(rest) = &rest {
            let _mixed = mixed.total(&self.ledger);
            let whole = rest.bytes() + self.step.bytes(edge.site.output().elements() as u64);
            terms.push(&self.ledger, self.ledger.hold(whole));
        }
        Ok(EdgeTrace { ran, _bypass: rest.filter(|_| self.purpose.weighs_outputs()) })
    }

    fn backward(&mut self, mut trace: Trace<'a>) -> Result<(), WordError> {
        let layout = self.step.layout;
        let wanted = Wanted::of(layout, self.purpose).0;
        let blocks = layout.blocks.len();
        let maps = |index: usize| maps_of(layout, index);
        let mut grads: Vec<Vec<Terms>> =
            (0..=blocks).map(|index| vec![Terms::default(); maps(index)]).collect();
        let features = layout.head.features * layout.classes + layout.classes;
        if self.trains() {
            self.gradients.push(self.wide(features as u64));
        }
        let need = wanted[blocks];
        let pooled = layout.head.before_pool.as_ref().map_or(layout.head.input, |(_, site)| site.output());
        let g = match trace.before_pool.take() {
            None if need => self.separate(self.map(pooled), maps(blocks)),
            None => Vec::new(),
            Some(ran) => {
                let back = self.map(pooled);
                self.back(ran, &back, (need, maps(blocks)))?
            }
        };
        self.accumulate(&mut grads[blocks], g);
        let mut waiting: Vec<Vec<(Ran<'a>, Map)>> = (0..=blocks).map(|_| Vec::new()).collect();
        for (index, block) in layout.blocks.iter().enumerate().rev() {
            let Some(kept) = trace.blocks.pop() else { continue };
            let mut arrived = std::mem::take(&mut grads[index + 1]);
            let readers = std::mem::take(&mut waiting[index + 1]);
            match (block, kept) {
                (Block::Cell(cell), BlockTrace::Cell { preprocess, edges, _nodes }) => {
                    let sources: Vec<_> = (0..cell.inputs.len())
                        .map(|input| Input { block: index, index: input }.source(cell))
                        .collect();
                    let needs: Vec<_> = (sources.iter().zip(&preprocess))
                        .map(|(&at, ran)| wanted[at] || (ran.is_some() && self.trains()))
                        .collect();
                    self.recorded(|walk| {
                        walk.readers_back(readers, &mut arrived)?;
                        let back = walk.cell_back(cell, edges, arrived, &needs)?;
                        for ((ran, &source), g) in preprocess.into_iter().zip(&sources).zip(back).rev() {
                            match (ran, g) {
                                (_, None) => (),
                                (None, Some(g)) => {
                                    let g = walk.separate(g, maps(source));
                                    walk.accumulate(&mut grads[source], g);
                                }
                                (Some(ran), Some(g)) if wanted[source] => waiting[source].push((ran, g)),
                                (Some(ran), Some(g)) => drop(walk.back(ran, &g, (false, 1))?),
                            }
                        }
                        Ok(())
                    })?;
                }
                (_, BlockTrace::Fixed(ran)) => {
                    let g = self.recorded(|walk| {
                        walk.readers_back(readers, &mut arrived)?;
                        match arrived.into_iter().next().and_then(|g| g.total(&walk.ledger)) {
                            None => Ok(Vec::new()),
                            Some(g) => walk.back(ran, &g, (wanted[index], maps(index))),
                        }
                    })?;
                    self.accumulate(&mut grads[index], g);
                }
                (Block::Fixed { .. }, BlockTrace::Cell { .. }) => {
                    unreachable!("a trace is made block by block")
                }
            }
        }
        self.recorded(|walk| walk.readers_back(std::mem::take(&mut waiting[0]), &mut grads[0]))?;
        let at_stem = grads.swap_remove(0).into_iter().next().and_then(|g| g.total(&self.ledger));
        if let (Some(ran), Some(g)) = (trace.stem.take(), at_stem) {
            self.back(ran, &g, (false, 1))?;
        }
        Ok(())
    }

    fn accumulate(&self, sums: &mut [Terms], grads: Vec<Map>) {
        sums.iter_mut().zip(grads).for_each(|(sum, g)| sum.push(&self.ledger, g));
    }

    /// A map cut into `n`.
    fn separate(&self, map: Map, n: usize) -> Vec<Map> {
        match n {
            1 => vec![map],
            _ => (0..n).map(|_| self.ledger.hold(map.bytes() / n as u64)).collect(),
        }
    }

    /// What the readers of an output say of its maps: those that run together write one gradient.
    fn readers_back(&mut self, readers: Vec<(Ran<'a>, Map)>, terms: &mut [Terms]) -> Result<(), WordError> {
        let mut written: Vec<(&OpSpec, &Site)> = Vec::new();
        for (ran, g) in readers {
            let own = (ran.op, ran.site);
            let mut is_written = false;
            for other in &written {
                is_written |= self.together(*other, own)?;
            }
            let gx = self.back(ran, &g, (!is_written, terms.len()))?;
            self.accumulate(terms, gx);
            written.push(own);
        }
        Ok(())
    }

    fn cell_back(
        &mut self,
        cell: &'a Cell,
        mut edges: Vec<EdgeTrace<'a>>,
        arrived: Vec<Terms>,
        needs: &[bool],
    ) -> Result<Vec<Option<Map>>, WordError> {
        let n_inputs = cell.inputs.len();
        let mut grads = vec![Terms::default(); n_inputs + cell.nodes];
        for (&node, g) in cell.output.iter().zip(arrived) {
            grads[node] = g;
        }
        let mut arrived: (usize, Option<Map>) = (n_inputs + cell.nodes, None);
        for edge in cell.edges.iter().rev() {
            let Some(kept) = edges.pop() else { break };
            if arrived.0 != edge.to {
                arrived = (edge.to, std::mem::take(&mut grads[edge.to]).total(&self.ledger));
            }
            let Some(g) = &arrived.1 else { continue };
            let need = edge.from >= n_inputs || needs[edge.from];
            self.edge_back(edge, kept, g, need, &mut grads[edge.from])?;
        }
        Ok(grads.into_iter().take(n_inputs).map(|g| g.total(&self.ledger)).collect())
    }

    fn edge_back(
        &mut self,
        edge: &'a Edge,
        kept: EdgeTrace<'a>,
        g: &Map,
        need: bool,
        terms: &mut Terms,
    ) -> Result<(), WordError> {
        let parts = edge.bypass().map(|shape| (self.map(edge.site.output()), self.map(shape)));
        let arrives = parts.as_ref().map_or(g, |(part, _)| part);
        if self.purpose.probes() {
            let ran = |k: usize| kept.ran.iter().any(|(other, _)| *other == k);
            for op in (0..edge.candidates.len()).filter(|&k| !ran(k)).map(|k| &edge.candidates[k]) {
                self.probe(op, edge)?;
            }
        }
        let (weights, mut mixed) = (self.running(edge), Terms::default());
        for (k, ran) in kept.ran.into_iter().rev() {
            let weight = weights.iter().find(|(other, _)| *other == k).map_or(0.0, |(_, weight)| *weight);
            if weight == 0.0 {
                continue;
            }
            if let Some(map) = self.back(ran, arrives, (need, 1))?.pop() {
                let into = if parts.is_some() { &mut mixed } else { &mut *terms };
                into.push(&self.ledger, Term { bare: weight == 1.0, ..map.into() });
            }
        }
        if parts.is_some() && need {
            let _mixed = mixed.total(&self.ledger);
            let whole = edge.site.input().elements() * edge.partial;
            terms.push(&self.ledger, self.maps(whole as u64));
        }
        Ok(())
    }

    /// A candidate that runs to be weighed, and of which nothing is kept; on the CPU it never is whole.
    fn probe(&self, op: &OpSpec, edge: &Edge) -> Result<(), WordError> {
        if op.is_none() || self.step.side == Side::Host {
            return Ok(());
        }
        let footprint = self.step.catalog.footprint(op, &edge.site, self.step.side)?;
        let _kept = self.maps(footprint.kept);
        if footprint.output != Output::Input {
            let _output = self.map(edge.site.output());
        }
        Ok(())
    }

    /// The gradients at the maps that make an operation's input, where they are needed; its weights' are kept where the pass
    /// is for them.
    fn back(&mut self, ran: Ran<'a>, grad: &Map, (need, maps): (bool, usize)) -> Result<Vec<Map>, WordError> {
        if !need && !self.trains() {
            return Ok(Vec::new());
        }
        let (op, site) = (ran.op, ran.site);
        ran.kept.iter().chain(&ran.output).chain([grad]).for_each(|map| self.ledger.wait(map));
        let footprint = self.step.catalog.footprint(op, site, self.step.side)?;
        if footprint.output == Output::Input {
            return Ok(if need { self.separate(grad.clone(), maps) } else { Vec::new() });
        }
        let _passing = self.maps(footprint.passing);
        let gx = match (need, footprint.beside) {
            (false, _) => Vec::new(),
            (true, true) => (0..maps).map(|_| self.maps((site.input().elements() / maps) as u64)).collect(),
            (true, false) => vec![self.map(site.input())],
        };
        let params = self.step.catalog.cost(op, site)?.params;
        if self.trains() && params > 0 {
            if self.step.side == Side::Device {
                let pixels = self.step.n() * site.out_pixels() as u64;
                let _parts = self.wide((params * pixels.div_ceil(PART)).min(PARTS));
            }
            self.gradients.push(self.wide(params));
        }
        Ok(match <[Map; 1]>::try_from(gx) {
            Ok([joined]) => self.separate(joined, maps),
            Err(gx) => gx,
        })
    }
}
