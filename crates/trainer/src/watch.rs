//! What is seen of the bridge while it is crossed: the gradient's noise, and the signs of collapse.

use std::fmt;

use candle_core::{Result as TensorResult, Tensor};
use controller::ArchParams;
use search_space::{Layout, Vocabulary};
use serde::Serialize;

use crate::{
    config::StopOn,
    derive::{self, Choices},
};

/// The architecture's gradient over draws of the relaxation's noise, weights and batch held.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GradientNoise {
    /// Gradients drawn.
    pub draws: usize,
    /// `‖mean‖` over all edges.
    pub norm: f64,
    /// `Σ Var` over all edges and candidates.
    pub variance: f64,
    /// `√variance / ‖mean‖`: above 1 a single gradient is mostly noise. The mean of few draws holds noise itself, so that
    /// ratios far above `√draws` cannot be seen.
    pub noise_to_signal: f64,
    /// Cosine of the mean and the reference gradient, where one was asked for.
    pub cosine: Option<f64>,
    /// Edge by edge.
    pub groups: Vec<GroupNoise>,
}

/// One group of edges.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupNoise {
    /// The group's name.
    pub name: String,
    /// `‖mean‖` of every edge.
    pub norm: Vec<f64>,
    /// `Σ Var` over the candidates of every edge.
    pub variance: Vec<f64>,
}

/// The known signs of a search that slides into operations without weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Collapse {
    /// Per kind of cell.
    pub kinds: Vec<KindCollapse>,
    /// The largest eigenvalue, in magnitude, of the curvature of the mixture's loss in α, where it was measured
    /// (Zela et al., 2020, <https://arxiv.org/abs/1909.09656>).
    pub sharpness: Option<f64>,
}

/// One kind of cell.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct KindCollapse {
    /// The kind's name.
    pub kind: String,
    /// Its edges.
    pub edges: usize,
    /// Edges whose likeliest candidate is a skip connection.
    pub skips: usize,
    /// Edges whose likeliest candidate is `none`.
    pub nones: usize,
    /// The share of edges whose likeliest candidate costs no weights where it stands, `none` among them, in [0, 1].
    pub parameter_free: f64,
}

impl GradientNoise {
    /// Of at least two draws, each an `(E, K)` matrix per group; `reference` likewise.
    ///
    /// # Errors
    /// candle's.
    pub(crate) fn of(
        arch: &ArchParams,
        draws: &[Vec<Tensor>],
        reference: Option<&[Tensor]>,
    ) -> TensorResult<Self> {
        let n = draws.len() as f64;
        let (mut groups, mut product, mut square) = (Vec::new(), 0.0, 0.0);
        for group in 0..arch.len() {
            let rows: Vec<Vec<Vec<f64>>> =
                draws.iter().map(|draw| draw[group].to_vec2()).collect::<TensorResult<_>>()?;
            let reference = reference.map(|all| all[group].to_vec2::<f64>()).transpose()?;
            let mut noise = GroupNoise { name: arch.name(group).into(), norm: vec![], variance: vec![] };
            for (edge, first) in rows[0].iter().enumerate() {
                let (mut norm, mut variance) = (0.0, 0.0);
                for k in 0..first.len() {
                    let mean = rows.iter().map(|draw| draw[edge][k]).sum::<f64>() / n;
                    norm += mean * mean;
                    variance +=
                        rows.iter().map(|draw| (draw[edge][k] - mean).powi(2)).sum::<f64>() / (n - 1.0);
                    if let Some(reference) = &reference {
                        product += mean * reference[edge][k];
                        square += reference[edge][k].powi(2);
                    }
                }
                noise.norm.push(norm.sqrt());
                noise.variance.push(variance);
            }
            groups.push(noise);
        }
        let norm = groups.iter().flat_map(|g| &g.norm).map(|norm| norm * norm).sum::<f64>().sqrt();
        let variance: f64 = groups.iter().flat_map(|g| &g.variance).sum();
        Ok(Self {
            draws: draws.len(),
            norm,
            variance,
            noise_to_signal: variance.sqrt() / norm,
            cosine: reference.map(|_| product / (norm * square.sqrt())),
            groups,
        })
    }
}

impl Collapse {
    /// Counts what `choices` are, per kind of cell.
    pub(crate) fn of(
        layout: &Layout,
        choices: &Choices,
        words: &dyn Vocabulary,
        sharpness: Option<f64>,
    ) -> Self {
        let mut kinds: Vec<KindCollapse> = Vec::new();
        for (group, rows) in layout.groups.iter().zip(choices) {
            let known = kinds.iter().position(|kind| kind.kind == group.kind).unwrap_or_else(|| {
                let parameter_free = derive::parameter_free_in(&group.kind, layout, choices, words);
                kinds.push(KindCollapse {
                    kind: group.kind.clone(),
                    parameter_free,
                    ..KindCollapse::default()
                });
                kinds.len() - 1
            });
            for chosen in rows.iter().flatten() {
                let (kind, op) = (&mut kinds[known], &group.candidates[*chosen]);
                kind.edges += 1;
                kind.skips += usize::from(op.is_skip());
                kind.nones += usize::from(op.is_none());
            }
        }
        Self { kinds, sharpness }
    }

