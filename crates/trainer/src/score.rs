//! Losses and accuracies, accumulated over batches in `f64`.

use std::fmt;

use serde::Serialize;

/// Mean loss and accuracy over some examples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Score {
    /// Mean cross-entropy in nats; the logarithm of the number of classes is what guessing costs.
    pub loss: f64,
    /// The share of examples whose largest logit is at their label, in [0, 1].
    pub accuracy: f64,
}

/// Sums from which a [`Score`] is made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    pub(crate) loss: f64,
    pub(crate) correct: f64,
    pub(crate) examples: f64,
}

impl Tally {
    /// Adds a batch of `examples` with their mean loss.
    pub(crate) fn add(&mut self, loss: f64, correct: usize, examples: usize) {
        self.loss += loss * examples as f64;
        self.correct += correct as f64;
        self.examples += examples as f64;
    }

    /// Adds the sums of other examples.
    pub(crate) fn merge(&mut self, other: Self) {
        self.loss += other.loss;
        self.correct += other.correct;
        self.examples += other.examples;
    }

    /// The sums, as a checkpoint keeps them.
    pub(crate) fn sums(self) -> [f64; 3] {
        [self.loss, self.correct, self.examples]
    }

    /// The mean loss; not a number over nothing.
    pub(crate) fn mean_loss(self) -> f64 {
        self.loss / self.examples
    }

    /// The means; `None` over nothing.
    pub(crate) fn score(self) -> Option<Score> {
        let n = self.examples;
        (n > 0.0).then(|| Score { loss: self.loss / n, accuracy: self.correct / n })
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loss {:.4}, accuracy {:.4}", self.loss, self.accuracy)
    }
}
