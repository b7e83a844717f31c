//! What the innermost loops of products read.

/// Offsets at one distance: `first`, `first + step`, …, `len` of them, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: usize,
    pub(crate) step: usize,
    pub(crate) len: usize,
}

impl Run {
    pub(crate) fn last(&self) -> usize {
        self.first + (self.len - 1) * self.step
    }

    pub(crate) fn offsets(self) -> impl Iterator<Item = usize> {
        (0..self.len).map(move |i| self.first + i * self.step)
    }
}

/// Offsets as runs, in their order.
pub(crate) fn runs(offsets: impl IntoIterator<Item = usize>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for next in offsets {
        match runs.last_mut() {
            Some(run) if run.len == 1 && next > run.first => (run.step, run.len) = (next - run.first, 2),
            Some(run) if run.len > 1 && next == run.last() + run.step => run.len += 1,
            _ => runs.push(Run { first: next, step: 1, len: 1 }),
        }
    }
    runs
}

/// A matrix `(K, n)` read a vector at a time: row `k` of vector `v` lies at `k·row + v·vector`.
#[derive(Clone, Copy)]
pub(crate) struct Panels<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) row: usize,
    pub(crate) vector: usize,
}
