use super::*;

mod known;
mod tightrope;

fn experiment(curve: Curve, estimators: &[&str], taus: Vec<f64>, draws: usize) -> Experiment {
    Experiment {
        logits: Experiment::LOGITS.to_vec(),
        loss: Loss::new(curve, 4),
        estimators: estimators.iter().map(|name| (*name).to_owned()).collect(),
        taus,
        draws,
        seed: 1,
    }
}
