//! What is drawn of a cell: boxes and links between them.

use std::collections::BTreeSet;

use search_space::CellGenotype;

use crate::Error;

/// A cell as boxes and links; links run from lower to higher indices.
#[derive(Debug)]
pub(crate) struct Graph<'a> {
    pub(crate) boxes: Vec<NodeBox>,
    pub(crate) links: Vec<Link<'a>>,
}

/// One box.
#[derive(Debug)]
pub(crate) struct NodeBox {
    pub(crate) text: String,
    /// Set below the line, after the text.
    pub(crate) subscript: &'static str,
    pub(crate) role: Role,
}

/// What a box stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Input,
    Inner,
    Output,
}

/// One arrow: an operation, or (without one) a share of the concatenated output.
#[derive(Debug)]
pub(crate) struct Link<'a> {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) op: Option<&'a str>,
}

impl<'a> Graph<'a> {
    /// Reads the boxes off a cell's edges: nodes below the first target are inputs.
    pub(crate) fn of(cell: &'a CellGenotype) -> Result<Self, Error> {
        if let Some(edge) = cell.edges.iter().find(|edge| edge.from >= edge.to) {
            return Err(Error::Backward { kind: cell.kind.clone(), from: edge.from, to: edge.to });
        }
        let inputs = n_inputs(cell);
        let nodes = nodes(cell, inputs);
        let index = |node: usize| nodes.iter().position(|&n| n == node).expect("every node was collected");
        let merged = merged_output(cell, inputs);
        let mut boxes: Vec<_> = nodes.iter().map(|&node| node_box(node, inputs, merged)).collect();
        let mut links: Vec<_> = (cell.edges.iter())
            .map(|edge| Link { from: index(edge.from), to: index(edge.to), op: Some(&*edge.op) })
            .collect();
        if merged.is_none() {
            let out = boxes.len();
            boxes.push(output_box(inputs));
            links.extend(cell.output.iter().map(|&node| Link { from: index(node), to: out, op: None }));
        }
        Ok(Self { boxes, links })
    }
}

/// The nodes below the first target; a cell without edges has one input.
pub(crate) fn n_inputs(cell: &CellGenotype) -> usize {
    cell.edges.iter().map(|edge| edge.to).min().unwrap_or(1)
}

/// Every node that is named, and the inputs nobody reads (a few: a hostile file names none it does not have).
fn nodes(cell: &CellGenotype, inputs: usize) -> Vec<usize> {
    let named = cell.edges.iter().flat_map(|edge| [edge.from, edge.to]).chain(cell.output.iter().copied());
    named.chain(0..inputs.min(4)).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The last node where it alone is the output: then its box says so, and needs no other.
fn merged_output(cell: &CellGenotype, inputs: usize) -> Option<usize> {
    let [node] = cell.output[..] else { return None };
    (node >= inputs && cell.edges.iter().all(|edge| edge.from != node)).then_some(node)
}

fn node_box(node: usize, inputs: usize, output: Option<usize>) -> NodeBox {
    let (text, subscript, role) = match (node, inputs) {
        _ if output == Some(node) => return output_box(inputs),
        (0, 1) => ("input".to_owned(), "", Role::Input),
        (0, 2) => ("c".to_owned(), "k−2", Role::Input),
        (1, 2) => ("c".to_owned(), "k−1", Role::Input),
        _ if node < inputs => (format!("input {node}"), "", Role::Input),
        _ => (node.to_string(), "", Role::Inner),
    };
    NodeBox { text, subscript, role }
}

fn output_box(inputs: usize) -> NodeBox {
    let (text, subscript) = if inputs == 2 { ("c", "k") } else { ("output", "") };
    NodeBox { text: text.to_owned(), subscript, role: Role::Output }
}
