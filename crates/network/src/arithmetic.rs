//! What a step costs: the walk there and back, with multiply-accumulates in place of tensors.

use controller::Paths;
use search_space::{Block, Cell, Edge, Layout, OpSpec, Site, Vocabulary, WordError};

use crate::{Purpose, backward::Wanted};

/// Multiply-accumulates that a pass and its walk back execute for one example, in convolutions and linear layers.
///
/// An operation of `m` multiply-accumulates costs `m` forward, `m` more where its input's gradient is needed and `m` more
/// in a weight step. What is left out counts nothing: the images' gradient, everything below the first choice in an
/// architecture step, nodes that no gradient reaches. A probed candidate (`gumbel-st`) costs its forward. `paths` has
/// one entry per group of `layout`. The auxiliary head is not counted.
///
/// # Errors
/// An operation that `words` does not know, or refuses at its site.
pub fn arithmetic(
    layout: &Layout,
    words: &dyn Vocabulary,
    paths: &[Paths],
    purpose: Purpose,
) -> Result<u64, WordError> {
    let wanted = Wanted::of(layout, purpose);
    let n_blocks = layout.blocks.len();
    let mut count = Count { words, purpose, macs: 0 };
    let walks_back = purpose != Purpose::Evaluate;
    let need = wanted.0[n_blocks];
    count.linear(layout, walks_back, need || layout.head.before_pool.is_some());
    let mut arrives = vec![false; n_blocks + 1];
    arrives[n_blocks] = need;
    if let Some((op, site)) = &layout.head.before_pool {
        count.op(op, site, walks_back, need)?;
    }
    for (index, block) in layout.blocks.iter().enumerate().rev() {
        match block {
            Block::Fixed { op, site } => {
                count.op(op, site, arrives[index + 1], wanted.0[index])?;
                arrives[index] |= arrives[index + 1] && wanted.0[index];
            }
            Block::Cell(cell) => {
                let back = |input: usize| (index + 1).saturating_sub(cell.inputs[input].back);
                let need: Vec<bool> = (0..cell.inputs.len()).map(|i| wanted.0[back(i)]).collect();
                let reached = count.cell(cell, paths, arrives[index + 1], &need)?;
                reached.into_iter().enumerate().for_each(|(i, reached)| arrives[back(i)] |= reached);
            }
        }
    }
    if let Some((op, site)) = &layout.stem {
        count.op(op, site, arrives[0], false)?;
    }
    Ok(count.macs)
}

struct Count<'a> {
    words: &'a dyn Vocabulary,
    purpose: Purpose,
    macs: u64,
}

impl Count<'_> {
    /// One operation's forward; and, where a gradient `arrives`, what of its backward is needed.
    fn op(&mut self, op: &OpSpec, site: &Site, arrives: bool, need: bool) -> Result<(), WordError> {
        let weights = matches!(self.purpose, Purpose::Weights | Purpose::Joint);
        let passes = 1 + u64::from(arrives && need) + u64::from(arrives && weights);
        self.macs += passes * self.words.cost(op, site)?.macs;
        Ok(())
    }

    fn linear(&mut self, layout: &Layout, arrives: bool, need: bool) {
        let weights = matches!(self.purpose, Purpose::Weights | Purpose::Joint);
        let passes = 1 + u64::from(arrives && need) + u64::from(arrives && weights);
        self.macs += passes * (layout.head.features * layout.classes) as u64;
    }

    /// Which of the cell's inputs a gradient leaves by.
    fn cell(
        &mut self,
        cell: &Cell,
        paths: &[Paths],
        arrives: bool,
        need: &[bool],
    ) -> Result<Vec<bool>, WordError> {
        let n_inputs = cell.inputs.len();
        let weights = matches!(self.purpose, Purpose::Weights | Purpose::Joint);
        let mut reached = vec![false; n_inputs + cell.nodes];
        cell.output.iter().for_each(|&node| reached[node] = arrives);
        for edge in cell.edges.iter().rev() {
            let at_input = || need[edge.from] || (cell.inputs[edge.from].preprocess.is_some() && weights);
            let need = edge.from >= n_inputs || at_input();
            let carries = self.edge(edge, &paths[edge.group], reached[edge.to], need)?;
            reached[edge.from] |= carries;
        }
        for (i, input) in cell.inputs.iter().enumerate() {
            if let Some((op, site)) = &input.preprocess {
                self.op(op, site, reached[i], need[i])?;
            }
        }
        Ok((0..n_inputs).map(|i| reached[i] && need[i]).collect())
    }

    /// Whether the edge carries a gradient on to where it comes from.
    fn edge(&mut self, edge: &Edge, paths: &Paths, arrives: bool, need: bool) -> Result<bool, WordError> {
        let mut carries = arrives && need && edge.bypass().is_some();
        for (k, op) in edge.candidates.iter().enumerate().filter(|(_, op)| !op.is_none()) {
            let (runs, back, compared) = match paths {
                Paths::Single(chosen) => (chosen[edge.row] == k, chosen[edge.row] == k, true),
                Paths::Pair(pairs) => {
                    (pairs[edge.row][0] == k, pairs[edge.row][0] == k, pairs[edge.row][1] == k)
                }
                Paths::Weighted(rows) => (true, rows[edge.row][k] != 0.0, false),
            };
            if runs {
                self.op(op, &edge.site, arrives && back, need)?;
                carries |= arrives && back && need;
            } else if arrives && compared && self.purpose.probes() {
                self.macs += self.words.cost(op, &edge.site)?.macs;
            }
        }
        Ok(carries)
    }
}
