//! What a step holds: the walk there and back, with sizes in place of tensors.

use std::{
    cell::{Cell as Number, OnceCell, RefCell},
    rc::Rc,
};

use controller::{Demand, Paths};
use ops::{Catalog, Output, Side};
use search_space::{Block, Cell, Edge, Layout, OpSpec, Shape, Site, Vocabulary, WordError};

use crate::{
    Purpose,
    backward::{Wanted, maps_of},
    terms::MOST,
};

/// Bytes of a number.
const NUMBER: u64 = 4;

/// Numbers of the parts of a weight's gradient that a device adds up, at most; and pixels of one part, at least.
const PARTS: u64 = 1 << 20;
const PART: u64 = 128;

/// Launches that a device is sent together, at most (`ops::kernels::gpu::recorded`); each writes about one map.
const LAUNCHES: usize = 256;

/// Maps that one kernel of a device adds up (`ops::kernels::sum`).
const SUMMED: usize = 4;

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
        let moved: u64 = walk.gradients.iter().map(|gradient| gradient.0.bytes).sum();
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

/// Bytes that are held now, and that were at most.
#[derive(Clone, Default)]
struct Ledger(Rc<Book>);

#[derive(Default)]
struct Book {
    now: Number<u64>,
    peak: Number<u64>,
    /// What launches that wait to be sent read and write, where they wait.
    waiting: RefCell<Option<Vec<Map>>>,
}

impl Ledger {
    fn hold(&self, bytes: u64) -> Map {
        let Book { now, peak, .. } = &*self.0;
        now.set(now.get() + bytes);
        peak.set(peak.get().max(now.get()));
        let map = Map(Rc::new(Held { bytes, ledger: self.clone() }));
        self.wait(&map);
        map
    }

    /// Keeps a map until the launches that wait are sent.
    fn wait(&self, map: &Map) {
        if let Some(waiting) = &mut *self.0.waiting.borrow_mut() {
            if waiting.len() == LAUNCHES {
                waiting.clear();
            }
            waiting.push(map.clone());
        }
    }

    /// What a device writes on its way to a sum of `terms` maps, before they become one: its kernel adds [`SUMMED`].
    fn hold_partial_sums(&self, terms: usize, bytes: u64) {
        if self.0.waiting.borrow().is_some() {
            (0..terms.saturating_sub(SUMMED).div_ceil(SUMMED - 1)).for_each(|_| drop(self.hold(bytes)));
        }
    }

    fn peak(&self) -> u64 {
        self.0.peak.get()
    }
}

/// What stands for a tensor: held until its last owner lets it go.
#[derive(Clone)]
struct Map(Rc<Held>);

struct Held {
    bytes: u64,
    ledger: Ledger,
}

impl Drop for Held {
    fn drop(&mut self) {
        let now = &self.ledger.0.now;
        now.set(now.get() - self.bytes);
    }
}

/// An output on its way into a sum, perhaps with a norm still to be applied, or a factor.
#[derive(Clone)]
struct Term {
    /// What holds it; more than itself, perhaps.
    map: Map,
    bytes: u64,
    bare: bool,
}

impl From<Map> for Term {
    fn from(map: Map) -> Self {
        Self { bytes: map.0.bytes, map, bare: true }
    }
}

/// What waits to be added up.
#[derive(Clone, Default)]
struct Terms(Vec<Term>);

impl Terms {
    fn push(&mut self, ledger: &Ledger, term: impl Into<Term>) {
        if self.0.len() == MOST {
            let sum = std::mem::take(self).total(ledger);
            self.0.extend(sum.map(Term::from));
        }
        self.0.push(term.into());
    }

    fn total(self, ledger: &Ledger) -> Option<Map> {
        match &self.0[..] {
            [] => None,
            [only] if only.bare => Some(only.map.clone()),
            terms @ [first, ..] => {
                ledger.hold_partial_sums(terms.len(), first.bytes);
                Some(ledger.hold(first.bytes))
            }
        }
    }
}

/// What a block puts out, as [`forward::Output`](crate::forward).
struct Maps {
    apart: Vec<Map>,
    joined: OnceCell<Map>,
}

