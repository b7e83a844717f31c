//! Cross-entropy on slices, in `f64` whatever the logits.

use crate::kernels::element::Real;

pub(super) fn cross_entropy<T: Real>(
    logits: &[T],
    labels: &[u32],
    smoothing: f64,
    classes: usize,
) -> (f64, usize, Vec<T>) {
    let (mut loss, mut correct) = (0.0, 0);
    let mut grad = Vec::with_capacity(logits.len());
    let n = labels.len() as f64;
    for (row, &label) in logits.chunks_exact(classes).zip(labels) {
        let label = label as usize;
        let (best, max) = argmax(row);
        let exponentials: Vec<f64> = row.iter().map(|x| (x.to_f64() - max).exp()).collect();
        let sum: f64 = exponentials.iter().sum();
        let log_probability = |o: usize| row[o].to_f64() - max - sum.ln();
        let target = |o: usize| smoothing / classes as f64 + if o == label { 1.0 - smoothing } else { 0.0 };
        loss -=
            (0..classes).filter(|&o| target(o) != 0.0).map(|o| target(o) * log_probability(o)).sum::<f64>();
        correct += usize::from(best == label);
        grad.extend((0..classes).map(|o| T::from_f64((exponentials[o] / sum - target(o)) / n)));
    }
    (loss / n, correct, grad)
}

/// Where the largest value is first found, and that value.
fn argmax<T: Real>(row: &[T]) -> (usize, f64) {
    let best = (1..row.len()).fold(0, |best, o| if row[o] > row[best] { o } else { best });
    (best, row[best].to_f64())
}
