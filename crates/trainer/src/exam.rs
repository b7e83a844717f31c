//! What a trained network answers on examples that are looked at once.

use candle_core::Tensor;
use data::{Batch, BatchPlan, Normalize, Subset, batches};
use network::{Network, Purpose};
use ops::{Draw, Forward, Mode, ParamStore, Statistics, kernels::loss};
use serde::Serialize;

use crate::{Error, Score, score::Tally};

/// Loss, accuracies and every confusion.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Exam {
    /// Mean loss and the share of right first answers.
    #[serde(flatten)]
    pub score: Score,
    /// The share of examples whose class is among the five largest logits; `None` where there are no more than five
    /// classes.
    pub top5: Option<f64>,
    /// `confusion[label][answer]`: how many examples of a class were given which answer.
    pub confusion: Vec<Vec<u64>>,
}

impl Exam {
    /// The share of right answers within each class; `None` for a class without examples.
    #[must_use]
    pub fn per_class(&self) -> Vec<Option<f64>> {
        let share = |(label, row): (usize, &Vec<u64>)| {
            let n: u64 = row.iter().sum();
            (n > 0).then(|| row[label] as f64 / n as f64)
        };
        self.confusion.iter().enumerate().map(share).collect()
    }
}

/// Examines `network` on `subset`, with its running statistics.
pub(crate) fn examine(
    network: &Network,
    params: &ParamStore,
    subset: &Subset,
    batch: usize,
    normalize: &Normalize,
) -> Result<Exam, Error> {
    let plan = BatchPlan { normalize: Some(normalize.clone()), ..BatchPlan::sequential(batch) };
    let classes = network.layout().classes;
    let (mut tally, mut among_five) = (Tally::default(), 0u64);
    let mut confusion = vec![vec![0; classes]; classes];
    for batch in batches(subset, plan, params.dtype(), params.device())? {
        let Batch { x, y, .. } = batch?;
        let statistics = &mut Statistics::default();
        let mut pass = Forward { params, mode: Mode::Eval, statistics, draw: Draw::default() };
        let logits = network.forward(&x, 0.0, Purpose::Evaluate, &mut pass)?.0.main;
        let head = loss::cross_entropy(&logits, &y, 0.0)?;
        tally.add(head.loss, head.correct, y.len());
        for (row, &label) in rows(&logits)?.iter().zip(&y) {
            let (answer, rank) = answer(row, label as usize);
            confusion[label as usize][answer] += 1;
            among_five += u64::from(rank < 5);
        }
    }
    let score = tally.score().unwrap_or_default();
    let top5 = (classes > 5).then(|| among_five as f64 / tally.examples.max(1.0));
    Ok(Exam { score, top5, confusion })
}

/// The logits on the host, in `f64`.
fn rows(logits: &Tensor) -> Result<Vec<Vec<f64>>, Error> {
    Ok(logits.to_dtype(candle_core::DType::F64)?.to_vec2()?)
}

/// The first largest logit, and how many come before the label's: larger ones, and equal ones before it.
fn answer(row: &[f64], label: usize) -> (usize, usize) {
    let best = (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
    let before = |&i: &usize| row[i] > row[label] || (row[i] == row[label] && i < label);
    (best, (0..row.len()).filter(before).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_logits_is_the_answer() {
        assert_eq!(answer(&[1.0, 3.0, 3.0, 2.0], 2), (1, 1));
        assert_eq!(answer(&[1.0, 3.0, 3.0, 2.0], 0), (1, 3));
        assert_eq!(answer(&[1.0, 3.0, 3.0, 2.0], 1), (1, 0));
    }

    #[test]
    fn classes_are_judged_by_their_own_examples() {
        let confusion = vec![vec![3, 1, 0], vec![0, 0, 0], vec![1, 1, 2]];
        let exam = Exam { score: Score::default(), top5: None, confusion };
        assert_eq!(exam.per_class(), [Some(0.75), None, Some(0.5)]);
    }
}
