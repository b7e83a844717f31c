//! The cells as a Graphviz graph, for those who want to change the drawing.

use std::io::Write;

use search_space::Genotype;

use crate::{
    Error, ModelCard,
    card::Row,
    graph::{Graph, Role},
};

/// Writes one cluster per cell, and one of the whole network where the card has it; the card's metrics become the graph's tooltip.
///
/// # Errors
/// An edge that runs backward, or the writer's.
pub fn write(genotype: &Genotype, card: &ModelCard, out: &mut dyn Write) -> Result<(), Error> {
    let facts: Vec<_> = card.metrics.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    writeln!(out, "digraph {} {{", quoted(&genotype.space))?;
    writeln!(out, "  graph [rankdir=LR, fontname=\"Helvetica\", tooltip={}];", quoted(&facts.join(", ")))?;
    writeln!(out, "  node [shape=box, style=\"rounded,filled\", fillcolor=white, fontname=\"Helvetica\"];")?;
    writeln!(out, "  edge [fontname=\"Courier\", fontsize=11];")?;
    for (index, cell) in genotype.cells.iter().enumerate() {
        let which = cell.cell.map_or_else(String::new, |cell| format!(" {cell}"));
        writeln!(out, "  subgraph cluster_{index} {{")?;
        writeln!(out, "    label={};", quoted(&format!("{}{which}", cell.kind)))?;
        write_graph(&Graph::of(cell)?, index, out)?;
        writeln!(out, "  }}")?;
    }
    write_network(card, out)?;
    Ok(writeln!(out, "}}")?)
}

/// The whole network as a chain of boxes, where the card has it.
fn write_network(card: &ModelCard, out: &mut dyn Write) -> Result<(), Error> {
    if card.network.is_empty() {
        return Ok(());
    }
    writeln!(out, "  subgraph cluster_network {{\n    label=\"network\";")?;
    for (i, Row { what, shape, params, macs }) in card.network.iter().enumerate() {
        let label = format!("{what}, {shape}: {params} weights, {macs} MACs");
        writeln!(out, "    n{i} [label={}];", quoted(&label))?;
    }
    for i in 1..card.network.len() {
        writeln!(out, "    n{} -> n{i};", i - 1)?;
    }
    Ok(writeln!(out, "  }}")?)
}

fn write_graph(graph: &Graph<'_>, cell: usize, out: &mut dyn Write) -> Result<(), Error> {
    for (node, shape) in graph.boxes.iter().enumerate() {
        let label = if shape.subscript.is_empty() {
            shape.text.clone()
        } else {
            format!("{}_{{{}}}", shape.text, shape.subscript)
        };
        let fill = if shape.role == Role::Inner { "" } else { ", fillcolor=lightgray" };
        writeln!(out, "    c{cell}_{node} [label={}{fill}];", quoted(&label))?;
    }
    for link in &graph.links {
        let (from, to) = (link.from, link.to);
        match link.op {
            Some(op) => writeln!(out, "    c{cell}_{from} -> c{cell}_{to} [label={}];", quoted(op))?,
            None => writeln!(out, "    c{cell}_{from} -> c{cell}_{to} [color=gray];")?,
        }
    }
    Ok(())
}

/// A quoted string of the DOT language; Graphviz would read `&` as the start of an entity.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '&' => quoted.push_str("&amp;"),
            c if c.is_control() => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
