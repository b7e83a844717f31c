//! From probabilities to a decision: pure functions.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use search_space::{Block, Cell, CellGenotype, Chosen, Genotype, Layout, Vocabulary};

use crate::Error;

/// Probabilities `π`, by group, row and candidate.
pub type Probabilities = [Vec<Vec<f64>>];

/// What every edge got, by group and row: a candidate's index, or nothing where the edge is dropped.
pub type Choices = Vec<Vec<Option<usize>>>;

/// A genotype, and the cells of the network through which nothing flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The architecture.
    pub genotype: Genotype,
    /// Indices of the cells without a path from an input to the output; such a child learns nothing.
    pub disconnected: Vec<usize>,
}

impl Decision {
    /// The genotype, if it makes a network.
    ///
    /// # Errors
    /// [`Error::Disconnected`] names the cells without a path.
    pub fn connected(self) -> Result<Genotype, Error> {
        if self.disconnected.is_empty() {
            Ok(self.genotype)
        } else {
            Err(Error::Disconnected { cells: self.disconnected })
        }
    }
}

/// Keeps every edge's likeliest candidate, `none` included: the rule of NAS-Bench-201. The lowest index wins ties.
#[must_use]
pub fn argmax(probabilities: &Probabilities) -> Choices {
    probabilities.iter().map(|rows| rows.iter().map(|row| best(row, |_| true)).collect()).collect()
}

/// Keeps the `inputs` strongest edges into every node, each with its likeliest candidate but `none`: the rule of
/// DARTS (Liu et al., 2019, §2.4), with 2.
///
/// An edge is as strong as its likeliest candidate that is not `none`; `none` takes its part of the probability and can
/// never be chosen. The lower edge, and the lower candidate, win ties. Edges come from distinct nodes, since between
/// two nodes there is one edge at most.
#[must_use]
pub fn top(layout: &Layout, probabilities: &Probabilities, inputs: usize) -> Choices {
    let mut choices: Choices = layout.groups.iter().map(|group| vec![None; group.edges.len()]).collect();
    for cell in choosers(layout) {
        for node in cell.inputs.len()..cell.inputs.len() + cell.nodes {
            let mut edges: Vec<(f64, usize, usize, usize)> = cell
                .edges
                .iter()
                .filter(|edge| edge.to == node)
                .filter_map(|edge| {
                    let row = &probabilities[edge.group][edge.row];
                    let k = best(row, |k| !edge.candidates[k].is_none())?;
                    Some((row[k], edge.group, edge.row, k))
                })
                .collect();
            edges.sort_by(|a, b| b.0.total_cmp(&a.0)); // stable
            for (_, group, row, k) in edges.into_iter().take(inputs) {
                choices[group][row] = Some(k);
            }
        }
    }
    choices
}

/// Draws one architecture: every edge a candidate with its probability.
#[must_use]
pub fn draw(probabilities: &Probabilities, rng: &mut ChaCha8Rng) -> Choices {
    let mut one = |row: &Vec<f64>| {
        let mut left = rng.random::<f64>() * row.iter().sum::<f64>();
        let hit = row.iter().position(|p| {
            left -= p;
            left < 0.0
        });
        hit.or_else(|| best(row, |_| true)) // rounding left nothing: practically never
    };
    probabilities.iter().map(|rows| rows.iter().map(&mut one).collect()).collect()
}

/// Writes choices down as a genotype: one entry per cell kind, or per cell where every
/// cell chooses for itself, in the space's order.
#[must_use]
pub fn genotype(layout: &Layout, choices: &Choices) -> Genotype {
    let cells = choosers(layout).into_iter().map(|cell| CellGenotype {
        kind: cell.name.clone(),
        cell: per_cell(layout, cell).then_some(cell.index),
        edges: cell
            .edges
            .iter()
            .filter_map(|edge| {
                let op = edge.candidates[choices[edge.group][edge.row]?].label.clone();
                Some(Chosen { from: edge.from, to: edge.to, op })
            })
            .collect(),
        output: cell.output.clone(),
    });
    Genotype { version: Genotype::VERSION, space: layout.space.clone(), cells: cells.collect() }
}

/// The share of edges whose choice costs no weights where it stands, `none` among them, in [0, 1]: a search that
/// collapses shows it here first.
#[must_use]
pub fn parameter_free(layout: &Layout, choices: &Choices, words: &dyn Vocabulary) -> f64 {
    free_share(choosers(layout), choices, words)
}

/// The same of one kind of cell.
#[must_use]
pub fn parameter_free_in(kind: &str, layout: &Layout, choices: &Choices, words: &dyn Vocabulary) -> f64 {
    free_share(choosers(layout).into_iter().filter(|cell| cell.name == kind), choices, words)
}

fn free_share<'l>(
    cells: impl IntoIterator<Item = &'l Cell>,
    choices: &Choices,
    words: &dyn Vocabulary,
) -> f64 {
    let free: Vec<bool> = cells
        .into_iter()
        .flat_map(|cell| &cell.edges)
        .filter_map(|edge| {
            let op = &edge.candidates[choices[edge.group][edge.row]?];
            Some(words.cost(op, &edge.site).is_ok_and(|cost| cost.params == 0))
        })
        .collect();
    free.iter().filter(|free| **free).count() as f64 / free.len().max(1) as f64
}

/// One cell for every set of logits: the first of each kind, or each that has its own; in the space's order.
fn choosers(layout: &Layout) -> Vec<&Cell> {
    let mut cells: Vec<&Cell> = Vec::new();
    for block in &layout.blocks {
        let Block::Cell(cell) = block else { continue };
        if per_cell(layout, cell) || cells.iter().all(|known| known.kind != cell.kind) {
            cells.push(cell);
        }
    }
    cells.sort_by_key(|cell| (cell.kind, cell.index));
    cells
}

fn per_cell(layout: &Layout, cell: &Cell) -> bool {
    cell.edges.first().is_some_and(|edge| layout.groups[edge.group].cell.is_some())
}

/// The first of the largest among the indices that are `legal`.
fn best(row: &[f64], legal: impl Fn(usize) -> bool) -> Option<usize> {
    (0..row.len()).filter(|&k| legal(k)).reduce(|best, k| if row[k] > row[best] { k } else { best })
}

#[cfg(test)]
mod tests;
