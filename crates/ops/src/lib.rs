//! What a choice computes.

pub mod kernels;
pub mod op;
pub mod params;

pub use op::{Backward, Draw, Forward, Layer, Mode, Op, Saved};
pub use params::{BatchStats, Gradients, ParamStore, RunningStats, StatId, Statistics, WeightId};
