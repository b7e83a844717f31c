//! Weights of the fixtures' networks by their names there.

use search_space::{Block, Layout};

/// The fixture's name of every weight of ours.
pub(crate) fn fixture_name(layout: &Layout, name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        ["blocks", block, ..] => format!("cells.{block}.{}", parts[2..].join(".")),
        ["cells", index, input, ..] if input.starts_with("input_") => {
            format!("cells.{index}.{}.{}", input.replace("input_", "pre"), parts[3..].join("."))
        }
        ["cells", index, edge, label, ..] => {
            let index: usize = index.parse().expect("a cell's index");
            let (block, cell) = layout
                .blocks
                .iter()
                .enumerate()
                .filter_map(|(block, kind)| match kind {
                    Block::Cell(cell) => Some((block, cell)),
                    Block::Fixed { .. } => None,
                })
                .nth(index)
                .expect("the cell exists");
            let e = cell.edges.iter().position(|e| format!("edge_{}_{}", e.from, e.to) == edge);
            let e = e.expect("the edge exists");
            let k = cell.edges[e].candidates.iter().position(|op| op.label == label).expect("a candidate");
            format!("cells.{block}.edges.{e}.ops.{k}.{}", parts[4..].join("."))
        }
        _ => name.to_owned(),
    }
}
