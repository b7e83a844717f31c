//! Whether data can reach the logits.

use crate::{Block, Cell, Layout};

impl Layout {
    /// The cells without a path from any input to the output, by index. Of a child that is a collapse to report.
    #[must_use]
    pub fn disconnected(&self) -> Vec<usize> {
        self.cells().filter(|cell| !cell.passes(|_| true)).map(|cell| cell.index).collect()
    }

    /// Whether a path leads from the data to the head. A cell of two inputs can bridge a disconnected one.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        let mut alive = vec![true]; // the stem, then every block
        for block in &self.blocks {
            let source = |back: usize| alive[alive.len().saturating_sub(back)];
            let passes = match block {
                Block::Fixed { .. } => source(1),
                Block::Cell(cell) => cell.passes(|input| source(cell.inputs[input].back)),
            };
            alive.push(passes);
        }
        alive.last().copied().unwrap_or(true)
    }
}

impl Cell {
    /// Whether a path leads from an input that is `alive` to the output.
    fn passes(&self, alive: impl Fn(usize) -> bool) -> bool {
        let mut reached: Vec<bool> = (0..self.inputs.len()).map(alive).collect();
        reached.resize(self.inputs.len() + self.nodes, false);
        for edge in &self.edges {
            let carries = edge.candidates.iter().any(|op| !op.is_none());
            reached[edge.to] |= carries && reached[edge.from];
        }
        self.output.iter().any(|node| reached[*node])
    }
}