impl Maps {
    fn of(apart: Vec<Map>) -> Rc<Self> {
        Rc::new(Self { apart, joined: OnceCell::new() })
    }

    /// One map for all who ask.
    fn joined(&self, ledger: &Ledger) -> &Map {
        match &self.apart[..] {
            [only] => only,
            maps => self.joined.get_or_init(|| ledger.hold(maps.iter().map(|map| map.0.bytes).sum())),
        }
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
        let waiting = (self.step.side == Side::Device).then(Vec::new);
        self.ledger.0.waiting.replace(waiting);
        let result = f(self);
        self.ledger.0.waiting.replace(None);
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
        for block in &layout.blocks {
            let (y, kept) = match block {
                Block::Fixed { op, site } => {
                    let (y, ran) = self.recorded(|walk| walk.alone(op, site, &last))?;
                    (vec![y], BlockTrace::Fixed(ran))
                }
                Block::Cell(cell) => self.recorded(|walk| walk.cell(cell, [&last, &before]))?,
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

    fn cell(&mut self, cell: &'a Cell, sources: [&Maps; 2]) -> Result<(Vec<Map>, BlockTrace<'a>), WordError> {
        let (mut nodes, mut preprocess, mut edges) = (Vec::new(), Vec::new(), Vec::new());
        for input in &cell.inputs {
            let x = sources[input.back - 1];
            let (x, ran) = match &input.preprocess {
                None => (x.joined(&self.ledger).clone(), None),
                Some((op, site)) => self.alone(op, site, x).map(|(y, ran)| (y, Some(ran)))?,
            };
            nodes.push(x);
            preprocess.push(ran);
        }
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
            let whole = rest.0.bytes + self.step.bytes(edge.site.output().elements() as u64);
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
        for (index, block) in layout.blocks.iter().enumerate().rev() {
            let Some(kept) = trace.blocks.pop() else { continue };
            let arrived = std::mem::take(&mut grads[index + 1]);
            match (block, kept) {
                (Block::Cell(cell), BlockTrace::Cell { preprocess, edges, _nodes }) => {
                    let at = |input: usize| (index + 1).saturating_sub(cell.inputs[input].back);
                    let asked: Vec<(bool, usize)> =
                        (0..cell.inputs.len()).map(at).map(|source| (wanted[source], maps(source))).collect();
                    let back =
                        self.recorded(|walk| walk.cell_back(cell, preprocess, edges, arrived, &asked))?;
                    for (input, g) in back.into_iter().enumerate().rev() {
                        self.accumulate(&mut grads[at(input)], g);
                    }
                }
                (_, BlockTrace::Fixed(ran)) => {
                    let Some(g) = arrived.into_iter().next().and_then(|g| g.total(&self.ledger)) else {
                        continue;
                    };
                    let asked = (wanted[index], maps(index));
                    let g = self.recorded(|walk| walk.back(ran, &g, asked))?;
                    self.accumulate(&mut grads[index], g);
                }
                (Block::Fixed { .. }, BlockTrace::Cell { .. }) => {
                    unreachable!("a trace is made block by block")
                }
            }
        }
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
            _ => (0..n).map(|_| self.ledger.hold(map.0.bytes / n as u64)).collect(),
        }
    }

    fn cell_back(
        &mut self,
        cell: &'a Cell,
        preprocess: Vec<Option<Ran<'a>>>,
        mut edges: Vec<EdgeTrace<'a>>,
        arrived: Vec<Terms>,
        asked: &[(bool, usize)],
    ) -> Result<Vec<Vec<Map>>, WordError> {
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
            let at_input = |i: usize| asked[i].0 || (preprocess[i].is_some() && self.trains());
            let need = edge.from >= n_inputs || at_input(edge.from);
            self.edge_back(edge, kept, g, need, &mut grads[edge.from])?;
        }
        let mut back = Vec::new();
        for (i, (ran, g)) in preprocess.into_iter().zip(grads).enumerate() {
            back.push(match (ran, g.total(&self.ledger)) {
                (Some(ran), Some(g)) => self.back(ran, &g, asked[i])?,
                (None, Some(g)) => self.separate(g, asked[i].1),
                (_, None) => Vec::new(),
            });
        }
        Ok(back)
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
