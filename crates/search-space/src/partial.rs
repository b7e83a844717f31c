//! Partial channels: a supernet in which one part of every edge's channels is chosen for, and the rest passes by.

use crate::{Block, Cost, Edge, Layout, LayoutError, Shape, Vocabulary, plan::refuse};

impl Layout {
    /// The same network with partial channels (PC-DARTS): the first `1/parts` of every edge's channels go through the
    /// candidates, the others around them. `parts` of 1 changes nothing.
    ///
    /// ```text
    /// y = shuffle(concat(Σ gate_k · o_k(x[.. c/parts]), bypass(x[c/parts ..])))
    /// ```
    ///
    /// The bypass is the identity, or the largest value of every `s × s` pixels where the edge has stride `s`; the shuffle
    /// takes one channel of each part in turn, so that the next edge's first part holds some of all. Groups and logits stay
    /// as they are; sites, weights and costs of the candidates are those of the narrow part. It holds for supernets and for
    /// children that inherit from one: a child that is trained from scratch is laid out without.
    ///
    /// # Errors
    /// An edge changes its width, `parts` does not divide it, or an operation cannot stand on the narrow part.
    ///
    /// # References
    /// - Xu et al., *PC-DARTS: Partial Channel Connections for Memory-Efficient Architecture Search*, 2020, §3.2,
    ///   <https://arxiv.org/abs/1907.05737>
    pub fn partial(mut self, parts: usize, words: &dyn Vocabulary) -> Result<Self, LayoutError> {
        if parts == 1 {
            return Ok(self);
        }
        let common = self.cells().flat_map(|cell| &cell.edges).fold(0, |all, edge| gcd(all, edge.site.c_out));
        for cell in self.blocks.iter_mut().filter_map(Block::cell_mut) {
            for edge in &mut cell.edges {
                let found = |what: &str| {
                    let (input, output) = (edge.site.input(), edge.site.output());
                    format!(
                        "partial_channels {parts}, cell {} ({}), edge {}→{} from {input} to {output}{what}",
                        cell.index, cell.name, edge.from, edge.to
                    )
                };
                let (c_in, c_out) = (edge.site.c_in, edge.site.c_out);
                if c_in != c_out {
                    return Err(refuse(
                        found(""),
                        "expected 1: the edge changes its width, and what passes by cannot",
                    ));
                }
                if !c_in.is_multiple_of(parts) {
                    return Err(refuse(
                        found(""),
                        format!("expected a divisor of every edge's width, which are those of {common}"),
                    ));
                }
                let site = crate::Site { c_in: c_in / parts, c_out: c_out / parts, ..edge.site };
                for op in &edge.candidates {
                    words.cost(op, &site).map_err(|error| {
                        refuse(
                            found(&format!(", `{op}` on {} channels: {}", site.c_in, error.found)),
                            error.accepted,
                        )
                    })?;
                }
                (edge.site, edge.partial) = (site, parts);
            }
        }
        Ok(self)
    }

    /// The same network with its edges counting at their nodes as `strengths` says, by group and row of
    /// [`Layout::groups`]: what a child that is made from it keeps of its supernet's edge normalization.
    #[must_use]
    pub fn with_strengths(mut self, strengths: &[Vec<f64>]) -> Self {
        for edge in self.blocks.iter_mut().filter_map(Block::cell_mut).flat_map(|cell| &mut cell.edges) {
            edge.strength = strengths[edge.group][edge.row];
        }
        self
    }
}

impl Edge {
    /// What passes by the candidates, by shape: the channels that do not go through them. `None`: all do.
    #[must_use]
    pub fn bypass(&self) -> Option<Shape> {
        let output = self.site.output();
        (self.partial > 1).then(|| Shape { channels: output.channels * (self.partial - 1), ..output })
    }

    /// What the bypass costs: no weight and no multiplication, but its maps, and the winners of a pool in a byte each.
    pub(crate) fn bypass_cost(&self) -> Cost {
        let Some(shape) = self.bypass() else { return Cost::default() };
        let rest = shape.elements() as u64;
        let winners = if self.site.stride > 1 { rest.div_ceil(4) } else { 0 };
        Cost { params: 0, macs: 0, saved: winners, output: rest + self.site.output().elements() as u64 }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
