use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{Demand, Gates, Paths, Tau, categorical, gumbel};

mod closed_forms;
mod facts;
mod fixtures;
mod means;

fn named(name: &str) -> Box<dyn Estimator> {
    by_name(name).expect("NAMES lists what by_name knows")
}

fn scalar(value: f64) -> Result<Tensor> {
    Ok(Var::new(value, &Device::Cpu)?.into_inner())
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

fn noise(seed: u64, shape: (usize, usize)) -> Result<Tensor> {
    gumbel(shape, &mut ChaCha8Rng::seed_from_u64(seed), DType::F64, &Device::Cpu)
}

/// `∂(v · gates)/∂α` and `∂(v · gates)/∂τ`.
fn gradients(gates: &Gates, upstream: &Tensor, logits: &Tensor, tau: &Tensor) -> Result<(Tensor, Tensor)> {
    let grads = gates.pullback(upstream)?;
    let of = |x: &Tensor| grads.get(x).cloned().map_or_else(|| x.zeros_like(), Ok);
    Ok((of(logits)?, of(tau)?))
}
