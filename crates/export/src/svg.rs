//! A picture of the cells, drawn without any program but this one.
//!
//! One panel per cell kind and a table of the whole network, where the card has it. In a cell's, inputs at the left, the output at the right; operations are labels on curves, colored by
//! family. A space in which every cell chooses one operation for itself becomes a strip of layers instead. The colors
//! follow Okabe & Ito's palette for all kinds of color vision, and the reader's light or dark setting.

use std::{fmt::Write as _, io::Write};

use search_space::{CellGenotype, Genotype};

use crate::{Error, ModelCard};

mod cell;
mod chain;
mod network;
mod place;
mod theme;

/// Clear space around the picture and around each panel's content, in pixels.
const MARGIN: f64 = 22.0;

/// Writes the picture as one SVG document.
///
/// # Errors
/// An edge that runs backward, a cell too large to be drawn, or the writer's.
pub fn write(genotype: &Genotype, card: &ModelCard, out: &mut dyn Write) -> Result<(), Error> {
    let mut panels = if chain::is_chain(genotype) {
        vec![chain::panel(genotype, card)]
    } else {
        genotype.cells.iter().map(cell::panel).collect::<Result<_, _>>()?
    };
    panels.extend(network::panel(card));
    let families = theme::Families::of(genotype);
    out.write_all(document(genotype, card, &panels, &families).as_bytes())?;
    Ok(())
}

/// A titled piece of the picture; its body starts at (0, 0).
struct Panel {
    title: String,
    subtitle: String,
    width: f64,
    height: f64,
    body: Box<dyn Fn(&theme::Families) -> String>,
}

fn document(genotype: &Genotype, card: &ModelCard, panels: &[Panel], families: &theme::Families) -> String {
    let facts = facts(card);
    let heading = |panel: &Panel| text_width(&panel.title, 8.5) + text_width(&panel.subtitle, 6.6) + 20.0;
    let widths = panels.iter().map(|panel| panel.width.max(heading(panel)));
    let inner = widths.fold(families.legend_width().max(320.0), f64::max);
    let width = inner + 4.0 * MARGIN;
    let facts = wrapped(&facts, width - 2.0 * MARGIN);

    let (mut body, mut y) = (String::new(), 44.0);
    line(&mut body, "title", MARGIN, y, &genotype.space);
    for fact in &facts {
        y += 19.0;
        line(&mut body, "muted", MARGIN, y, fact);
    }
    y += 18.0;
    for panel in panels {
        let height = panel.height + 2.0 * MARGIN + 30.0;
        put(
            &mut body,
            format_args!(
                "<g transform=\"translate({MARGIN},{})\">\n<rect class=\"panel\" width=\"{}\" height=\"{}\" rx=\"12\"/>\n",
                px(y),
                px(inner + 2.0 * MARGIN),
                px(height),
            ),
        );
        let (x, top) = (MARGIN + (inner - panel.width) / 2.0, MARGIN + 30.0);
        put(
            &mut body,
            format_args!(
                "<text class=\"kind\" x=\"{MARGIN}\" y=\"{}\">{}<tspan class=\"muted\" dx=\"10\">{}</tspan></text>\n",
                px(MARGIN + 8.0),
                escape(&panel.title),
                escape(&panel.subtitle),
            ),
        );
        put(&mut body, format_args!("<g transform=\"translate({},{})\">\n", px(x), px(top)));
        body.push_str(&(panel.body)(families));
        body.push_str("</g>\n</g>\n");
        y += height + 14.0;
    }
    body.push_str(&families.legend(MARGIN + 4.0, y + 16.0));
    let height = y + 16.0 + MARGIN;
    let described = genotype.cells.iter().map(described).collect::<Vec<_>>().join(" ");
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"strait\" width=\"{w}\" height=\"{h}\" \
         viewBox=\"0 0 {w} {h}\" role=\"img\" aria-labelledby=\"strait-title strait-desc\">\n\
         <title id=\"strait-title\">Architecture found in the space {}</title>\n\
         <desc id=\"strait-desc\">{}</desc>\n<style>{}</style>\n\
         <rect class=\"page\" width=\"{w}\" height=\"{h}\"/>\n{body}</svg>\n",
        escape(&genotype.space),
        escape(&described),
        theme::CSS,
        w = px(width),
        h = px(height),
    )
}

/// The card's metrics as short sentences.
fn facts(card: &ModelCard) -> Vec<String> {
    card.metrics
        .iter()
        .map(|(name, value)| format!("{} {}", name.replace('_', " "), number(*value)))
        .collect()
}

/// `1 531 546`, or four decimals.
fn number(value: f64) -> String {
    if value.fract() != 0.0 || value.abs() >= 1e15 {
        return format!("{value:.4}");
    }
    let digits = format!("{:.0}", value.abs());
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    format!("{}{}", if value < 0.0 { "−" } else { "" }, groups.join("\u{2009}"))
}

/// Joins facts by dots into lines no wider than `width`.
fn wrapped(facts: &[String], width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for fact in facts {
        match lines.last_mut() {
            Some(line) if text_width(line, 6.8) + text_width(fact, 6.8) < width => {
                line.push_str("  ·  ");
                line.push_str(fact);
            }
            _ => lines.push(fact.clone()),
        }
    }
    lines
}

/// A cell in words, for those who hear the picture.
fn described(cell: &CellGenotype) -> String {
    let edges: Vec<_> = cell.edges.iter().map(|e| format!("{} from {} to {}", e.op, e.from, e.to)).collect();
    let which = cell.cell.map_or_else(String::new, |index| format!(" {index}"));
    format!("Cell {}{which}: {}.", cell.kind, edges.join(", "))
}

fn line(body: &mut String, class: &str, x: f64, y: f64, text: &str) {
    put(
        body,
        format_args!("<text class=\"{class}\" x=\"{}\" y=\"{}\">{}</text>\n", px(x), px(y), escape(text)),
    );
}

fn put(body: &mut String, text: std::fmt::Arguments<'_>) {
    body.write_fmt(text).expect("a string takes whatever is written");
}

/// Width of a text in pixels, at `advance` pixels a character; wide scripts take twice that.
fn text_width(text: &str, advance: f64) -> f64 {
    text.chars()
        .map(|c| if matches!(c, '\u{1100}'..'\u{2000}' | '\u{2E80}'..) { 2.0 } else { 1.0 })
        .sum::<f64>()
        * advance
}

/// A length to a tenth of a pixel.
fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

/// Text as XML character data and attribute value; what XML 1.0 cannot hold becomes U+FFFD.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' | '\n' | '\r' => escaped.push(' '),
            '\0'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}' => escaped.push('\u{FFFD}'),
            _ => escaped.push(c),
        }
    }
    escaped
}
