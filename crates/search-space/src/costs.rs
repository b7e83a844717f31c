//! Exact costs of a layout, and of its cheapest and dearest child.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{Block, Cell, Cost, Edge, Layout, OpSpec, Rule, Site, Vocabulary, WordError};

/// Costs of a space at one shape of data. Logits and the auxiliary head are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Costs {
    /// Every candidate of every edge.
    pub supernet: Cost,
    /// The smallest child, quantity by quantity: the child of fewest weights need not be that of fewest operations.
    pub min: Cost,
    /// The largest child, quantity by quantity.
    pub max: Cost,
}

/// The quantities of a [`Cost`], in the order of its fields.
type Quantities = [u64; 4];

impl Layout {
    /// The cost of everything present: stem, preprocessing, fixed blocks, head, and all candidates of all edges. Of a
    /// child that is the child's cost; of a supernet, the supernet's.
    ///
    /// # Errors
    /// An operation that `words` does not know, or refuses at its site.
    pub fn cost(&self, words: &dyn Vocabulary) -> Result<Cost, WordError> {
        let edges = self.cells().flat_map(|cell| &cell.edges);
        let candidates = edges.flat_map(|edge| edge.candidates.iter().map(|op| words.cost(op, &edge.site)));
        let bypasses: Cost = self.cells().flat_map(|cell| &cell.edges).map(Edge::bypass_cost).sum();
        Ok(self.fixed_cost(words)? + bypasses + candidates.sum::<Result<Cost, _>>()?)
    }

    /// The costs of the supernet and of the smallest and the largest child that `rule` can derive.
    ///
    /// Norm and bias are those of the layout's phase: a child that is trained from scratch is counted on a layout of
    /// [`Phase::Train`](crate::Phase::Train).
    ///
    /// # Errors
    /// As [`Layout::cost`].
    pub fn costs(&self, words: &dyn Vocabulary, rule: Rule) -> Result<Costs, WordError> {
        let fixed = self.fixed_cost(words)?;
        let choices = self.choice_costs(words)?;
        let (mut min, mut max) = (quantities(fixed), quantities(fixed));
        for node in self.nodes_with_choices() {
            for quantity in 0..4 {
                let edges = node.iter().map(|row| extremes(&choices[row], quantity, rule));
                let (mut lows, mut highs): (Vec<u64>, Vec<u64>) = edges.unzip();
                lows.sort_unstable();
                highs.sort_unstable_by(|a, b| b.cmp(a));
                min[quantity] += lows.iter().take(kept(rule, node.len())).sum::<u64>();
                max[quantity] += highs.iter().take(kept(rule, node.len())).sum::<u64>();
            }
        }
        Ok(Costs { supernet: self.cost(words)?, min: cost(min), max: cost(max) })
    }

    /// The cells, in order.
    pub fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.blocks.iter().filter_map(Block::cell)
    }

    /// Whatever is there under any choice.
    fn fixed_cost(&self, words: &dyn Vocabulary) -> Result<Cost, WordError> {
        let preprocess =
            self.cells().flat_map(|cell| cell.inputs.iter().filter_map(|input| input.preprocess.as_ref()));
        let blocks = self.blocks.iter().filter_map(|block| match block {
            Block::Fixed { op, site } => Some((op, site)),
            Block::Cell(_) => None,
        });
        let pairs = self.stem.iter().chain(preprocess).map(|(op, site)| (op, site));
        let standing: Cost =
            pairs.chain(blocks).map(|(op, site)| words.cost(op, site)).sum::<Result<_, _>>()?;
        Ok(standing + self.head_cost(words)?)
    }

    /// Of what stands behind the last block: a fixed operation, where there is one, and the linear layer.
    ///
    /// # Errors
    /// As [`Layout::cost`].
    pub fn head_cost(&self, words: &dyn Vocabulary) -> Result<Cost, WordError> {
        let (features, classes) = (self.head.features as u64, self.classes as u64);
        let linear = Cost {
            params: features * classes + classes,
            macs: features * classes,
            saved: features,
            output: classes,
        };
        let before_pool = self.head.before_pool.as_ref().map(|(op, site)| words.cost(op, site));
        Ok(linear + before_pool.transpose()?.unwrap_or_default())
    }

    /// For every row of every group, the cost of each candidate in all the cells that share the row.
    fn choice_costs(
        &self,
        words: &dyn Vocabulary,
    ) -> Result<BTreeMap<(usize, usize), Vec<Choice>>, WordError> {
        let mut choices: BTreeMap<_, Vec<Choice>> = BTreeMap::new();
        for edge in self.cells().flat_map(|cell| &cell.edges).filter(|_| !self.groups.is_empty()) {
            let costs = edge.costs(words)?;
            match choices.entry((edge.group, edge.row)) {
                std::collections::btree_map::Entry::Vacant(entry) => _ = entry.insert(costs),
                std::collections::btree_map::Entry::Occupied(entry) => {
                    entry.into_mut().iter_mut().zip(costs).for_each(|(sum, more)| sum.add(&more));
                }
            }
        }
        Ok(choices)
    }

    /// The rows `(group, row)` of the edges that lead into the same node, node by node.
    #[must_use]
    pub fn nodes_with_choices(&self) -> Vec<Vec<(usize, usize)>> {
        let mut nodes: BTreeMap<_, Vec<(usize, usize)>> = BTreeMap::new();
        for (index, group) in self.groups.iter().enumerate() {
            for (row, (_, to)) in group.edges.iter().enumerate() {
                nodes.entry((&group.kind, group.cell, to)).or_default().push((index, row));
            }
        }
        nodes.into_values().collect()
    }
}

/// One candidate on one row.
struct Choice {
    none: bool,
    cost: Quantities,
}

impl Choice {
    fn add(&mut self, more: &Self) {
        self.cost.iter_mut().zip(more.cost).for_each(|(sum, more)| *sum += more);
    }
}

impl Edge {
    fn costs(&self, words: &dyn Vocabulary) -> Result<Vec<Choice>, WordError> {
        let choice = |op: &OpSpec, site: &Site| {
            Ok(Choice { none: op.is_none(), cost: quantities(words.cost(op, site)?) })
        };
        self.candidates.iter().map(|op| choice(op, &self.site)).collect()
    }
}

/// The least and the most of one quantity that an edge can cost where it is kept.
fn extremes(choices: &[Choice], quantity: usize, rule: Rule) -> (u64, u64) {
    let legal = choices.iter().filter(|choice| !(choice.none && drops_none(rule)));
    let costs = legal.map(|choice| choice.cost[quantity]);
    (costs.clone().min().unwrap_or(0), costs.max().unwrap_or(0))
}

/// How many of a node's `edges` a child keeps.
pub(crate) fn kept(rule: Rule, edges: usize) -> usize {
    match rule {
        Rule::Top { inputs } => inputs.min(edges),
        Rule::Argmax | Rule::Sampled { .. } => edges,
    }
}

pub(crate) fn drops_none(rule: Rule) -> bool {
    matches!(rule, Rule::Top { .. })
}

fn quantities(cost: Cost) -> Quantities {
    [cost.params, cost.macs, cost.saved, cost.output]
}

fn cost([params, macs, saved, output]: Quantities) -> Cost {
    Cost { params, macs, saved, output }
}
