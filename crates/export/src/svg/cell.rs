//! The panel of one cell kind.

use search_space::CellGenotype;

use super::{
    Panel, escape,
    place::{PORT, Placed, Point, Route, Size, Wire, place},
    put, px, text_width,
    theme::{Families, SHARE},
};
use crate::{
    Error,
    graph::{self, Graph, Role, n_inputs},
};

/// Edges beyond which nobody can read a picture.
const MOST_EDGES: usize = 256;
const LABEL_HEIGHT: f64 = 24.0;
/// Length of an arrow's head, in pixels.
const HEAD: f64 = 8.0;

/// Lays a cell out and says how to draw it.
pub(super) fn panel(cell: &CellGenotype) -> Result<Panel, Error> {
    if cell.edges.len() + cell.output.len() > MOST_EDGES {
        let edges = cell.edges.len() + cell.output.len();
        return Err(Error::TooLarge { kind: cell.kind.clone(), edges, most: MOST_EDGES });
    }
    let graph = Graph::of(cell)?;
    let wires: Vec<_> = graph.links.iter().map(wire).collect();
    let placed = place(&sizes(&graph), &wires);
    let boxes: Vec<_> = graph.boxes.iter().map(|b| (b.text.clone(), b.subscript, b.role)).collect();
    let ops: Vec<_> = graph.links.iter().map(|link| link.op.map(str::to_owned)).collect();
    let which = cell.cell.map_or_else(String::new, |index| format!(" {index}"));
    Ok(Panel {
        title: format!("{}{which}", cell.kind),
        subtitle: subtitle(cell),
        width: placed.width,
        height: placed.height,
        body: Box::new(move |families| drawn(&placed, &boxes, &ops, families)),
    })
}

fn subtitle(cell: &CellGenotype) -> String {
    let output = match &cell.output[..] {
        [] => "no output".to_owned(),
        [node] => format!("output: node {node}"),
        nodes => {
            let nodes: Vec<_> = nodes.iter().map(ToString::to_string).collect();
            format!("output: concatenation of nodes {}", nodes.join(", "))
        }
    };
    let plural = |n: usize, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
    format!("{}, {}, {output}", plural(n_inputs(cell), "input"), plural(cell.edges.len(), "edge"))
}

fn wire(link: &graph::Link<'_>) -> Wire {
    let label = link.op.map(|op| Size { width: text_width(op, 7.23) + 18.0, height: LABEL_HEIGHT });
    Wire { from: link.from, to: link.to, label }
}

/// Boxes are high enough for all links that meet them on one side.
fn sizes(graph: &Graph<'_>) -> Vec<Size> {
    let size = |(node, shape): (usize, &graph::NodeBox)| {
        let into = graph.links.iter().filter(|link| link.to == node).count();
        let out = graph.links.iter().filter(|link| link.from == node).count();
        let text = text_width(&shape.text, 8.0) + text_width(shape.subscript, 6.2);
        Size { width: (text + 18.0).max(34.0), height: (PORT * into.max(out) as f64 + 8.0).max(34.0) }
    };
    graph.boxes.iter().enumerate().map(size).collect()
}

fn drawn(
    placed: &Placed,
    boxes: &[(String, &'static str, Role)],
    ops: &[Option<String>],
    families: &Families,
) -> String {
    let mut svg = String::new();
    for (route, op) in placed.routes.iter().zip(ops) {
        draw_route(&mut svg, route, op.as_deref(), families);
    }
    for (route, op) in placed.routes.iter().zip(ops) {
        if let (Some(at), Some(op)) = (route.label, op) {
            draw_label(&mut svg, at, op, families.class(op));
        }
    }
    for (&(at, size), (text, subscript, role)) in placed.boxes.iter().zip(boxes) {
        draw_box(&mut svg, at, size, (text, subscript, *role));
    }
    svg
}

fn draw_route(svg: &mut String, route: &Route, op: Option<&str>, families: &Families) {
    let mut path = String::new();
    for (piece, &(left, right, y)) in route.level.iter().enumerate() {
        let right = if piece + 1 == route.level.len() { right - HEAD + 1.0 } else { right };
        if piece == 0 {
            put(&mut path, format_args!("M{} {}", px(left), px(y)));
        } else {
            let (_, before, above) = route.level[piece - 1];
            let middle = f64::midpoint(before, left);
            put(
                &mut path,
                format_args!("C{m} {} {m} {y} {} {y}", px(above), px(left), m = px(middle), y = px(y)),
            );
        }
        if right > left {
            put(&mut path, format_args!("H{}", px(right)));
        }
    }
    let &(_, tip, y) = route.level.last().expect("a route has two ends");
    let class = op.map_or(SHARE, |op| families.class(op));
    let share = if op.is_none() { " share" } else { "" };
    put(
        svg,
        format_args!(
            "<g class=\"k{class}{share}\"><path class=\"l\" d=\"{path}\"/>\
         <path class=\"t\" d=\"M{} {}l-{HEAD} -4v8z\"/></g>\n",
            px(tip),
            px(y),
        ),
    );
}

fn draw_label(svg: &mut String, at: Point, op: &str, class: usize) {
    let width = text_width(op, 7.23) + 18.0;
    let place = format!(
        "x=\"{}\" y=\"{}\" width=\"{}\" height=\"{LABEL_HEIGHT}\" rx=\"{}\"",
        px(at.x - width / 2.0),
        px(at.y - LABEL_HEIGHT / 2.0),
        px(width),
        LABEL_HEIGHT / 2.0,
    );
    put(
        svg,
        format_args!(
            "<g class=\"k{class}\"><rect class=\"ground\" {place}/><rect class=\"b\" {place}/>\
         <text class=\"op\" x=\"{}\" y=\"{}\">{}</text></g>\n",
            px(at.x),
            px(at.y + 4.2),
            escape(op),
        ),
    );
}

fn draw_box(svg: &mut String, at: Point, size: Size, (text, subscript, role): (&str, &str, Role)) {
    let (shape, name) = if role == Role::Inner { ("node", "name") } else { ("io", "name on-io") };
    put(
        svg,
        format_args!(
            "<rect class=\"{shape}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"9\"/>",
            px(at.x - size.width / 2.0),
            px(at.y - size.height / 2.0),
            px(size.width),
            px(size.height),
        ),
    );
    let below = if subscript.is_empty() {
        String::new()
    } else {
        format!("<tspan class=\"sub\" dy=\"4\">{}</tspan>", escape(subscript))
    };
    put(
        svg,
        format_args!(
            "<text class=\"{name}\" x=\"{}\" y=\"{}\">{}{below}</text>\n",
            px(at.x),
            px(at.y + 4.8),
            escape(text),
        ),
    );
}
