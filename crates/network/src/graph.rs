//! A layout built: one operation for every candidate that is something.

use ops::{
    Catalog, Op, ParamBuilder,
    layers::{Classifier, classifier},
};
use search_space::{Block, Cell, Edge, Layout, OpSpec, Site};

use crate::{Error, Place};

/// Every operation of a layout, in the order in which the walk meets them.
pub(crate) struct Graph {
    pub(crate) layout: Layout,
    pub(crate) stem: Option<Box<dyn Op>>,
    pub(crate) blocks: Vec<Built>,
    pub(crate) before_pool: Option<Box<dyn Op>>,
    pub(crate) classifier: Classifier,
    pub(crate) auxiliary: Option<Box<dyn Op>>,
}

/// A block of the layout, built.
pub(crate) enum Built {
    Fixed(Box<dyn Op>),
    Cell {
        /// Per input.
        preprocess: Vec<Option<Box<dyn Op>>>,
        /// Per edge and candidate; `none` is the absence of an operation.
        edges: Vec<Vec<Option<Box<dyn Op>>>>,
    },
}

/// An input of the cell that a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Input {
    pub(crate) block: usize,
    pub(crate) index: usize,
}

impl Input {
    /// What it reads: 0 is the stem's output, `i + 1` that of block `i`.
    pub(crate) fn source(self, cell: &Cell) -> usize {
        (self.block + 1).saturating_sub(cell.inputs[self.index].back)
    }

    /// All that read an output, in the order in which cells come.
    pub(crate) fn readers(layout: &Layout, source: usize) -> impl Iterator<Item = (Self, &Cell)> {
        // A cell looks back two blocks at most.
        let blocks = layout.blocks.iter().enumerate().skip(source).take(2);
        let inputs = blocks.flat_map(|(block, what)| {
            let cell = if let Block::Cell(cell) = what { Some(cell) } else { None };
            cell.into_iter()
                .flat_map(move |cell| (0..cell.inputs.len()).map(move |index| (Self { block, index }, cell)))
        });
        inputs.filter(move |(input, cell)| input.source(cell) == source)
    }
}

impl Graph {
    /// What prepares an output for cells, in the order in which these come.
    pub(crate) fn readers(&self, source: usize) -> impl Iterator<Item = (Input, &dyn Op)> {
        Input::readers(&self.layout, source).filter_map(|(input, _)| match &self.blocks[input.block] {
            Built::Cell { preprocess, .. } => Some((input, preprocess[input.index].as_deref()?)),
            Built::Fixed(_) => None,
        })
    }

    /// Builds everything; weights are named by place, so that a child finds its parent's.
    pub(crate) fn build(
        layout: Layout,
        catalog: &Catalog,
        params: &mut ParamBuilder<'_>,
    ) -> Result<Self, Error> {
        let stem = optional(catalog, &layout.stem, Place::Stem, &mut params.scope("stem"))?;
        let mut blocks = Vec::with_capacity(layout.blocks.len());
        for (index, block) in layout.blocks.iter().enumerate() {
            blocks.push(match block {
                Block::Fixed { op, site } => {
                    let scope = &mut params.scope(format!("blocks.{index}"));
                    Built::Fixed(build(catalog, op, site, Place::Block(index), scope)?)
                }
                Block::Cell(cell) => {
                    build_cell(catalog, cell, &mut params.scope(format!("cells.{}", cell.index)))?
                }
            });
        }
        let head = &mut params.scope("head");
        let before_pool = optional(catalog, &layout.head.before_pool, Place::Head, head)?;
        let classifier = classifier(head, layout.head.features, layout.classes, layout.head.dropout)?;
        let auxiliary = match &layout.auxiliary {
            None => None,
            Some(aux) => {
                Some(build(catalog, &aux.op, &aux.site, Place::Auxiliary, &mut params.scope("auxiliary"))?)
            }
        };
        Ok(Self { layout, stem, blocks, before_pool, classifier, auxiliary })
    }
}

/// Where an edge's candidate stands.
pub(crate) fn edge_place(cell: &Cell, edge: &Edge, op: &OpSpec) -> Place {
    Place::Edge { cell: (cell.index, cell.name.clone()), from: edge.from, to: edge.to, op: op.label.clone() }
}

fn build_cell(catalog: &Catalog, cell: &Cell, params: &mut ParamBuilder<'_>) -> Result<Built, Error> {
    let mut preprocess = Vec::with_capacity(cell.inputs.len());
    for (index, input) in cell.inputs.iter().enumerate() {
        let place = Place::Input { cell: (cell.index, cell.name.clone()), input: index };
        preprocess.push(optional(
            catalog,
            &input.preprocess,
            place,
            &mut params.scope(format!("input_{index}")),
        )?);
    }
    let mut edges = Vec::with_capacity(cell.edges.len());
    for edge in &cell.edges {
        let mut candidates = Vec::with_capacity(edge.candidates.len());
        for op in &edge.candidates {
            let scope = &mut params.scope(format!("edge_{}_{}.{}", edge.from, edge.to, op.label));
            candidates.push(match op.is_none() {
                true => None,
                false => Some(build(catalog, op, &edge.site, edge_place(cell, edge, op), scope)?),
            });
        }
        edges.push(candidates);
    }
    Ok(Built::Cell { preprocess, edges })
}

fn optional(
    catalog: &Catalog,
    what: &Option<(OpSpec, Site)>,
    place: Place,
    params: &mut ParamBuilder<'_>,
) -> Result<Option<Box<dyn Op>>, Error> {
    what.as_ref().map(|(op, site)| build(catalog, op, site, place, params)).transpose()
}

fn build(
    catalog: &Catalog,
    op: &OpSpec,
    site: &Site,
    place: Place,
    params: &mut ParamBuilder<'_>,
) -> Result<Box<dyn Op>, Error> {
    catalog.build(op, site, params).map_err(|source| Error::Build { place, source: Box::new(source) })
}
