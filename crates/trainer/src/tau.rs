//! The temperature of a search: scheduled, learned, or as cold as the gradient's noise allows.

use candle_core::{DType, Device, Result as TensorResult, Tensor, Var};
use controller::{ArchParams, Tau};

use crate::{
    TauConfig,
    config::{TauPer, TauPolicy},
};

/// Where the temperature stands; its whole state is [`Temperature::numbers`].
///
/// ```text
/// schedule   τ = curve(progress)
/// learned    τ = to + softplus(ρ),   ρ by Adam on ∂L/∂τ · sigmoid(ρ);  τ = from at the start
/// adaptive   τ = curve(epochs so far in which the gradient's noise-to-signal ratio was under the bound)
/// ```
#[derive(Clone, Debug)]
pub(crate) struct Temperature {
    config: TauConfig,
    /// `ρ`, its moments, and which of them each edge has: by group and row.
    rho: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
    owners: Vec<Vec<usize>>,
    steps: f64,
    /// Epochs that an adaptive temperature has gone down.
    gone: f64,
}

const BETAS: (f64, f64) = (0.9, 0.999);

impl Temperature {
    /// Before the first step.
    pub(crate) fn new(config: TauConfig, arch: &ArchParams) -> Self {
        let mut kinds: Vec<String> = Vec::new();
        let mut edges = 0;
        let owners: Vec<Vec<usize>> = (0..arch.len())
            .map(|group| {
                let group = arch.group(group);
                let kind = kinds.iter().position(|kind| *kind == group.kind).unwrap_or_else(|| {
                    kinds.push(group.kind.clone());
                    kinds.len() - 1
                });
                let owner = |row| match config.per {
                    TauPer::All => 0,
                    TauPer::Kind => kind,
                    TauPer::Edge => edges + row,
                };
                let owners = (0..group.edges.len()).map(owner).collect();
                edges += group.edges.len();
                owners
            })
            .collect();
        let n = owners.iter().flatten().max().map_or(0, |most| most + 1);
        let start = (config.from - config.to).exp_m1().ln(); // softplus(start) = from − to
        let rho = if config.policy == TauPolicy::Learned { vec![start; n] } else { Vec::new() };
        let zeros = vec![0.0; rho.len()];
        Self { config, first: zeros.clone(), second: zeros, rho, owners, steps: 0.0, gone: 0.0 }
    }

    /// The temperature of every edge, by group and row; `progress` is the schedule's, in [0, 1], `epochs` the number of
    /// epochs in which α moves.
    pub(crate) fn values(&self, progress: f64, epochs: usize) -> Vec<Vec<f64>> {
        let of = |owner: &usize| match self.config.policy {
            TauPolicy::Schedule => self.config.at(progress),
            TauPolicy::Learned => self.config.to + softplus(self.rho[*owner]),
            TauPolicy::Adaptive => self.config.at(self.gone / (epochs.max(2) - 1) as f64),
        };
        self.owners.iter().map(|rows| rows.iter().map(of).collect()).collect()
    }

    /// A column `(E, 1)` per group: variables, so that `∂L/∂τ` is found.
    ///
    /// # Errors
    /// candle's.
    pub(crate) fn columns(values: &[Vec<f64>]) -> TensorResult<Vec<Tensor>> {
        let column = |rows: &Vec<f64>| {
            for tau in rows {
                Tau::new(*tau).map_err(candle_core::Error::wrap)?;
            }
            Ok(Var::from_vec(rows.clone(), (rows.len(), 1), &Device::Cpu)?.into_inner())
        };
        values.iter().map(column).collect()
    }

    /// A step of Adam on `ρ`, where it is learned; `slopes` has `∂L/∂τ` of every edge, `(E, 1)` or a scalar per group.
    ///
    /// # Errors
    /// candle's.
    pub(crate) fn learn(&mut self, slopes: &[Vec<f64>]) {
        if self.config.policy != TauPolicy::Learned {
            return;
        }
        let mut gradient = vec![0.0; self.rho.len()];
        for (owners, slopes) in self.owners.iter().zip(slopes) {
            for (&owner, slope) in owners.iter().zip(slopes) {
                gradient[owner] += slope * sigmoid(self.rho[owner]);
            }
        }
        self.steps += 1.0;
        for (i, g) in gradient.into_iter().enumerate() {
            self.first[i] += (1.0 - BETAS.0) * (g - self.first[i]);
            self.second[i] += (1.0 - BETAS.1) * (g * g - self.second[i]);
            let mean = self.first[i] / (1.0 - BETAS.0.powf(self.steps));
            let root = (self.second[i] / (1.0 - BETAS.1.powf(self.steps))).sqrt();
            self.rho[i] -= self.config.lr * mean / (root + 1e-8);
        }
    }

    /// Goes down by one epoch, where it is adaptive and the ratio of noise to signal is at most the bound.
    pub(crate) fn hear(&mut self, noise_to_signal: Option<f64>) {
        let quiet = noise_to_signal.is_some_and(|ratio| ratio <= self.config.bound);
        if self.config.policy == TauPolicy::Adaptive && quiet {
            self.gone += 1.0;
        }
    }

    /// Its state, for a checkpoint.
    pub(crate) fn numbers(&self) -> Vec<f64> {
        [&[self.steps, self.gone], &self.rho[..], &self.first, &self.second].concat()
    }

