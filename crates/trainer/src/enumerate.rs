//! Every architecture, or every candidate of one edge after the other: expected losses for `exact`.

use candle_core::{Device, Tensor};
use controller::{ArchParams, Paths};

use crate::Error;

/// The choices of a space, edge after edge over all groups, and what is chosen now.
pub(crate) struct Choices {
    /// Edges of every group.
    groups: Vec<usize>,
    /// `π` of every edge.
    pi: Vec<Vec<f64>>,
    chosen: Vec<usize>,
}

/// `E[L | k]` of every edge and candidate.
type Expected = Vec<Vec<f64>>;

impl Choices {
    /// Those of `arch`, with `paths` as what is chosen now.
    pub(crate) fn of(arch: &ArchParams, paths: &[Paths]) -> Result<Self, Error> {
        let mut choices = Self { groups: Vec::new(), pi: Vec::new(), chosen: Vec::new() };
        for (group, paths) in paths.iter().enumerate() {
            let rows = arch.probabilities(group)?;
            choices.groups.push(rows.len());
            choices.chosen.extend(match paths {
                Paths::Single(chosen) => chosen.clone(),
                Paths::Pair(pairs) => pairs.iter().map(|pair| pair[0]).collect(),
                Paths::Weighted(_) => vec![0; rows.len()],
            });
            choices.pi.extend(rows);
        }
        Ok(choices)
    }

    /// The number of architectures; `usize::MAX` stands for more.
    pub(crate) fn count(&self) -> usize {
        self.pi.iter().fold(1, |count, row| count.saturating_mul(row.len()))
    }

    /// `E[L | k] = Σ over architectures with k of L·Π π of the other edges`; `loss` gets one candidate per edge.
    pub(crate) fn all(&self, loss: impl Fn(&[usize]) -> Result<f64, Error>) -> Result<Expected, Error> {
        let mut expected = self.zeros();
        let mut chosen = vec![0; self.pi.len()];
        loop {
            let loss = loss(&chosen)?;
            for (edge, &k) in chosen.iter().enumerate() {
                let others = chosen.iter().zip(&self.pi).enumerate().filter(|(other, _)| *other != edge);
                expected[edge][k] += loss * others.map(|(_, (&k, row))| row[k]).product::<f64>();
            }
            let Some(edge) = (0..chosen.len()).find(|&edge| chosen[edge] + 1 < self.pi[edge].len()) else {
                return Ok(expected);
            };
            chosen[..edge].fill(0);
            chosen[edge] += 1;
        }
    }

    /// `L` with every candidate of one edge at a time, the other edges as they are chosen; `loss_now` is that of no change.
    pub(crate) fn edge_by_edge(
        &self,
        loss_now: f64,
        loss: impl Fn(&[usize]) -> Result<f64, Error>,
    ) -> Result<Expected, Error> {
        let mut expected = self.zeros();
        for (edge, row) in expected.iter_mut().enumerate() {
            for (k, value) in row.iter_mut().enumerate() {
                let mut chosen = self.chosen.clone();
                chosen[edge] = k;
                *value = if chosen == self.chosen { loss_now } else { loss(&chosen)? };
            }
        }
        Ok(expected)
    }

    /// One candidate per edge, as the network wants them.
    pub(crate) fn paths(&self, chosen: &[usize]) -> Vec<Paths> {
        self.by_group(chosen).map(|rows| Paths::Single(rows.to_vec())).collect()
    }

    /// One `(E, K)` matrix per group.
    pub(crate) fn matrices(&self, expected: Expected) -> Result<Vec<Tensor>, Error> {
        self.by_group(&expected).map(|rows| Ok(Tensor::new(rows.to_vec(), &Device::Cpu)?)).collect()
    }

    fn by_group<'a, T>(&'a self, edges: &'a [T]) -> impl Iterator<Item = &'a [T]> {
        self.groups.iter().scan(edges, |left, &n| {
            let (group, rest) = left.split_at(n);
            *left = rest;
            Some(group)
        })
    }

    fn zeros(&self) -> Expected {
        self.pi.iter().map(|row| vec![0.0; row.len()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two groups: one edge with π = (1/4, 3/4), one with π = (1/2, 1/2); the first candidates are chosen.
    fn choices() -> Choices {
        Choices { groups: vec![1, 1], pi: vec![vec![0.25, 0.75], vec![0.5, 0.5]], chosen: vec![0, 0] }
    }

    fn loss(chosen: &[usize]) -> Result<f64, Error> {
        Ok([[1.0, 3.0], [5.0, 11.0]][chosen[0]][chosen[1]])
    }

    #[test]
    fn expected_losses_weigh_the_other_edges_by_their_probabilities() -> Result<(), Error> {
        assert_eq!(choices().count(), 4);
        assert_eq!(choices().all(loss)?, [[2.0, 8.0], [4.0, 9.0]]);
        Ok(())
    }

    #[test]
    fn one_edge_at_a_time_leaves_the_others_as_chosen() -> Result<(), Error> {
        assert_eq!(choices().edge_by_edge(1.0, loss)?, [[1.0, 5.0], [1.0, 3.0]]);
        Ok(())
    }
}
