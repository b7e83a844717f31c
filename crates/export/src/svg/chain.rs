//! A chain of layers that each chose one operation: a strip, wrapped like text.

use search_space::Genotype;

use super::{Panel, escape, put, px, text_width, theme::Families};
use crate::ModelCard;

/// Layers in a row.
const ROW: usize = 24;
const BLOCK: f64 = 30.0;
/// From one layer's left end to the next one's.
const STEP: f64 = 44.0;
/// Between two rows: indices, shapes, and the way back.
const GUTTER: f64 = 74.0;

/// Whether every cell chose for itself, and chose a single operation.
pub(super) fn is_chain(genotype: &Genotype) -> bool {
    genotype.cells.len() > 1 && genotype.cells.iter().all(|cell| cell.cell.is_some() && cell.edges.len() == 1)
}

/// One layer: its operation and what stands below it.
struct Layer {
    op: String,
    index: String,
    /// The shape, where it differs from the layer's before.
    shape: Option<String>,
}

pub(super) fn panel(genotype: &Genotype, card: &ModelCard) -> Panel {
    let mut last = None;
    let layers: Vec<Layer> = (genotype.cells.iter())
        .map(|cell| {
            let index = cell.cell.unwrap_or_default();
            let shape = card.shapes.get(&index).filter(|shape| last != Some(*shape));
            last = card.shapes.get(&index);
            Layer { op: cell.edges[0].op.clone(), index: index.to_string(), shape: shape.cloned() }
        })
        .collect();
    let longest = layers.iter().map(|layer| text_width(&layer.op, 7.23)).fold(60.0, f64::max);
    let height = longest + 22.0;
    let rows = layers.len().div_ceil(ROW);
    Panel {
        title: format!("{} layers", layers.len()),
        subtitle: "each chose one operation; below, its index and its output where the shape changes"
            .to_owned(),
        width: STEP * layers.len().min(ROW) as f64 + 22.0,
        height: rows as f64 * (height + GUTTER) - GUTTER + 26.0,
        body: Box::new(move |families| drawn(&layers, height, families)),
    }
}

fn drawn(layers: &[Layer], height: f64, families: &Families) -> String {
    let mut svg = String::new();
    for (place, layer) in layers.iter().enumerate() {
        let (x, y) = ((place % ROW) as f64 * STEP + 18.0, (place / ROW) as f64 * (height + GUTTER));
        if place > 0 && place % ROW == 0 {
            draw_return(&mut svg, y, height);
        }
        draw_arrow(&mut svg, x - (STEP - BLOCK), y + height / 2.0);
        draw_block(&mut svg, x, y, height, layer, families.class(&layer.op));
    }
    let place = layers.len().saturating_sub(1);
    let (column, row) = (place % ROW, place / ROW);
    draw_arrow(
        &mut svg,
        column as f64 * STEP + 18.0 + BLOCK,
        (row as f64) * (height + GUTTER) + height / 2.0,
    );
    svg
}

fn draw_arrow(svg: &mut String, x: f64, y: f64) {
    put(
        svg,
        format_args!(
            "<g class=\"k7 share\"><path class=\"l\" d=\"M{} {}h6\"/><path class=\"t\" d=\"M{} {}l-6 -4v8z\"/></g>\n",
            px(x + 1.0),
            px(y),
            px(x + STEP - BLOCK - 1.0),
            px(y),
        ),
    );
}

/// The way from the end of a row to the start of the next, whose top is at `y`.
fn draw_return(svg: &mut String, y: f64, height: f64) {
    let (right, from, to) = (18.0 + STEP * ROW as f64 - 6.0, y - GUTTER - height / 2.0, y + height / 2.0);
    let lane = y - 18.0;
    put(
        svg,
        format_args!(
            "<g class=\"k7 share\"><path class=\"l\" d=\"M{} {}H{}q8 0 8 8V{}q0 8 -8 8H4q-8 0 -8 8V{}q0 8 8 8\"/></g>\n",
            px(right - 7.0),
            px(from),
            px(right - 4.0),
            px(lane - 8.0),
            px(to - 8.0),
        ),
    );
}

fn draw_block(svg: &mut String, x: f64, y: f64, height: f64, layer: &Layer, class: usize) {
    let place =
        format!("x=\"{}\" y=\"{}\" width=\"{BLOCK}\" height=\"{}\" rx=\"7\"", px(x), px(y), px(height),);
    let (middle, center) = (px(x + BLOCK / 2.0), px(y + height / 2.0));
    put(
        svg,
        format_args!(
            "<g class=\"k{class}\"><rect class=\"ground\" {place}/><rect class=\"b\" {place}/>\
         <text class=\"op\" x=\"{middle}\" y=\"{center}\" dy=\"4.2\" transform=\"rotate(-90 {middle} {center})\">{}</text>\
         </g>\n<text class=\"muted\" text-anchor=\"middle\" x=\"{middle}\" y=\"{}\">{}</text>\n",
            escape(&layer.op),
            px(y + height + 17.0),
            escape(&layer.index),
        ),
    );
    if let Some(shape) = &layer.shape {
        put(
            svg,
            format_args!(
                "<text class=\"muted\" x=\"{}\" y=\"{}\">{}</text>\n",
                px(x),
                px(y + height + 35.0),
                escape(shape),
            ),
        );
    }
}
