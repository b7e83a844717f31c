//! Small supernets against PyTorch: losses, gradients of every weight and of the logits, for three estimators.

use candle_core::{DType, Tensor};
use controller::{Demand, Paths};
use search_space::Block;

use super::{
    names::fixture_name,
    reference::{Reference, assert_agrees, error},
    rig::{Rig, layout, space},
};
use crate::{Error, Purpose};

struct Case {
    reference: Reference,
    rig: Rig,
    dtype: DType,
}

impl Case {
    /// `nas-bench-201` with 4 channels and a cell a stage, or `darts` with 2 channels and 3 cells.
    fn new(name: &str, dtype: DType) -> Result<Self, Error> {
        let (file, mut layout) = match name {
            "nb201" => ("ops/net_nb201", layout(&space("nas-bench-201"), 8, 4, 1)),
            _ => ("ops/net_darts", layout(&space("darts"), 8, 2, 3)),
        };
        for block in &mut layout.blocks {
            if let Block::Cell(cell) = block {
                cell.edges.iter_mut().for_each(|edge| edge.site.norm.conv_bias = false);
            }
        }
        let reference = Reference::read(file)?;
        let labels = reference.raw("train_y").to_vec1::<i64>()?.into_iter().map(|y| y as u32).collect();
        let mut rig = Rig::new(layout.clone(), dtype, &reference.map("train_x")?, labels)?;
        let names: Vec<String> = rig.params.weights().map(|(_, name, _)| name.to_owned()).collect();
        assert_eq!(names.len(), reference.names("w.").len(), "every weight of the fixture has a place");
        for name in names {
            let value = reference.weight(&format!("w.{}", fixture_name(&layout, &name)))?;
            rig.params.load(&name, &value)?;
        }
        Ok(Self { reference, rig, dtype })
    }

    fn groups(&self) -> usize {
        self.rig.net.layout().groups.len()
    }

    /// `(E, K)` of `softmax((log_softmax(α) + g)/τ)`, or of `softmax(α)` without noise.
    fn soft(&self, group: usize, tau: Option<f64>) -> Result<Tensor, Error> {
        let log_softmax = |x: &Tensor| candle_nn::ops::log_softmax(x, 1);
        let alpha = log_softmax(self.reference.raw(&format!("alpha{group}")))?;
        Ok(match tau {
            None => alpha.exp()?,
            Some(tau) => {
                let z = ((alpha + self.reference.raw(&format!("gumbel_w{group}")))? / tau)?;
                log_softmax(&z)?.exp()?
            }
        })
    }

    fn paths(&self, estimator: &str) -> Result<Vec<Paths>, Error> {
        (0..self.groups())
            .map(|g| {
                Ok(match estimator {
                    "darts" => Paths::Weighted(self.soft(g, None)?.to_vec2()?),
                    _ => {
                        let index = self.reference.raw(&format!("{estimator}.index{g}")).to_vec1::<i64>()?;
                        Paths::Single(index.into_iter().map(|k| k as usize).collect())
                    }
                })
            })
            .collect()
    }

    /// The loss, and the logits' gradient through the Jacobian of the soft sample.
    fn check_logits(&self, estimator: &str, demand: Demand, tolerance: f64) -> Result<(), Error> {
        let answer = self.rig.answer(&self.paths(estimator)?, Purpose::Architecture(demand))?;
        let loss = self.reference.raw(&format!("{estimator}.loss")).to_scalar::<f64>()?;
        assert!((answer.loss - loss).abs() <= tolerance * loss, "loss {} instead of {loss}", answer.loss);
        assert_eq!(answer.gradients.iter().count(), 0, "an architecture step computes no weight's gradient");
        let tau = (estimator != "darts").then_some(self.reference.raw("tau").to_scalar::<f64>()?);
        for group in 0..self.groups() {
            let y = self.soft(group, tau)?;
            let v = Tensor::new(answer.gates[group].clone(), y.device())?;
            let centered = v.broadcast_sub(&(&y * &v)?.sum_keepdim(1)?)?;
            let found = ((&y * centered)? / tau.unwrap_or(1.0))?;
            let name = format!("{estimator}.g_alpha{group}");
            assert_agrees(&name, &found, self.reference.raw(&name), tolerance)?;
        }
        Ok(())
    }

    /// Every weight's gradient; those of candidates that took no part are absent, here and there.
    fn check_weights(&self, estimator: &str, stored: &str, tolerance: f64) -> Result<(), Error> {
        let answer = self.rig.answer(&self.paths(estimator)?, Purpose::Weights)?;
        assert!(answer.gates.is_empty(), "a weight step computes no gate's gradient");
        let layout = self.rig.net.layout();
        let mut compared = 0;
        for (id, name, _) in self.rig.params.weights() {
            let theirs = format!("{stored}.g.{}", fixture_name(layout, name));
            let Some(found) = answer.gradients.get(id) else {
                assert!(!self.reference.names("").contains(&theirs), "{theirs} has no gradient");
                continue;
            };
            assert_agrees(&theirs, found, &self.reference.weight(&theirs)?, tolerance)?;
            compared += 1;
        }
        assert_eq!(compared, self.reference.names(&format!("{stored}.g.")).len(), "in {:?}", self.dtype);
        Ok(())
    }

    fn check(name: &str, dtype: DType, tolerance: f64) -> Result<(), Error> {
        let case = Self::new(name, dtype)?;
        case.check_logits("gdas", Demand::Chosen, tolerance)?;
        case.check_logits("st-full", Demand::Outputs, tolerance)?;
        case.check_logits("darts", Demand::Mixture, tolerance)?;
        case.check_weights("gdas", "gdas", tolerance)?;
        case.check_weights("st-full", "gdas", tolerance)?;
        case.check_weights("darts", "darts", tolerance)
    }
}

#[test]
fn a_small_nas_bench_201_supernet_is_that_of_pytorch() -> Result<(), Error> {
    Case::check("nb201", DType::F64, 1e-9)?;
    Case::check("nb201", DType::F32, 1e-4)
}

#[test]
fn a_small_darts_supernet_is_that_of_pytorch() -> Result<(), Error> {
    Case::check("darts", DType::F64, 1e-9)?;
    Case::check("darts", DType::F32, 1e-4)
}

#[test]
fn an_error_of_the_fixtures_would_be_seen() -> Result<(), Error> {
    let case = Case::new("nb201", DType::F64)?;
    let answer = case.rig.answer(&case.paths("gdas")?, Purpose::Weights)?;
    let (_, found) = answer.gradients.iter().next().expect("the stem has a gradient");
    assert!(error(&(found * 1.001)?, found)? > 1e-4);
    Ok(())
}
