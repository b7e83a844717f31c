//! Which of a node's edges count: edge normalization.

use candle_core::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use search_space::Layout;

use crate::{ArchParams, Error, noise::normal};

/// Edge normalization (PC-DARTS): one logit an edge, a softmax over the edges that lead into the same node.
///
/// ```text
/// β_e = exp b_e / Σ exp b over the edges into e's node        node = Σ_e β_e · (what edge e carries)
///
/// ∂L/∂b_e = β_e (∂L/∂β_e − Σ β·∂L/∂β over the same edges)
/// ```
///
/// Nothing is sampled: whatever relaxes the candidates, an edge's strength is this number. Partial channels need it, since
/// which channels are drawn makes the candidates' logits swing (Xu et al., 2020, §3.3); it stands for itself, too. Logits are
/// `f64`, on the host, one row of `E` per group of the layout; a node's edges may lie in several groups.
///
/// # References
/// - Xu et al., *PC-DARTS: Partial Channel Connections for Memory-Efficient Architecture Search*, 2020, §3.3,
///   <https://arxiv.org/abs/1907.05737>
#[derive(Clone, Debug)]
pub struct EdgeParams {
    names: Vec<String>,
    edges: Vec<Vec<(usize, usize)>>,
    /// The rows `(group, row)` of the edges into each node.
    nodes: Vec<Vec<(usize, usize)>>,
    /// `(E,)` per group.
    logits: Vec<Tensor>,
}

impl EdgeParams {
    /// Draws initial logits `b ~ 1e-3 · N(0, 1)`, group by group, row by row.
    ///
    /// # Errors
    /// candle's, when a tensor cannot be made.
    pub fn new(layout: &Layout, rng: &mut ChaCha8Rng) -> Result<Self, Error> {
        let mut draw =
            |n: usize| -> Vec<f64> { (0..n).map(|_| ArchParams::INITIAL_SCALE * normal(rng)).collect() };
        let logits =
            layout.groups.iter().map(|group| Ok(Tensor::new(draw(group.edges.len()), &Device::Cpu)?));
        Ok(Self {
            logits: logits.collect::<Result<_, Error>>()?,
            names: layout.groups.iter().map(|group| group.name.clone()).collect(),
            edges: layout.groups.iter().map(|group| group.edges.clone()).collect(),
            nodes: layout.nodes_with_choices(),
        })
    }

    /// The logits `b`, `(E,)` per group.
    #[must_use]
    pub fn logits(&self) -> &[Tensor] {
        &self.logits
    }

    /// Replaces the logits, `(E,)` per group: an optimizer's step, or a checkpoint's content.
    ///
    /// # Errors
    /// [`Error::NotFinite`] names the first that is not finite: its group and its edge.
    pub fn set_logits(&mut self, logits: Vec<Tensor>) -> Result<(), Error> {
        for (group, values) in rows(&logits)?.into_iter().enumerate() {
            if let Some((row, &value)) = values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
                let (group, edge) = (self.names[group].clone(), self.edges[group][row]);
                return Err(Error::NotFinite { group, edge, candidate: "edge normalization".into(), value });
            }
        }
        self.logits = logits;
        Ok(())
    }

    /// `β` of every edge, by group and row; 1 in sum over the edges into a node.
    ///
    /// # Errors
    /// candle's, when the copy fails.
    pub fn strengths(&self) -> Result<Vec<Vec<f64>>, Error> {
        let mut strengths = rows(&self.logits)?;
        for node in &self.nodes {
            let most = node.iter().map(|&(g, r)| strengths[g][r]).fold(f64::NEG_INFINITY, f64::max);
            node.iter().for_each(|&(g, r)| strengths[g][r] = (strengths[g][r] - most).exp());
            let total: f64 = node.iter().map(|&(g, r)| strengths[g][r]).sum();
            node.iter().for_each(|&(g, r)| strengths[g][r] /= total);
        }
        Ok(strengths)
    }

    /// `∂L/∂b`, `(E,)` per group, from `∂L/∂β` by group and row.
    ///
    /// # Errors
    /// candle's, when a tensor cannot be made.
    pub fn gradient(&self, by_strength: &[Vec<f64>]) -> Result<Vec<Tensor>, Error> {
        let strengths = self.strengths()?;
        let mut gradient = by_strength.to_vec();
        for node in &self.nodes {
            let mean: f64 = node.iter().map(|&(g, r)| strengths[g][r] * by_strength[g][r]).sum();
            node.iter().for_each(|&(g, r)| gradient[g][r] = strengths[g][r] * (by_strength[g][r] - mean));
        }
        gradient.into_iter().map(|row| Ok(Tensor::new(row, &Device::Cpu)?)).collect()
    }
}

