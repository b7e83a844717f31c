//! What operations draw, they draw from the key of the pass and their own name.

use candle_core::{DType, Device, Result, Tensor};
use ops::{
    Catalog, Draw, Forward, Layer, Mode, Op, ParamBuilder, ParamStore, Saved, Statistics, layers::Dropout,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use search_space::{Extent, Norm, Rank, Site};

use crate::running::resolve;

fn noise(scope: &str, draw: Draw) -> Result<Vec<f64>> {
    let (mut params, mut rng) = (ParamStore::new(DType::F64, &Device::Cpu), ChaCha8Rng::seed_from_u64(0));
    let extent = Extent::Image { height: 16, width: 16 };
    let site = Site { extent, c_in: 4, c_out: 4, stride: 1, norm: Norm::default() };
    let catalog = Catalog::standard();
    let mut builder = ParamBuilder::new(&mut params, &mut rng);
    let op = catalog.build(&resolve(&catalog, "noise", Rank::Image), &site, &mut builder.scope(scope));
    let x = Tensor::zeros((16, 16, 16, 4), DType::F64, &Device::Cpu)?;
    forward(op.expect("noise stands anywhere").as_ref(), &params, &x, draw)?.0.flatten_all()?.to_vec1()
}

fn forward(op: &dyn Op, params: &ParamStore, x: &Tensor, draw: Draw) -> Result<(Tensor, Saved)> {
    let mut statistics = Statistics::default();
    op.forward(x, &mut Forward { params, mode: Mode::Train, statistics: &mut statistics, draw })
}

#[test]
fn noise_is_a_function_of_seed_step_and_name() -> Result<()> {
    let draw = Draw { seed: 1, step: 2 };
    let first = noise("a", draw)?;
    assert_eq!(first, noise("a", draw)?);
    assert_ne!(first, noise("b", draw)?);
    assert_ne!(first, noise("a", Draw { step: 3, ..draw })?);
    assert_ne!(first, noise("a", Draw { seed: 2, ..draw })?);
    Ok(())
}

#[test]
fn noise_is_standard_normal() -> Result<()> {
    let values = noise("a", Draw::default())?; // n = 16,384
    let moment = |power: i32| values.iter().map(|v| v.powi(power)).sum::<f64>() / values.len() as f64;
    assert!(moment(1).abs() < 0.032, "{}", moment(1)); // 4σ: σ = 1/√n
    assert!((moment(2) - 1.0).abs() < 0.045, "{}", moment(2)); // 4σ: σ = √(2/n)
    assert!((moment(4) - 3.0).abs() < 0.31, "{}", moment(4)); // 4σ: σ = √(96/n)
    Ok(())
}

#[test]
fn dropout_keeps_the_mean_and_drops_its_share() -> Result<()> {
    let params = ParamStore::new(DType::F64, &Device::Cpu);
    let dropout = Dropout { probability: 0.25, stream: 9 };
    let x = Tensor::ones((100, 100), DType::F64, &Device::Cpu)?;
    let y: Vec<f64> = forward(&dropout, &params, &x, Draw::default())?.0.flatten_all()?.to_vec1()?;
    let dropped = y.iter().filter(|v| **v == 0.0).count() as f64 / 10_000.0;
    assert!((dropped - 0.25).abs() < 0.0173, "{dropped}"); // 4σ, n = 10,000
    assert!(y.iter().all(|v| *v == 0.0 || (v - 4.0 / 3.0).abs() < 1e-12));
    let mut statistics = Statistics::default();
    let mut pass =
        Forward { params: &params, mode: Mode::Eval, statistics: &mut statistics, draw: Draw::default() };
    assert_eq!(Layer::forward(&dropout, &x, &mut pass)?.0.sum_all()?.to_scalar::<f64>()?, 10_000.0);
    Ok(())
}
