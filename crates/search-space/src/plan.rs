//! Lays a space out for one shape of data: sites of every edge, shapes of every block.

use std::collections::BTreeMap;

use crate::{
    Auxiliary, Block, Cell, CellInput, CellKind, ChoiceGroup, Edge, Extent, Head, Layout, LayoutRequest,
    Norm, OpSpec, Phase, Shape, Site, Space, SpaceErrors, Vocabulary,
    compile::{CELLS, CHANNELS, CLASSES, admissible},
    fault::{At, Faults},
    space::{Entry, Placed, Stage, Width},
};

/// A layout holds at most this many candidates, all edges of all cells together.
const MOST_CANDIDATES: usize = 100_000;
/// Concatenations are at most this wide.
const MOST_CONCATENATED: usize = 1 << 16;

/// Why a space cannot be laid out as requested.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// The request itself.
    #[error("{found}; {accepted}")]
    Request {
        /// What was found.
        found: String,
        /// What would be accepted.
        accepted: String,
    },
    /// Operations that cannot stand where the request puts them.
    #[error(transparent)]
    Space(SpaceErrors),
}

impl Space {
    /// Lays the network out: the supernet with all candidates, which [`Layout::child`] thins out.
    ///
    /// # Errors
    /// The data's shape, the classes, the width or the depth do not suit the space, or an operation cannot stand
    /// where this shape puts it.
    pub fn layout(&self, request: &LayoutRequest, words: &dyn Vocabulary) -> Result<Layout, LayoutError> {
        self.admit(request)?;
        let depths = self.depths(request)?;
        let channels = self.base_channels(request);
        let mut planner = Planner {
            space: self,
            words,
            norm: self.norm(request.phase),
            scale: channels as f64 / self.skeleton.channels as f64,
            sources: vec![request.input],
            blocks: Vec::new(),
            first_blocks: Vec::new(),
            cells: 0,
            faults: Faults::default(),
        };
        let stem = planner.stem(channels, request.input);
        let mut width = channels;
        for (stage, depth) in self.skeleton.stages.iter().zip(depths) {
            width = planner.width(stage.width, width, stage.at);
            planner.stage(stage, depth, width);
        }
        let head = planner.head();
        let auxiliary = if request.phase == Phase::Train { planner.auxiliary(request.classes) } else { None };
        let Planner { mut blocks, faults, .. } = planner;
        if let Some(errors) = faults.of(&self.file) {
            return Err(LayoutError::Space(errors));
        }
        let groups = group(&self.kinds, &mut blocks);
        let space = self.name.clone();
        let LayoutRequest { input, classes, .. } = *request;
        Ok(Layout { space, input, classes, stem, blocks, head, auxiliary, groups })
    }

    /// Lays the space out once for each phase, so that shapes are known to agree.
    pub(crate) fn try_out(&self, words: &dyn Vocabulary) -> Result<(), SpaceErrors> {
        let (input, classes) = (self.sample_input(), self.classes.unwrap_or(10));
        for phase in [Phase::Search, Phase::Train] {
            let request = LayoutRequest { input, classes, phase, channels: None, cells: None };
            match self.layout(&request, words) {
                Ok(_) => {}
                Err(LayoutError::Space(errors)) => return Err(errors),
                Err(LayoutError::Request { found, accepted }) => {
                    let mut faults = Faults::default();
                    faults.add(self.skeleton.at, found, accepted);
                    return faults.of(&self.file).map_or(Ok(()), Err);
                }
            }
        }
        Ok(())
    }

    fn admit(&self, request: &LayoutRequest) -> Result<(), LayoutError> {
        let LayoutRequest { input, classes, channels, cells, .. } = *request;
        if input.extent.rank() != self.rank {
            let found = format!("data of rank {}, {input}", input.extent.rank());
            return Err(refuse(found, format!("the space `{}` is for rank {}", self.name, self.rank)));
        }
        if let Some(fixed) = self.input.filter(|fixed| *fixed != input) {
            return Err(refuse(
                format!("data of shape {input}"),
                format!("the space `{}` fixes {fixed}", self.name),
            ));
        }
        if let Some(fixed) = self.classes.filter(|fixed| *fixed != classes) {
            return Err(refuse(
                format!("data of {classes} classes"),
                format!("the space `{}` fixes {fixed}", self.name),
            ));
        }
        admissible(input).map_err(|(found, accepted)| refuse(found, accepted))?;
        let bounded =
            [("classes", Some(classes), CLASSES), ("channels", channels, CHANNELS), ("cells", cells, CELLS)];
        for (what, number, range) in bounded {
            if let Some(number) = number.filter(|number| !range.contains(number)) {
                let accepted = format!("expected {} to {}", range.start(), range.end());
                return Err(refuse(format!("{number} {what}"), accepted));
            }
        }
        Ok(())
    }