    /// What to tell a person, in plain words; `first_sharpness` is that of the first measurement.
    #[must_use]
    pub fn warnings(&self, first_sharpness: Option<f64>) -> Vec<String> {
        let mut warnings = Vec::new();
        for KindCollapse { kind, edges, skips, nones, .. } in &self.kinds {
            let (majority, edges) = (edges / 2 + 1, *edges);
            if edges > 1 && *skips >= majority {
                warnings.push(format!(
                    "{skips} of {edges} edges of `{kind}` are skip connections: the known collapse; train the weights \
                     longer before α moves, or lower arch.lr"
                ));
            }
            if edges > 1 && *nones >= majority {
                warnings.push(format!(
                    "{nones} of {edges} edges of `{kind}` are none: nearly nothing is left of the cell; another \
                     estimator, or a lower arch.lr, may do better"
                ));
            }
        }
        if let Some((now, first)) = self.sharpness.zip(first_sharpness)
            && now > 2.0 * first
        {
            warnings.push(format!(
                "the loss is {:.1} times as sharp in α as at first: choices made now may not survive being made discrete",
                now / first
            ));
        }
        warnings
    }

    /// Whether this is what a search was asked to stop on.
    pub(crate) fn is(&self, stop: StopOn, entropy: f64, first_sharpness: Option<f64>) -> bool {
        match stop {
            StopOn::Skips(n) => self.kinds.iter().any(|kind| kind.skips >= n),
            StopOn::Entropy(least) => entropy < least,
            StopOn::Eigenvalue(ratio) => {
                self.sharpness.zip(first_sharpness).is_some_and(|(now, first)| now > ratio * first)
            }
        }
    }
}

/// Power iteration for the eigenvalue of the largest magnitude of a symmetric map on one `(E, K)` matrix per group, an
/// application of the map a call.
pub(crate) struct PowerIteration {
    v: Vec<Tensor>,
    eigenvalue: f64,
    left: usize,
}

impl PowerIteration {
    /// From `start`, in at most so many `steps`.
    pub(crate) fn new(start: &[Tensor], steps: usize) -> TensorResult<Self> {
        let v = scaled(start, 1.0 / dot(start, start)?.sqrt())?;
        Ok(Self { v, eigenvalue: 0.0, left: steps })
    }

    /// What has been found, once no step is left.
    pub(crate) fn eigenvalue(&self) -> Option<f64> {
        (self.left == 0).then_some(self.eigenvalue)
    }

    /// One more step; `apply` is the map.
    ///
    /// # Errors
    /// Those of `apply`; candle's.
    pub(crate) fn step<E: From<candle_core::Error>>(
        &mut self,
        apply: impl Fn(&[Tensor]) -> Result<Vec<Tensor>, E>,
    ) -> Result<(), E> {
        let image = apply(&self.v)?;
        let norm = dot(&image, &image)?.sqrt();
        if norm == 0.0 {
            (self.eigenvalue, self.left) = (0.0, 0);
            return Ok(());
        }
        self.eigenvalue = dot(&self.v, &image)?;
        self.v = scaled(&image, 1.0 / norm)?;
        self.left = self.left.saturating_sub(1);
        Ok(())
    }
}

fn dot(a: &[Tensor], b: &[Tensor]) -> TensorResult<f64> {
    a.iter().zip(b).map(|(a, b)| (a * b)?.sum_all()?.to_scalar::<f64>()).sum()
}

fn scaled(v: &[Tensor], by: f64) -> TensorResult<Vec<Tensor>> {
    v.iter().map(|v| v * by).collect()
}

impl fmt::Display for GradientNoise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "noise to signal {:.2}", self.noise_to_signal)?;
        self.cosine.map_or(Ok(()), |cosine| write!(f, ", cosine {cosine:.2}"))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Eigenvalues −3 and 1.
    #[test]
    fn power_iteration_finds_the_largest_magnitude() -> TensorResult<()> {
        let map = Tensor::new(&[[-1.0, 2.0], [2.0, -1.0]], &Device::Cpu)?;
        let apply = |v: &[Tensor]| -> TensorResult<Vec<Tensor>> { Ok(vec![v[0].matmul(&map)?]) };
        let mut iteration = PowerIteration::new(&[Tensor::new(&[[1.0, 0.3]], &Device::Cpu)?], 30)?;
        let mut steps = 0;
        while iteration.eigenvalue().is_none() {
            iteration.step(apply)?;
            steps += 1;
        }
        let found = iteration.eigenvalue().expect("it is done");
        assert!(steps == 30 && (found + 3.0).abs() < 1e-9, "{found} after {steps}");
        Ok(())
    }

    fn kind(skips: usize, nones: usize) -> Collapse {
        let kinds = vec![KindCollapse { kind: "cell".into(), edges: 6, skips, nones, parameter_free: 0.5 }];
        Collapse { kinds, sharpness: Some(5.0) }
    }

    #[test]
    fn a_majority_of_skips_or_nones_is_warned_of_and_a_minority_is_not() {
        assert!(kind(3, 3).warnings(Some(4.0)).is_empty());
        assert!(kind(4, 0).warnings(None)[0].starts_with("4 of 6 edges of `cell` are skip connections"));
        assert!(kind(0, 5).warnings(None)[0].starts_with("5 of 6 edges of `cell` are none"));
        assert!(kind(0, 0).warnings(Some(1.0))[0].starts_with("the loss is 5.0 times as sharp"));
    }

    #[test]
    fn every_stop_has_its_own_threshold() {
        let is = |stop| kind(4, 0).is(stop, 0.5, Some(2.0));
        assert_eq!([is(StopOn::Skips(4)), is(StopOn::Skips(5))], [true, false]);
        assert_eq!([is(StopOn::Entropy(0.6)), is(StopOn::Entropy(0.4))], [true, false]);
        assert_eq!([is(StopOn::Eigenvalue(2.0)), is(StopOn::Eigenvalue(3.0))], [true, false]);
    }
}
