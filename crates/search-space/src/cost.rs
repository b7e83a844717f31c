//! What an operation costs at a site, counted exactly.

use std::{iter::Sum, ops::Add};

use serde::{Deserialize, Serialize};

/// Exact counts for one example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Trainable weights; running statistics are not among them.
    pub params: u64,
    /// Multiply-accumulates of one example's forward pass, convolutions and linear layers only.
    pub macs: u64,
    /// Numbers kept for the backward pass of one example, the input left out.
    pub saved: u64,
    /// Numbers in the output of one example.
    pub output: u64,
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            params: self.params + other.params,
            macs: self.macs + other.macs,
            saved: self.saved + other.saved,
            output: self.output + other.output,
        }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), Add::add)
    }
}
