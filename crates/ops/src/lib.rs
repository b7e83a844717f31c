//! What a choice computes.
//!
//! knows what the operation costs at a [`search_space::Site`]; the [`Op`] it builds there holds indices of weights and
//! runs forward and back. So a space is checked and counted without a single tensor, and a network is built by the

pub mod autograd;
pub mod builder;
pub mod kernels;
pub mod layers;
pub mod op;
pub mod params;

pub use autograd::Autograd;
pub use builder::ParamBuilder;
pub use op::{Backward, Draw, Forward, Layer, Mode, Op, Saved};
pub use params::{BatchStats, Gradients, ParamStore, RunningStats, StatId, Statistics, WeightId};
