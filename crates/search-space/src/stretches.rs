//! A network read from front to back, runs of equal blocks taken together.

use crate::{Block, Cell, Cost, Edge, Layout, Shape, Vocabulary, WordError};

/// Blocks of one kind and one output shape that follow one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// How many there are.
    pub count: usize,
    /// What each is: `stem conv_norm_3x3`, `cell normal`, `residual_block`.
    pub what: String,
    /// Output of each, of one example.
    pub shape: Shape,
    /// Of all of them; of a supernet with every candidate.
    pub cost: Cost,
}

impl Layout {
    /// Stem and blocks in their order, the head left out; with [`Layout::head_cost`] they cost what [`Layout::cost`] says.
    ///
    /// # Errors
    /// As [`Layout::cost`].
    pub fn stretches(&self, words: &dyn Vocabulary) -> Result<Vec<Stretch>, WordError> {
        let stem = self
            .stem
            .iter()
            .map(|(op, site)| Ok((format!("stem {op}"), site.output(), words.cost(op, site)?)));
        let blocks = self.blocks.iter().map(|block| match block {
            Block::Cell(cell) => Ok((format!("cell {}", cell.name), cell.shape, cell.cost(words)?)),
            Block::Fixed { op, site } => Ok((op.to_string(), site.output(), words.cost(op, site)?)),
        });
        let mut stretches: Vec<Stretch> = Vec::new();
        for block in stem.chain(blocks) {
            let (what, shape, cost) = block?;
            match stretches.last_mut() {
                Some(last) if (&last.what, last.shape) == (&what, shape) => {
                    (last.count, last.cost) = (last.count + 1, last.cost + cost);
                }
                _ => stretches.push(Stretch { count: 1, what, shape, cost }),
            }
        }
        Ok(stretches)
    }
}

impl Cell {
    /// Of its inputs' preprocessing and of every candidate of every edge.
    fn cost(&self, words: &dyn Vocabulary) -> Result<Cost, WordError> {
        let inputs = self.inputs.iter().filter_map(|input| input.preprocess.as_ref());
        let inputs = inputs.map(|(op, site)| words.cost(op, site));
        let edges = self.edges.iter().flat_map(|edge| edge.candidates.iter().map(move |op| (op, &edge.site)));
        let edges = edges.map(|(op, site)| words.cost(op, site));
        let bypasses: Cost = self.edges.iter().map(Edge::bypass_cost).sum();
        Ok(bypasses + inputs.chain(edges).sum::<Result<Cost, _>>()?)
    }
}
