//! A discrete sequence, learned without a supernet: thirty places, four letters each, and a scorer with a derivative.
//!
//! Straight-through samples climb the score while the temperature falls. Every estimator gets the same number of scorer
//! calls. The score is a sum over places, so that the best is known: the best letter of each.
//! Run with `cargo run --release --example 08_sequence_without_supernet`.

use std::error::Error;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use strait::controller::{Demand, Tau, categorical, estimators};
use strait::{DType, Device, Tensor, Var};

const PLACES: usize = 30;
const CALLS: usize = 600;

/// How well letters fit: `Σ_places a·h + ½(b·h)²`, with coefficients that differ from place to place.
struct Scorer {
    a: Tensor,
    b: Tensor,
}

impl Scorer {
    fn new() -> Result<Self, candle_core::Error> {
        let wave = |from: f64| (0..PLACES * 4).map(|i| (from + 1.7 * i as f64).sin()).collect::<Vec<_>>();
        let matrix = |values| Tensor::from_vec(values, (PLACES, 4), &Device::Cpu);
        Ok(Self { a: matrix(wave(0.3))?, b: matrix(wave(2.0))? })
    }

    /// The score of every place, `(places,)`; `gates` is `(places, 4)`, one-hot in value.
    fn places(&self, gates: &Tensor) -> Result<Tensor, candle_core::Error> {
        let straight = (gates * &self.a)?.sum(1)?;
        straight + ((gates * &self.b)?.sum(1)?.sqr()? * 0.5)?
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let scorer = Scorer::new()?;
    // By enumeration: what each letter would score at every place.
    let letters = (0..4)
        .map(|k| scorer.places(&Tensor::eye(4, DType::F64, &Device::Cpu)?.get(k)?.repeat((PLACES, 1))?));
    let each = Tensor::stack(&letters.collect::<Result<Vec<_>, _>>()?, 1)?; // (places, 4)
    let best: f64 = each.max(1)?.sum_all()?.to_scalar()?;
    println!("best by enumeration    {best:.3}\n");
    for name in ["gdas", "gumbel-st", "reinmax", "reinforce"] {
        let estimator = estimators::by_name(name)?;
        let samples = if let Demand::Losses(n) = estimator.demand() { n } else { 1 };
        let logits = Var::zeros((PLACES, 4), DType::F64, &Device::Cpu)?;
        let (mut rng, steps) = (ChaCha8Rng::seed_from_u64(0), CALLS / samples);
        for step in 0..steps {
            let tau = 2.0 * f64::powf(0.5 / 2.0, step as f64 / (steps - 1) as f64);
            let tau = Tau::new(tau)?.to_tensor(DType::F64, &Device::Cpu)?;
            let mut objective = Tensor::zeros((), DType::F64, &Device::Cpu)?;
            let gates = (0..samples)
                .map(|_| estimator.relax(&logits, &tau, &mut rng))
                .collect::<Result<Vec<_>, _>>()?;
            let scores = gates.iter().map(|gates| scorer.places(gates.weights())?.sum_all());
            let scores = scores.collect::<Result<Vec<_>, _>>()?;
            if samples > 1 {
                let values = scores.iter().map(Tensor::to_scalar).collect::<Result<Vec<f64>, _>>()?;
                for (gates, credit) in gates.iter().zip(estimator.credit(&values)) {
                    objective = (objective + (gates.weights().sum_all()? * credit)?)?; // credit · ∂ ln P(sample)
                }
            } else {
                objective = scores[0].clone();
            }
            let gradient = objective.backward()?.remove(&logits).ok_or("the score depends on the logits")?;
            logits.set(&(logits.as_tensor() + (gradient * 0.5)?)?)?;
        }
        let chosen = logits.argmax(1)?; // (places,)
        let score: f64 = each.gather(&chosen.unsqueeze(1)?, 1)?.sum_all()?.to_scalar()?;
        let word: String =
            chosen.to_vec1::<u32>()?.into_iter().map(|k| char::from(b"ACGT"[k as usize])).collect();
        let entropy: f64 = categorical::entropy(&logits)?.mean_all()?.to_scalar()?;
        println!("{name:<10} {word} {score:.3}, entropy {entropy:.3} after {CALLS} calls");
        assert!(score > 0.5 * best, "{name} did not climb");
    }
    Ok(())
}
