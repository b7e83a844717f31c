#[path = "../../../../network/src/tests/names.rs"]
mod names;
#[path = "../../../../ops/tests/support/reference.rs"]
mod reference;

mod fixtures;

use candle_core::{DType, Device};
use ops::{ParamBuilder, WeightId};
use rand::SeedableRng;

use super::*;
use crate::WeightsConfig;

/// L_train = a/2·(w − α)² + d/4·(w − α)⁴ and L_val = (w − c)²/2, all numbers.
struct Toy {
    id: WeightId,
    alpha: f64,
    quartic: f64,
}

const A: f64 = 2.0;
const C: f64 = 3.0;

impl Toy {
    fn w(&self, w: &ParamStore) -> TensorResult<f64> {
        Ok(w.weight(self.id).to_vec1()?[0])
    }

    /// ∂L_train/∂w, which is −∂L_train/∂α.
    fn slope(&self, w: f64) -> f64 {
        A * (w - self.alpha) + self.quartic * (w - self.alpha).powi(3)
    }
}

impl Bilevel for Toy {
    fn train_weights(&self, w: &ParamStore) -> Result<Gradients, Error> {
        let mut gradients = Gradients::new(w);
        gradients.add(self.id, Tensor::new(&[self.slope(self.w(w)?)], &Device::Cpu)?)?;
        Ok(gradients)
    }

    fn train_logits(&self, w: &ParamStore) -> Result<Vec<Tensor>, Error> {
        Ok(vec![Tensor::new(&[[-self.slope(self.w(w)?)]], &Device::Cpu)?])
    }

    fn validation(&self, w: &ParamStore) -> Result<(Vec<Tensor>, Gradients), Error> {
        let mut gradients = Gradients::new(w);
        gradients.add(self.id, Tensor::new(&[self.w(w)? - C], &Device::Cpu)?)?;
        Ok((vec![Tensor::new(&[[0.0]], &Device::Cpu)?], gradients))
    }
}

/// The toy at w = 1 and α = 0.5, after one step at rate 0 that leaves the velocity `b` = 1 + λ.
fn toy(quartic: f64) -> Result<(Toy, ParamStore, Sgd), Error> {
    let settings =
        WeightsConfig { momentum: 0.9, nesterov: false, weight_decay: 0.1, clip: None, ..Default::default() };
    let (mut sgd, mut params) = (Sgd::new(settings), ParamStore::new(DType::F64, &Device::Cpu));
    let rng = &mut ChaCha8Rng::seed_from_u64(0);
    let id = ParamBuilder::new(&mut params, rng).constant("w", 1, 1.0)?;
    let mut gradients = Gradients::new(&params);
    gradients.add(id, Tensor::new(&[1.0f64], &Device::Cpu)?)?;
    sgd.step(&mut params, &gradients, 0.0)?.expect("finite");
    Ok((Toy { id, alpha: 0.5, quartic }, params, sgd))
}

fn gradient(quartic: f64, reach: f64) -> Result<f64, Error> {
    let (toy, params, sgd) = toy(quartic)?;
    let before = toy.w(&params)?;
    let gradient = unrolled(&toy, &params, &sgd, 0.25, reach)?[0].to_vec2::<f64>()?[0][0];
    assert_eq!(toy.w(&params)?, before);
    Ok(gradient)
}

/// w' = 1 − 0.25·(0.9·1.1 + 2·0.5 + 0.1·1) = 0.4775, and ∂L_val/∂α = (w' − 3)·∂w'/∂α = (0.4775 − 3)·0.25·2. With
/// `(p − n) / 2 · ε` for `(p − n) / (2·ε)` it would be 1.6e-5 of that.
#[test]
fn the_unrolled_gradient_has_its_closed_form() -> Result<(), Error> {
    let found = gradient(0.0, REACH)?;
    assert!((found - -1.26125).abs() < 1e-9, "{found}");
    Ok(())
}

/// With d = 4: w' = 1 − 0.25·(0.99 + 1.5 + 0.1) = 0.3525, v = w' − 3, and ∂w'/∂α = 0.25·(2 + 3·4·0.5²) = 1.25.
/// Central differences of a cubic slope are off by its cubic term: 0.25·4·v·reach².
#[test]
fn its_error_falls_with_the_square_of_the_reach() -> Result<(), Error> {
    for reach in [0.1, 0.01, 0.001] {
        let error = gradient(4.0, reach)? - -2.6475 * 1.25;
        assert!((error - -2.6475 * reach * reach).abs() < 1e-9, "reach {reach}: error {error}");
    }
    Ok(())
}
