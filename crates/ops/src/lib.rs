//! What a choice computes.
//!
//! The one decision here is that a candidate is two things. Its descriptor, a [`Candidate`], is a plain value that
//! knows what the operation costs at a [`search_space::Site`]; the [`Op`] it builds there holds indices of weights and
//! runs forward and back. So a space is checked and counted without a single tensor, and a network is built by the
//! very object that counted it. The [`Catalog`] maps words to descriptors and may be extended by a program.

pub mod autograd;
pub mod builder;
pub mod candidates;
pub mod catalog;
mod error;
mod footprint;
pub mod kernels;
pub mod layers;
pub mod op;
pub mod params;
mod returned;
mod sketch;
mod summand;

pub use autograd::Autograd;
pub use builder::ParamBuilder;
pub use candidates::Candidate;
pub use catalog::{Arguments, Catalog, Definition, Parameter};
pub use error::Error;
pub use footprint::{Footprint, Output, Side, VECTOR};
pub use op::{Backward, Draw, Forward, Layer, Mode, Op, Saved};
pub use params::{BatchStats, Gradients, ParamStore, RunningStats, StatId, Statistics, WeightId};
pub use returned::Returned;
pub use sketch::Sketch;
pub use summand::Summand;
