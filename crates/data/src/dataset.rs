//! The seam: what a data set must answer.

use search_space::Shape;
use sha2::{Digest, Sha256};

/// A training and a test part of labelled examples of one shape; implement it for data of your own.
///
/// Answers are a function of the arguments: asked twice, [`read`](Self::read) writes the same values.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a data set",
    note = "implement `Dataset` (three methods), or hold the examples in an `InMemory`"
)]
pub trait Dataset: Send + Sync {
    /// Name, shape and classes.
    fn info(&self) -> &DataInfo;

    /// Examples in `part`.
    fn len(&self, part: Part) -> usize;

    /// Writes example `index < len(part)` of `part` to `out` and returns its label, below the number of classes.
    ///
    /// `out` has `info().shape.elements()` places, channels last: `(H, W, C)`, `(L, C)` or `(C)`.
    /// Values are finite; pixels are in `[0, 1]`, other features as they are.
    fn read(&self, part: Part, index: usize, out: &mut [f32]) -> u32;
}

/// What all examples of a data set have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataInfo {
    /// What to call it, in logs and model cards.
    pub name: String,
    /// The shape of one example, channels last.
    pub shape: Shape,
    /// The name of every class; a label is a place in this list.
    pub classes: Vec<String>,
}

/// The two parts of every data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// What weights and architectures may be fitted to.
    Train,
    /// What only the final report may read.
    Test,
}

/// SHA-256 over shape, number of classes, labels and values of both parts, in hexadecimal.
///
/// Two data sets agree in it if and only if they train alike; names are left out. Reads every example once.
#[must_use]
pub fn fingerprint(dataset: &dyn Dataset) -> String {
    let DataInfo { shape, classes, .. } = dataset.info();
    let mut hash = Sha256::new();
    let count = |hash: &mut Sha256, n: usize| hash.update((n as u64).to_le_bytes());
    let dims = shape.batch_dims(classes.len());
    count(&mut hash, dims.len());
    dims.into_iter().for_each(|n| count(&mut hash, n));
    let mut values = vec![0.0; shape.elements()];
    let mut bytes = vec![0; shape.elements() * 4];
    for part in [Part::Train, Part::Test] {
        count(&mut hash, dataset.len(part));
        for index in 0..dataset.len(part) {
            hash.update(dataset.read(part, index, &mut values).to_le_bytes());
            for (four, value) in bytes.chunks_exact_mut(4).zip(&values) {
                four.copy_from_slice(&value.to_le_bytes());
            }
            hash.update(&bytes);
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