fn rows(tensors: &[Tensor]) -> Result<Vec<Vec<f64>>, Error> {
    tensors.iter().map(|tensor| Ok(tensor.to_vec1()?)).collect() // on the host already
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;
    use search_space::{ChoiceGroup, Extent, Head, Shape};

    use super::*;

    /// Two groups of one kind: edges 0→2 and 0→3, and edges 1→2, 1→3, 2→3.
    fn params() -> Result<EdgeParams, Error> {
        let group = |name: &str, edges: &[(usize, usize)]| ChoiceGroup {
            name: name.into(),
            kind: "cell".into(),
            cell: None,
            candidates: Vec::new(),
            edges: edges.to_vec(),
        };
        let input = Shape { extent: Extent::Flat, channels: 1 };
        let layout = Layout {
            space: "toy".into(),
            input,
            classes: 2,
            stem: None,
            blocks: Vec::new(),
            head: Head { input, before_pool: None, dropout: 0.0, features: 1 },
            auxiliary: None,
            groups: vec![group("cell", &[(0, 2), (0, 3)]), group("cell.1", &[(1, 2), (1, 3), (2, 3)])],
        };
        let mut params = EdgeParams::new(&layout, &mut ChaCha8Rng::seed_from_u64(0))?;
        set(&mut params, [0.0, 1.0], [3f64.ln(), 1.0, 1.0])?;
        Ok(params)
    }

    fn set(params: &mut EdgeParams, first: [f64; 2], second: [f64; 3]) -> Result<(), Error> {
        params.set_logits(vec![Tensor::new(&first, &Device::Cpu)?, Tensor::new(&second, &Device::Cpu)?])
    }

    /// Into node 2: (1, 3)/4. Into node 3: thirds.
    #[test]
    fn strengths_are_a_softmax_over_the_edges_into_a_node() -> Result<(), Error> {
        let found = params()?.strengths()?.concat();
        let third = 1.0 / 3.0;
        let expected = [0.25, third, 0.75, third, third];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{found:?}");
        Ok(())
    }

    /// Of `L = Σ c·β²`, by central differences with step 1e-5.
    #[test]
    fn the_gradient_is_that_of_finite_differences() -> Result<(), Error> {
        let weights = [[1.0, -2.0, 0.0], [0.5, 3.0, -1.0]];
        let loss = |params: &EdgeParams| -> Result<f64, Error> {
            let squares = params
                .strengths()?
                .iter()
                .zip(weights)
                .map(|(row, weights)| row.iter().zip(weights).map(|(beta, c)| c * beta * beta).sum::<f64>())
                .sum();
            Ok(squares)
        };
        let mut params = params()?;
        let (first, second) = ([0.3, -1.0], [0.8, 0.2, -0.4]);
        set(&mut params, first, second)?;
        let slopes: Vec<Vec<f64>> = params
            .strengths()?
            .iter()
            .zip(weights)
            .map(|(row, weights)| row.iter().zip(weights).map(|(beta, c)| 2.0 * c * beta).collect())
            .collect();
        let found: Vec<f64> = rows(&params.gradient(&slopes)?)?.concat();
        for (edge, found) in found.into_iter().enumerate() {
            let mut at = |by: f64| -> Result<f64, Error> {
                let (mut first, mut second) = (first, second);
                *first.iter_mut().chain(&mut second).nth(edge).expect("five edges") += by;
                set(&mut params, first, second)?;
                loss(&params)
            };
            let difference = (at(1e-5)? - at(-1e-5)?) / 2e-5;
            assert!((difference - found).abs() < 1e-9, "{edge}: {found}, {difference}");
        }
        Ok(())
    }

    #[test]
    fn a_logit_that_is_not_finite_is_named_by_its_edge() -> Result<(), Error> {
        let error =
            set(&mut params()?, [0.0, 0.0], [0.0, f64::NAN, 0.0]).expect_err("it was taken").to_string();
        let expected =
            "group `cell.1`, edge 1 → 3, candidate `edge normalization`: logit NaN; expected a finite number";
        assert_eq!(error, expected);
        Ok(())
    }
}
