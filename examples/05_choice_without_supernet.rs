//! A discrete choice without a network: `controller` alone learns which of four filters made a signal.
//!
//! An estimator needs no supernet, no space and no data set: it turns logits into gates, and whoever owns the
//! candidates answers with a loss. Run with `cargo run --release --example 05_choice_without_supernet`.

use std::error::Error;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use strait::controller::{Estimator, Paths, Tau, categorical, estimators::GumbelSt};
use strait::{DType, Device, Tensor, Var};

const STEPS: usize = 300;

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::Cpu;
    // Four candidates: powers of a ramp. The target is the third, so the best choice is one-hot at 2.
    let ramp = Tensor::arange(-8i64, 9, &device)?.to_dtype(DType::F64)?.affine(0.125, 0.0)?; // (17,)
    let powers = [1.0, 2.0, 3.0, 4.0].map(|power| ramp.powf(power));
    let candidates = Tensor::stack(&powers.into_iter().collect::<Result<Vec<_>, _>>()?, 0)?; // (4, 17)
    let target = candidates.get(2)?;

    let logits = Var::zeros((1, 4), DType::F64, &device)?; // one choice, four candidates
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let (warm, cold) = (2.0, 0.2);
    let mut chosen_late = [0; 4];
    for step in 0..STEPS {
        // τ falls exponentially: gradients of little variance first, of little bias later.
        let tau = warm * f64::powf(cold / warm, step as f64 / (STEPS - 1) as f64);
        let tau = Tau::new(tau)?.to_tensor(DType::F64, &device)?;
        let gates = GumbelSt.relax(&logits, &tau, &mut rng)?;
        let Paths::Single(chosen) = gates.paths() else { return Err("gumbel-st runs one candidate".into()) };
        if step >= STEPS - 50 {
            chosen_late[chosen[0]] += 1;
        }
        let output = gates.weights().matmul(&candidates)?.squeeze(0)?; // in value, the chosen candidate alone
        let loss = (output - &target)?.sqr()?.mean_all()?;
        let gradient = loss.backward()?.remove(&logits).ok_or("the loss depends on the logits")?;
        logits.set(&(logits.as_tensor() - (gradient * 1.0)?)?)?;
        if step % 50 == 0 {
            let odds: Vec<Vec<f64>> = categorical::softmax(&logits)?.to_vec2()?;
            println!("step {step:>3}: chose {}, probabilities {:.3?}", chosen[0], odds[0]);
        }
    }
    let odds: Vec<Vec<f64>> = categorical::softmax(&logits)?.to_vec2()?;
    println!("step {STEPS}: probabilities {:.3?}, last fifty choices {chosen_late:?}", odds[0]);
    assert!(odds[0][2] > 0.9, "the filter that made the signal was not found");
    assert!(chosen_late[2] > 40);
    Ok(())
}
