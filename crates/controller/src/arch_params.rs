//! The logits of a search space.

use candle_core::{DType, Device, Tensor, Var};
use rand_chacha::ChaCha8Rng;
use search_space::ChoiceGroup;

use crate::{Error, Gates, categorical, estimators::argmax, gates::to_host, noise::normal};

/// The architecture parameters: one `(E, K)` matrix of logits `α` per group of edges that share their candidates.
///
/// Up to a shift per row, `α` is the logarithm of a probability: `π = softmax(α)`. Groups are addressed by their index
/// in the layout's list; an index beyond it panics, as with a slice.
///
/// ```
/// use strait_controller::{ArchParams, Estimator, Tau, estimators::GumbelSt};
/// # use candle_core::{DType, Device, Tensor};
/// # use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
/// # use search_space::{ChoiceGroup, OpSpec};
/// # let op = |label: &str| OpSpec { word: label.into(), params: Default::default(), label: label.into() };
/// # let group = ChoiceGroup {
/// #     name: "cell".into(), kind: "cell".into(), cell: None,
/// #     candidates: vec![op("skip_connect"), op("none")], edges: vec![(0, 1), (1, 2)],
/// # };
/// # let (device, mut rng) = (Device::Cpu, ChaCha8Rng::seed_from_u64(0));
/// let params = ArchParams::new(&[group], DType::F32, &device, &mut rng)?;
/// let tau = Tau::new(5.0)?.to_tensor(DType::F32, &device)?;
/// let gates = GumbelSt.relax(params.logits(0), &tau, &mut rng)?;
/// let answer = Tensor::new(&[[1f32, 0.0], [0.0, 0.0]], &device)?; // the network's ∂L/∂gates
/// let (d_alpha, d_tau) = params.gradient(0, &gates, &answer, &tau)?;
/// assert_eq!(d_alpha.dims(), [2, 2]);
/// assert_eq!(d_tau.dims(), tau.dims());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ArchParams {
    groups: Vec<(ChoiceGroup, Var)>,
}

impl ArchParams {
    /// Standard deviation of the initial logits, as in DARTS and GDAS: near-uniform, and no two alike.
    pub const INITIAL_SCALE: f64 = 1e-3;

