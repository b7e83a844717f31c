//! The whole network as a table: what follows what, its shapes and costs.

use super::{Panel, escape, number, put, px, text_width};
use crate::{ModelCard, card::Row};

/// Height of a row, and the width of a character of its font, in pixels.
const ROW: f64 = 20.0;
const ADVANCE: f64 = 7.23;

/// The panel; nothing where the card does not say how the network is laid out.
pub(super) fn panel(card: &ModelCard) -> Option<Panel> {
    let longest = |cell: fn(&Row) -> usize, head: usize| {
        card.network.iter().map(cell).max().map(|most| most.max(head) as f64 * ADVANCE + 24.0)
    };
    let what = longest(|row| row.what.chars().count(), 0)?;
    let shape = longest(|row| row.shape.chars().count(), 6)?;
    let costs = 96.0;
    let ends = [0.0, what, what + shape + costs, what + shape + 2.0 * costs];
    let rows = card.network.clone();
    Some(Panel {
        title: "network".into(),
        subtitle: "from front to back; output of each, weights and multiply-accumulates of all".into(),
        width: ends[3].max(text_width("network", 8.5)),
        height: ROW * (rows.len() + 1) as f64,
        body: Box::new(move |_| {
            let mut svg = String::new();
            let head = ["", "output", "weights", "MACs"].map(str::to_owned);
            let cells = |row: &Row| {
                let [params, macs] = [row.params, row.macs].map(|n| number(n as f64));
                [row.what.clone(), row.shape.clone(), params, macs]
            };
            for (i, line) in std::iter::once(head).chain(rows.iter().map(cells)).enumerate() {
                for (column, (text, x)) in
                    line.iter().zip(ends).enumerate().filter(|(_, (text, _))| !text.is_empty())
                {
                    let anchor = if column > 1 { "end" } else { "start" };
                    let class = if i == 0 { "muted" } else { "legend" };
                    let y = ROW * i as f64 + 12.0;
                    put(
                        &mut svg,
                        format_args!(
                            "<text class=\"{class}\" x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>\n",
                            px(x),
                            px(y),
                            escape(text),
                        ),
                    );
                }
            }
            svg
        }),
    })
}
