//! How a choice is relaxed.
//!
//! A discrete choice has no derivative. An [`Estimator`] replaces it by something that has one: it takes an `(E, K)`
//! matrix of logits (`E` choices among `K` candidates each) and a temperature, draws noise from the generator it is
//! given, and returns [`Gates`], an `(E, K)` matrix of weights whose value says what runs and whose graph says how a
//! gradient comes back.
//!
//! The one design decision: **an estimator never sees what it chooses among.** It says what to run ([`Paths`]) and
//! what answer it needs ([`Demand`]); whoever owns the candidates runs them as it likes and answers with `∂L/∂gates`;
//! [`Gates::pullback`] carries that to the logits and the temperature. Everything in here is a matrix of a few hundred
//! numbers, so it is computed in `f64`, by candle's ordinary autograd. Hence the crate knows no network, no loss, no
//! epoch (of this workspace it needs `search-space` alone, for the names of groups, edges and candidates), and serves any candle model with a discrete choice: experts, kernel widths, quantization levels, tokens.
//!
//! ```
//! use candle_core::{DType, Device, Tensor, Var};
//! use strait_controller::{Estimator, Paths, Tau, estimators::GumbelSt};
//! use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
//!
//! // Which of x, x², x³ explains y = x³? One choice (E = 1), three candidates (K = 3).
//! let x = Tensor::new(&[-1.5f64, -0.5, 0.5, 1.5], &Device::Cpu)?;
//! let candidates = Tensor::stack(&[x.clone(), x.sqr()?, x.powf(3.0)?], 0)?; // (K, N)
//! let target = candidates.get(2)?;
//! let logits = Var::zeros((1, 3), DType::F64, &Device::Cpu)?;
//! let tau = Tau::new(1.0)?.to_tensor(DType::F64, &Device::Cpu)?;
//!
//! let mut rng = ChaCha8Rng::seed_from_u64(0);
//! for _ in 0..100 {
//!     let gates = GumbelSt.relax(&logits, &tau, &mut rng)?; // the choice, with a derivative
//!     assert!(matches!(gates.paths(), Paths::Single(chosen) if chosen.len() == 1));
//!     let output = gates.weights().matmul(&candidates)?.squeeze(0)?; // (N,)
//!     let loss = (output - &target)?.sqr()?.mean_all()?;
//!     let gradient = loss.backward()?.remove(&logits).expect("the loss depends on the logits");
//!     logits.set(&(logits.as_tensor() - gradient * 0.5)?)?;
//! }
//! assert_eq!(logits.argmax(1)?.to_vec1::<u32>()?, [2]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`ArchParams`] holds the logits of a whole search space, one matrix per group of edges that share their candidates,
//! and turns the network's answers into gradients; [`EdgeParams`] says how strongly each edge counts; [`categorical`] reads a row of logits as a distribution.

pub mod categorical;
pub mod estimators;

mod arch_params;
mod edge_params;
mod error;
mod estimator;
mod gates;
mod noise;
mod tau;

pub use arch_params::ArchParams;
pub use edge_params::EdgeParams;
pub use error::Error;
pub use estimator::Estimator;
pub use gates::{Demand, Gates, Paths};
pub use noise::gumbel;
pub use tau::{NotATemperature, Tau};
