//! What operations hold in memory between their forward and their backward.

use search_space::Cost;

/// Where an operation runs: the two sides do not write the same maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The CPU, whose kernels make gradients between two layers piece by piece.
    Host,
    /// A GPU, whose kernels write what they compute, and are sent together.
    Device,
}

/// What an operation in training holds, in numbers of one example.
///
/// An estimate of memory runs over these instead of tensors: maps are counted, vectors of a number a channel are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Whether it keeps its input for the backward.
    pub input: bool,
    /// Kept for the backward beside input and output.
    pub kept: u64,
    /// What becomes of its output.
    pub output: Output,
    /// Alive at once in the backward, beside the gradients at output and input.
    pub passing: u64,
    /// Whether it reads maps whose channels lie side by side where they are, and does not join them first.
    pub beside: bool,
}

/// What an operation's output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Its input, and no map of its own.
    Input,
    /// A map of its own, which it does not keep.
    Fresh,
    /// A map of its own, which it keeps for the backward.
    Kept,
    /// One of the maps that are kept, with a batch norm still to be applied: by the sum that reads it.
    Waiting,
}

/// Channels that fill every processor's vectors of `f32`: what estimates ask where a kernel asks its own processor's.
pub const VECTOR: usize = 16;

impl Footprint {
    /// Of an operation of which no more is known than its cost: it keeps its input, and its output is a map of its own.
    #[must_use]
    pub fn of(cost: &Cost) -> Self {
        Self { input: true, kept: cost.saved, output: Output::Fresh, passing: cost.output, beside: false }
    }

    /// Of an operation that ends in a batch norm of `output` numbers, keeps `kept`, the norm's input among them, and lets
    /// `passing` pass on the CPU.
    pub(crate) fn normed(side: Side, kept: u64, output: u64, passing: u64) -> Self {
        // On a device the norm's backward writes a map between the layers.
        let between = if side == Side::Device { output } else { 0 };
        Self { input: true, kept, output: Output::Waiting, passing: passing + between, beside: false }
    }
}
