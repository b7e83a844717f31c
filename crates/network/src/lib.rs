//! How choices compose into a network.
//!
//! One walk serves both networks: a [`Supernet`] holds every candidate of every edge and asks gates which of them run,
//! a [`Network`] holds the one that a genotype names. The walk back is ours, not an autograd's, because a supernet is a
//! graph that we know: it visits blocks, nodes and edges in the reverse order of the forward, computes only what the
//! step needs ([`Purpose`]) and drops every saved state as soon as it is used. Under straight-through gates the
//! unchosen candidates run inside their edge's backward, one after the other, and nothing of them is kept
//! (as ProxylessNAS's `full_v2` does; Cai et al., 2019).

mod arithmetic;
mod backward;
mod blueprint;
mod bypass;
mod child;
mod error;
mod forward;
mod graph;
mod memory;
mod routes;
mod supernet;
mod terms;
#[cfg(test)]
mod tests;
mod trace;

pub use arithmetic::arithmetic;
pub use backward::{Answers, Slopes};
pub use blueprint::{BlockSketch, Blueprint};
pub use child::{Network, inherit};
pub use error::{Error, Place};
pub use forward::Logits;
pub use memory::StepMemory;
pub use routes::Routes;
pub use supernet::Supernet;
pub use trace::{Purpose, Trace};