    /// Draws initial logits `α ~ 1e-3 · N(0, 1)`, group by group, row by row.
    ///
    /// # Errors
    /// candle's, when `dtype` is no float or the upload fails.
    pub fn new(
        groups: &[ChoiceGroup],
        dtype: DType,
        device: &Device,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self, Error> {
        let groups = groups.iter().map(|group| {
            let shape = (group.edges.len(), group.candidates.len());
            let draws: Vec<f64> = (0..shape.0 * shape.1).map(|_| Self::INITIAL_SCALE * normal(rng)).collect();
            let logits = Tensor::from_vec(draws, shape, device)?.to_dtype(dtype)?;
            Ok((group.clone(), Var::from_tensor(&logits)?))
        });
        Ok(Self { groups: groups.collect::<Result<_, Error>>()? })
    }

    /// The number of groups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is nothing to choose.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// What the group chooses among, and on which edges.
    #[must_use]
    pub fn group(&self, group: usize) -> &ChoiceGroup {
        &self.groups[group].0
    }

    /// The group's name, unique and stable.
    #[must_use]
    pub fn name(&self, group: usize) -> &str {
        &self.group(group).name
    }

    /// The group's logits `α`, `(E, K)`: a variable of the graph.
    #[must_use]
    pub fn logits(&self, group: usize) -> &Tensor {
        self.groups[group].1.as_tensor()
    }

    /// Replaces the group's logits by `(E, K)` values: an optimizer's step, or a checkpoint's content.
    ///
    /// # Errors
    /// [`Error::Shape`] for another shape; candle's, when the copy fails.
    pub fn set_logits(&mut self, group: usize, logits: &Tensor) -> Result<(), Error> {
        let (choices, var) = &mut self.groups[group];
        if logits.dims() != var.dims() {
            return Err(Error::Shape {
                group: choices.name.clone(),
                found: logits.dims().to_vec(),
                expected: [choices.edges.len(), choices.candidates.len()],
            });
        }
        // A fresh variable, so that gates and copies made from the old one keep its values.
        *var = Var::from_tensor(&logits.to_device(var.device())?.to_dtype(var.dtype())?.copy()?)?;
        Ok(())
    }

    /// The same choices with other logits: `by` times `direction` added, one `(E, K)` matrix per group.
    ///
    /// # Errors
    /// candle's, when shapes do not fit.
    pub fn shifted(&self, direction: &[Tensor], by: f64) -> Result<Self, Error> {
        let shift = |((group, logits), direction): (&(ChoiceGroup, Var), &Tensor)| {
            let moved = (logits.as_tensor().detach() + (direction * by)?.to_dtype(logits.dtype())?)?;
            Ok((group.clone(), Var::from_tensor(&moved)?))
        };
        Ok(Self { groups: self.groups.iter().zip(direction).map(shift).collect::<Result<_, Error>>()? })
    }

    /// Turns the network's answer `∂L/∂gates`, `(E, K)`, into `∂L/∂α`, `(E, K)`, and `∂L/∂τ`, of the shape of `tau`.
    ///
    /// `gates` are those that the network ran, relaxed from [`ArchParams::logits`] of this group and from `tau`. Where
    /// `tau` is a constant or the estimator has no use for it, `∂L/∂τ` is 0.
    ///
    /// # Errors
    /// [`Error::Stranger`] when the gates were not made from the group's present logits; candle's, when shapes do not
    /// fit.
    pub fn gradient(
        &self,
        group: usize,
        gates: &Gates,
        grad_gates: &Tensor,
        tau: &Tensor,
    ) -> Result<(Tensor, Tensor), Error> {
        let mut grads = gates.pullback(grad_gates)?;
        let stranger = || Error::Stranger { group: self.name(group).to_owned() };
        let d_alpha = grads.remove(self.logits(group)).ok_or_else(stranger)?;
        let d_tau = grads.remove(tau).map_or_else(|| tau.zeros_like(), Ok)?;
        Ok((d_alpha, d_tau))
    }

    /// The probabilities `π = softmax(α)` of every edge, `E` rows of `K`, on the host.
    ///
    /// # Errors
    /// candle's, when the copy fails.
    pub fn probabilities(&self, group: usize) -> Result<Vec<Vec<f64>>, Error> {
        let logits = self.logits(group).detach().to_dtype(DType::F64)?;
        Ok(to_host(&categorical::softmax(&logits)?)?)
    }

    /// The entropy of every edge's `π`, `E` numbers in nats, in [0, ln K].
    ///
    /// # Errors
    /// candle's, when the copy fails.
    pub fn entropy(&self, group: usize) -> Result<Vec<f64>, Error> {
        let logits = self.logits(group).detach().to_dtype(DType::F64)?;
        Ok(categorical::entropy(&logits)?.to_vec1()?)
    }

    /// The most probable candidate of every edge; the lowest index on ties.
    ///
    /// # Errors
    /// candle's, when the copy fails.
    pub fn argmax(&self, group: usize) -> Result<Vec<usize>, Error> {
        Ok(to_host(self.logits(group))?.iter().map(|row| argmax(row)).collect())
    }

    /// How decided every edge is: the largest `π` less the second largest, in [0, 1]; 1 where there is no second.
    ///
    /// # Errors
    /// candle's, when the copy fails.
    pub fn margins(&self, group: usize) -> Result<Vec<f64>, Error> {
        Ok(self.probabilities(group)?.iter().map(|row| margin(row)).collect())
    }

    /// Checks that every logit is finite.
    ///
    /// # Errors
    /// [`Error::NotFinite`] names the first that is not: its group, edge and candidate.
    pub fn check_finite(&self) -> Result<(), Error> {
        self.groups.iter().try_for_each(|(group, logits)| check_group(group, &to_host(logits)?))
    }
}

fn check_group(group: &ChoiceGroup, rows: &[Vec<f64>]) -> Result<(), Error> {
    for (&edge, row) in group.edges.iter().zip(rows) {
        for (candidate, &value) in group.candidates.iter().zip(row) {
            if !value.is_finite() {
                let (group, candidate) = (group.name.clone(), candidate.label.clone());
                return Err(Error::NotFinite { group, edge, candidate, value });
            }
        }
    }
    Ok(())
}

fn margin(row: &[f64]) -> f64 {
    let (first, second) =
        row.iter().fold(
            (0.0, 0.0),
            |(first, second): (f64, f64), &p| {
                if p > first { (p, first) } else { (first, second.max(p)) }
            },
        );
    first - second
}

#[cfg(test)]
mod tests;
