//! A derived network told to programs that run it elsewhere.

use ops::{Op, ParamStore, Sketch};
use search_space::{Block, Layout};

use crate::{
    Error, Network, Place,
    graph::{Built, Graph, edge_place},
};

/// A derived network in evaluation: its layout, and what every operation computes. Plain values, no tensors.
///
/// How blocks, nodes and edges are wired is said by [`Blueprint::layout`]; the auxiliary head is left out, since it
/// only helps training.
#[derive(Clone, Debug, PartialEq)]
pub struct Blueprint {
    /// The plan; every edge has one candidate.
    pub layout: Layout,
    /// The first operation.
    pub stem: Option<Sketch>,
    /// One entry per block of the layout.
    pub blocks: Vec<BlockSketch>,
    /// From the last map to the logits.
    pub head: Sketch,
}

/// What the operations of one block compute.
#[derive(Clone, Debug, PartialEq)]
pub enum BlockSketch {
    /// A fixed operation.
    Fixed(Sketch),
    /// A cell.
    Cell {
        /// The preprocessing of each input.
        inputs: Vec<Sketch>,
        /// Each edge, in the layout's order.
        edges: Vec<Sketch>,
    },
}

impl Network {
    /// The network as a blueprint, under the names that `params` gives its weights.
    ///
    /// # Errors
    /// An operation can be run here only.
    pub fn blueprint(&self, params: &ParamStore) -> Result<Blueprint, Error> {
        let Graph { layout, stem, blocks, before_pool, classifier, .. } = &self.graph;
        let before_pool = optional(before_pool, Place::Head, params)?;
        let mut sketches = Vec::with_capacity(blocks.len());
        for (index, (built, block)) in blocks.iter().zip(&layout.blocks).enumerate() {
            sketches.push(of_block(index, built, block, params)?);
        }
        Ok(Blueprint {
            stem: stem.as_ref().map(|op| of(op.as_ref(), Place::Stem, params)).transpose()?,
            blocks: sketches,
            head: before_pool.then(of(classifier, Place::Head, params)?),
            layout: layout.clone(),
        })
    }
}

fn of_block(index: usize, built: &Built, block: &Block, params: &ParamStore) -> Result<BlockSketch, Error> {
    match (built, block) {
        (Built::Cell { preprocess, edges }, Block::Cell(cell)) => {
            let input = |(input, op): (usize, &Option<Box<dyn Op>>)| {
                optional(op, Place::Input { cell: (cell.index, cell.name.clone()), input }, params)
            };
            let inputs = preprocess.iter().enumerate().map(input).collect::<Result<_, _>>()?;
            let edge = |(edge, built): (&search_space::Edge, &Vec<Option<Box<dyn Op>>>)| {
                let place = edge.candidates.first().map_or(Place::Head, |op| edge_place(cell, edge, op));
                if edge.partial > 1 || edge.strength != 1.0 {
                    return Err(Error::OfASupernet(place));
                }
                let op = built.first().and_then(Option::as_ref);
                op.map_or_else(
                    || Err(Error::NotToldOf(place.clone())),
                    |op| of(op.as_ref(), place.clone(), params),
                )
            };
            let edges = cell.edges.iter().zip(edges).map(edge).collect::<Result<_, _>>()?;
            Ok(BlockSketch::Cell { inputs, edges })
        }
        (Built::Fixed(op), _) => Ok(BlockSketch::Fixed(of(op.as_ref(), Place::Block(index), params)?)),
        (Built::Cell { .. }, Block::Fixed { .. }) => unreachable!("a graph is built block by block"),
    }
}

fn optional(op: &Option<Box<dyn Op>>, place: Place, params: &ParamStore) -> Result<Sketch, Error> {
    op.as_ref().map_or_else(|| Ok(Sketch::identity()), |op| of(op.as_ref(), place, params))
}

fn of(op: &dyn Op, place: Place, params: &ParamStore) -> Result<Sketch, Error> {
    op.sketch(params).ok_or(Error::NotToldOf(place))
}