    fn base_channels(&self, request: &LayoutRequest) -> usize {
        let trained = self.skeleton.train_channels.filter(|_| request.phase == Phase::Train);
        request.channels.or(trained).unwrap_or(self.skeleton.channels)
    }

    /// Cells per stage, entry cells included.
    fn depths(&self, request: &LayoutRequest) -> Result<Vec<usize>, LayoutError> {
        let stages = &self.skeleton.stages;
        let trained = self.skeleton.train_cells.filter(|_| request.phase == Phase::Train);
        let cells = request.cells.or(trained);
        let with_cells = stages.iter().filter(|stage| stage.cell.is_some()).count();
        let mut seen = 0;
        let mut depth = |stage: &Stage| match (stage.cell, self.skeleton.cells) {
            (None, _) => 0,
            (_, None) => cells.unwrap_or(stage.repeats),
            (_, Some(all)) => {
                let all = cells.unwrap_or(all);
                seen += 1;
                seen * all / with_cells - (seen - 1) * all / with_cells
            }
        };
        let depths: Vec<usize> = stages.iter().map(&mut depth).collect();
        let short = stages.iter().zip(&depths).any(|(stage, depth)| stage.cell.is_some() && *depth == 0);
        let total: usize = depths.iter().sum();
        if short {
            let found = format!("{total} cells for {with_cells} stages");
            return Err(refuse(found, "expected at least one cell for every stage"));
        }
        let largest = self.kinds.iter().map(CellKind::candidates).max().unwrap_or(0);
        if total > *CELLS.end() || total * largest > MOST_CANDIDATES {
            let found = format!("{total} cells of up to {largest} candidates");
            let accepted = format!("expected at most {} cells and {MOST_CANDIDATES} candidates", CELLS.end());
            return Err(refuse(found, accepted));
        }
        Ok(depths)
    }
}

impl CellKind {
    fn candidates(&self) -> usize {
        self.edges.iter().map(|edge| edge.candidates.len()).sum()
    }

    /// For every edge, its list of candidates among the kind's distinct ones, and its row among the list's edges.
    fn slots(&self) -> Vec<(usize, usize)> {
        let mut lists: Vec<(&[OpSpec], usize)> = Vec::new();
        let slot = |edge: &'_ crate::KindEdge, lists: &mut Vec<(&[OpSpec], usize)>| {
            let list = lists.iter().position(|(list, _)| *list == edge.candidates.as_slice())?;
            lists[list].1 += 1;
            Some((list, lists[list].1 - 1))
        };
        let mut slots = Vec::new();
        for edge in &self.edges {
            let found = slot(edge, &mut lists).unwrap_or_else(|| {
                lists.push((&edge.candidates, 1));
                (lists.len() - 1, 0)
            });
            slots.push(found);
        }
        slots
    }
}

pub(crate) fn refuse(found: impl Into<String>, accepted: impl Into<String>) -> LayoutError {
    LayoutError::Request { found: found.into(), accepted: accepted.into() }
}

/// A network under construction.
struct Planner<'a> {
    space: &'a Space,
    words: &'a dyn Vocabulary,
    norm: Norm,
    /// Requested width over the space's.
    scale: f64,
    /// The stem's output (the data where there is no stem), then every block's.
    sources: Vec<Shape>,
    blocks: Vec<Block>,
    /// First block of every stage.
    first_blocks: Vec<usize>,
    cells: usize,
    faults: Faults,
}