    /// Puts a state back; as many numbers as [`Temperature::numbers`] has.
    pub(crate) fn restore(&mut self, numbers: &[f64]) {
        let (counts, rest) = numbers.split_at(2);
        let n = self.rho.len();
        (self.steps, self.gone) = (counts[0], counts[1]);
        self.rho.copy_from_slice(&rest[..n]);
        self.first.copy_from_slice(&rest[n..2 * n]);
        self.second.copy_from_slice(&rest[2 * n..]);
    }
}

/// `∂L/∂τ` tensors of every group as rows of numbers.
///
/// # Errors
/// candle's.
pub(crate) fn to_rows(slopes: &[Tensor]) -> TensorResult<Vec<Vec<f64>>> {
    slopes.iter().map(|slope| slope.to_dtype(DType::F64)?.flatten_all()?.to_vec1()).collect()
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use controller::{Estimator, estimators::GumbelSoft};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use search_space::{ChoiceGroup, OpSpec};

    use super::*;
    use crate::{Error, regularize::Terms};

    /// Two kinds of cell with two edges and one edge, two candidates each, of which the first is preferred.
    fn arch() -> Result<ArchParams, Error> {
        let op = |label: &str| OpSpec { word: label.into(), params: [].into(), label: label.into() };
        let group = |kind: &str, edges: &[(usize, usize)]| ChoiceGroup {
            name: kind.into(),
            kind: kind.into(),
            cell: None,
            candidates: vec![op("one"), op("other")],
            edges: edges.to_vec(),
        };
        let groups = [group("normal", &[(0, 1), (0, 2)]), group("reduce", &[(0, 1)])];
        let mut arch = ArchParams::new(&groups, DType::F64, &Device::Cpu, &mut ChaCha8Rng::seed_from_u64(0))?;
        arch.set_logits(0, &Tensor::new(&[[2.0, 0.0], [2.0, 0.0]], &Device::Cpu)?)?;
        arch.set_logits(1, &Tensor::new(&[[2.0, 0.0]], &Device::Cpu)?)?;
        Ok(arch)
    }

    fn learned(per: TauPer) -> TauConfig {
        TauConfig { policy: TauPolicy::Learned, per, lr: 0.02, from: 1.0, to: 0.1, ..TauConfig::default() }
    }

    /// τ of every edge after 200 steps on a loss of -1 for the preferred candidate, with `bonus` per nat of entropy.
    fn descended(per: TauPer, bonus: f64) -> Result<Vec<Vec<f64>>, Error> {
        let (arch, mut rng) = (arch()?, ChaCha8Rng::seed_from_u64(1));
        let mut temperature = Temperature::new(learned(per), &arch);
        for _ in 0..200 {
            let taus = temperature.values(0.0, 10);
            let (mut alphas, mut slopes) = (Vec::new(), Vec::new());
            for (group, tau) in Temperature::columns(&taus)?.iter().enumerate() {
                let gates = GumbelSoft.relax(arch.logits(group), tau, &mut rng)?;
                let answer =
                    Tensor::new(&[-1.0, 0.0], &Device::Cpu)?.broadcast_as(gates.weights().shape())?;
                let (alpha, slope) = arch.gradient(group, &gates, &answer, tau)?;
                alphas.push(alpha);
                slopes.push(slope);
            }
            let mut slopes = to_rows(&slopes)?;
            Terms { bonus, ..Terms::default() }.add(&arch, &taus, &mut alphas, &mut slopes)?;
            temperature.learn(&slopes);
        }
        Ok(temperature.values(0.0, 10))
    }

    /// The law of the design's source: exploration is learned where it is paid for, and unlearned where it costs.
    #[test]
    fn a_bonus_drives_the_temperature_up_and_a_decisive_loss_drives_it_down() -> Result<(), Error> {
        for per in [TauPer::All, TauPer::Kind, TauPer::Edge] {
            assert!(descended(per, 1.0)?.concat().iter().all(|tau| *tau > 1.5), "{per:?}");
            assert!(descended(per, 0.0)?.concat().iter().all(|tau| *tau < 0.8), "{per:?}");
        }
        Ok(())
    }

    #[test]
    fn temperatures_are_shared_as_asked() -> Result<(), Error> {
        let kinds = descended(TauPer::Kind, 0.0)?;
        assert!(kinds[0][0] == kinds[0][1] && kinds[0][0] != kinds[1][0]);
        let edges = descended(TauPer::Edge, 0.0)?;
        assert_ne!(edges[0][0], edges[0][1]);
        Ok(())
    }

    #[test]
    fn a_learned_temperature_starts_where_it_was_told() -> Result<(), Error> {
        let temperature = Temperature::new(learned(TauPer::Edge), &arch()?);
        assert!(temperature.values(0.7, 10).concat().iter().all(|tau| (tau - 1.0).abs() < 1e-12));
        Ok(())
    }

    #[test]
    fn an_adaptive_temperature_falls_only_in_quiet_epochs() -> Result<(), Error> {
        let config =
            TauConfig { policy: TauPolicy::Adaptive, from: 2.0, to: 1.0, bound: 3.0, ..TauConfig::default() };
        let mut temperature = Temperature::new(config, &arch()?);
        let mut taus = Vec::new();
        for ratio in [Some(4.0), Some(3.0), None, Some(f64::NAN), Some(1.0)] {
            temperature.hear(ratio);
            taus.push(temperature.values(0.0, 5)[0][0]);
        }
        assert_eq!(taus, [2.0, 1.75, 1.75, 1.75, 1.5]);
        Ok(())
    }
}
