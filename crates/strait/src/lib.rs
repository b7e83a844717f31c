//! The facade: one name for everything strait offers, and no logic of its own.
//!
//! Every crate of the house is a module here; the names that a first program needs stand at the top.
//!
//! ```no_run
//! use candle_core::Device;
//! use strait::{Catalog, DataOptions, SearchConfig, SearchData, Search, Space, open};
//!
//! let catalog = Catalog::standard();
//! let space = Space::load("search_spaces/digits.yaml".as_ref(), &catalog)?;
//! let config = SearchConfig { epochs: 5, warmup_epochs: 2, ..SearchConfig::default() };
//! let data = SearchData::split(open(&"digits".parse()?, &DataOptions::default())?, &config.split())?;
//! let mut search = Search::new(&space, &catalog, &data, config, &Device::Cpu)?;
//! while let Some(epoch) = search.next_epoch(&data)? {
//!     println!("{epoch}");
//! }
//! println!("{}", search.derive(space.rule(), &data)?.connected()?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub use candle_core::utils::cuda_is_available;
pub use candle_core::{DType, Device, Result as TensorResult, Tensor, Var};

pub use controller;
pub use data;
pub use export;
pub use lab;
pub use network;
pub use ops;
pub use report;
pub use search_space as space;
pub use trainer;

pub use controller::{ArchParams, Demand, Estimator, Gates, Paths, Tau, estimators};
pub use data::{DataOptions, DataSpec, Dataset, SearchData, Split, TestData, TrainData, open};
pub use network::{Network, Supernet};
pub use ops::{Candidate, Catalog, Op, ParamStore};
pub use search_space::{Genotype, Layout, Rule, Space, Vocabulary};
pub use trainer::{
    Decision, EpochSummary, Progress, Retraining, RunDir, Search, SearchConfig, Seed, TrainConfig,
    TrainSummary,
};