impl Planner<'_> {
    /// The output that feeds the next block if `back` is 1, the block after it if 2.
    fn source(&self, back: usize) -> Shape {
        self.sources[self.sources.len().saturating_sub(back)]
    }

    /// A width: absolute ones follow the network's scale; at most [`CHANNELS`], a multiple of `round_to`.
    fn width(&mut self, width: Width, before: usize, at: At) -> usize {
        let exact = match width {
            Width::Channels(channels) => channels as f64 * self.scale,
            Width::Times(1.0) => return before,
            Width::Times(factor) => before as f64 * factor,
        };
        let width = rounded(exact, self.space.skeleton.round_to);
        if !CHANNELS.contains(&width) {
            let accepted = format!("expected {} to {}", CHANNELS.start(), CHANNELS.end());
            self.faults.add(at, format!("a width of {width} channels"), accepted);
            return before;
        }
        width
    }

    fn site(&self, input: Shape, c_out: usize, stride: usize) -> Site {
        Site { extent: input.extent, c_in: input.channels, c_out, stride, norm: self.norm }
    }

    /// Records a fault at `at` if `op` cannot stand at `site`.
    fn check(&mut self, op: &OpSpec, site: &Site, at: At) {
        if let Err(error) = self.words.cost(op, site) {
            let found = format!("`{op}` from {} to {}: {}", site.input(), site.output(), error.found);
            self.faults.add(at, found, error.accepted);
        }
    }

    fn stem(&mut self, channels: usize, input: Shape) -> Option<(OpSpec, Site)> {
        let stem = self.space.skeleton.stem.as_ref()?;
        let c_out = self.width(stem.width, channels, stem.block.at);
        let site = self.site(input, c_out, stem.stride);
        self.check(&stem.block.op, &site, stem.block.at);
        self.sources[0] = site.output();
        Some((stem.block.op.clone(), site))
    }

    fn stage(&mut self, stage: &Stage, depth: usize, width: usize) {
        self.first_blocks.push(self.blocks.len());
        let mut repeats = depth;
        match &stage.entry {
            Entry::None => {}
            Entry::Cell(kind) => {
                self.cell(*kind, width, stage.stride);
                repeats -= 1; // a stage with an entry cell has at least that one
            }
            Entry::Block(block) => self.fixed(block, width, stage.stride),
        }
        for kind in stage.cell.into_iter().flat_map(|kind| std::iter::repeat_n(kind, repeats)) {
            self.cell(kind, width, 1);
        }
    }

    fn fixed(&mut self, block: &Placed, width: usize, stride: usize) {
        let site = self.site(self.source(1), width, stride);
        self.check(&block.op, &site, block.at);
        self.sources.push(site.output());
        self.blocks.push(Block::Fixed { op: block.op.clone(), site });
    }

    fn cell(&mut self, index: usize, width: usize, stride: usize) {
        let kind = &self.space.kinds[index];
        let inputs: Vec<CellInput> =
            (0..kind.inputs).map(|input| self.input(kind, kind.inputs - input, width)).collect();
        let extent = self.source(1).extent;
        let inner = Shape { extent: extent.strided(stride), channels: width };
        let edges = kind.edges.iter().map(|edge| {
            let from_input = inputs.get(edge.from).map(|input| Shape { extent, ..input.shape });
            let site = match from_input {
                Some(shape) => self.site(shape, width, stride),
                None => self.site(inner, width, 1),
            };
            for (op, at) in edge.candidates.iter().zip(&edge.places) {
                self.check(op, &site, *at);
            }
            let candidates = edge.candidates.clone();
            Edge {
                from: edge.from,
                to: edge.to,
                site,
                partial: 1,
                strength: 1.0,
                candidates,
                group: 0,
                row: 0,
            }
        });
        let edges = edges.collect();
        let shape = Shape { channels: width * kind.output.len(), ..inner };
        if shape.channels > MOST_CONCATENATED {
            let found = format!("an output of {} channels", shape.channels);
            self.faults.add(kind.at, found, format!("expected at most {MOST_CONCATENATED}"));
        }
        self.sources.push(shape);
        self.blocks.push(Block::Cell(Cell {
            kind: index,
            name: kind.name.clone(),
            index: self.cells,
            inputs,
            edges,
            nodes: kind.nodes,
            output: kind.output.clone(),
            shape,
            reduction: stride > 1,
        }));
        self.cells += 1;
    }

    /// One input of a cell, fitted to `width` and to the extent of the previous block where the kind preprocesses.
    fn input(&mut self, kind: &CellKind, back: usize, width: usize) -> CellInput {
        let (shape, wanted) = (self.source(back), self.source(1).extent);
        let fits = |stride: &usize| shape.extent.strided(*stride) == wanted;
        let (Some(stride), preprocess) = ((1..=8).find(fits), &kind.preprocess) else {
            return self.misfit(kind, back, shape, wanted);
        };
        match preprocess {
            None if stride > 1 => self.misfit(kind, back, shape, wanted),
            None => CellInput { back, preprocess: None, shape },
            Some(preprocess) => {
                let op = if stride > 1 { &preprocess.reduce } else { &preprocess.same };
                let site = self.site(shape, width, stride);
                self.check(op, &site, kind.at);
                CellInput { back, preprocess: Some((op.clone(), site)), shape: site.output() }
            }
        }
    }

    fn misfit(&mut self, kind: &CellKind, back: usize, shape: Shape, wanted: Extent) -> CellInput {
        let found = format!("inputs of `{}` of extents {} and {wanted}", kind.name, shape.extent);
        self.faults.add(kind.at, found, "expected equal extents, or `preprocess` to fit them");
        CellInput { back, preprocess: None, shape }
    }

    fn head(&mut self) -> Head {
        let (plan, input) = (&self.space.skeleton.head, self.source(1));
        let before_pool = plan.block.as_ref().map(|block| {
            let width = plan
                .channels
                .map_or(input.channels, |channels| self.width(Width::Channels(channels), 1, block.at));
            let site = self.site(input, width, 1);
            self.check(&block.op, &site, block.at);
            (block.op.clone(), site)
        });
        let features = before_pool.as_ref().map_or(input.channels, |(_, site)| site.c_out);
        Head { input, before_pool, dropout: plan.dropout, features }
    }

    fn auxiliary(&mut self, classes: usize) -> Option<Auxiliary> {
        let plan = self.space.skeleton.auxiliary.as_ref()?;
        let after = self.first_blocks[plan.stage];
        let site = self.site(self.sources[after + 1], classes, 1);
        self.check(&plan.block.op, &site, plan.block.at);
        Some(Auxiliary { after, op: plan.block.op.clone(), site, weight: plan.weight })
    }
}

/// The nearest multiple of `divisor`, at least one of it and never below nine tenths of `exact` (MobileNet's rule).
fn rounded(exact: f64, divisor: usize) -> usize {
    let step = divisor as f64;
    let nearest = ((exact / step + 0.5).floor() * step).max(step);
    (if nearest < 0.9 * exact { nearest + step } else { nearest }) as usize
}

/// Gathers the edges that share logits, first the shared kinds' in the space's order, then those of single cells in
/// the network's, and tells every edge its group and row.
fn group(kinds: &[CellKind], blocks: &mut [Block]) -> Vec<ChoiceGroup> {
    let slots: Vec<_> = kinds.iter().map(CellKind::slots).collect();
    let mut groups = BTreeMap::new();
    let key = |cell: &Cell, list| {
        let alone = kinds[cell.kind].per_cell;
        (alone, if alone { cell.index } else { cell.kind }, list)
    };
    for cell in blocks.iter().filter_map(Block::cell) {
        for (edge, (list, row)) in cell.edges.iter().zip(&slots[cell.kind]) {
            let group = groups.entry(key(cell, *list)).or_insert_with(|| new_group(cell, *list, kinds, edge));
            if *row == group.edges.len() {
                group.edges.push((edge.from, edge.to));
            }
        }
    }
    let index: BTreeMap<_, usize> = groups.keys().copied().zip(0..).collect();
    for cell in blocks.iter_mut().filter_map(Block::cell_mut) {
        let keys: Vec<_> =
            slots[cell.kind].iter().map(|(list, row)| (index[&key(cell, *list)], *row)).collect();
        for (edge, (group, row)) in cell.edges.iter_mut().zip(keys) {
            (edge.group, edge.row) = (group, row);
        }
    }
    groups.into_values().collect()
}

fn new_group(cell: &Cell, list: usize, kinds: &[CellKind], edge: &Edge) -> ChoiceGroup {
    let alone = kinds[cell.kind].per_cell.then_some(cell.index);
    let owner = alone.map_or(cell.name.clone(), |index| format!("{}@{index}", cell.name));
    let name = if list == 0 { owner } else { format!("{owner}.{list}") };
    ChoiceGroup {
        name,
        kind: cell.name.clone(),
        cell: alone,
        candidates: edge.candidates.clone(),
        edges: Vec::new(),
    }
}

impl Block {
    /// The cell, if this block is one.
    #[must_use]
    pub fn cell(&self) -> Option<&Cell> {
        match self {
            Self::Cell(cell) => Some(cell),
            Self::Fixed { .. } => None,
        }
    }

    pub(crate) fn cell_mut(&mut self) -> Option<&mut Cell> {
        match self {
            Self::Cell(cell) => Some(cell),
            Self::Fixed { .. } => None,
        }
    }

    /// Shape of the output.
    #[must_use]
    pub fn shape(&self) -> Shape {
        match self {
            Self::Cell(cell) => cell.shape,
            Self::Fixed { site, .. } => site.output(),
        }
    }
}
