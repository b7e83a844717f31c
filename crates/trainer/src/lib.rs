//! How a search learns and what it decided.
//!
//! The one decision here is who owns the loop: the caller. [`Search::next_step`] makes one bilevel step and returns,
//! [`Search::next_epoch`] returns after an epoch; progress bars, checkpoints, signals and logs are what a caller does in
//! between, so nothing is called back and no trait is implemented to be told. It can be done because a search is a value
//! whose whole state is its numbers: chance is a function of `(seed, stream, step)` ([`Seed`]), schedules are functions
//! of the progress ([`Schedule`]), and a checkpoint is therefore weights, logits, moments and four counters. A resumed
//! run equals an uninterrupted one to the bit.
//!
//! Only this crate knows time. Below it, numbers are handed in.
//!
//! Weights of candidates that did not run in a step do not move in it: no decay, no momentum ([`optimizer::Sgd`] says
//! why that has to be said).

pub mod config;
pub mod derive;
pub mod optimizer;

mod bilevel;
mod checkpoint;
mod enumerate;
mod error;
mod evaluate;
mod exam;
mod feed;
mod machine;
mod mix;
mod regularize;
mod retrain;
mod run_dir;
mod schedule;
mod score;
mod search;
mod seed;
mod storage;
mod summary;
mod tau;
mod watch;

pub use config::{
    ArchConfig, Course, DataConfig, Layer, Order, SearchConfig, SplitBy, StopOn, TauConfig, TrainConfig,
    TrainSettings, WatchConfig, WeightsConfig,
};
pub use derive::Decision;
pub use error::{Error, FileError};
pub use evaluate::Gap;
pub use exam::Exam;
pub use feed::resident;
pub use machine::{Host, Machine};
pub use retrain::Retraining;
pub use run_dir::{Overwrite, RunDir};
pub use schedule::{Schedule, Shape};
pub use score::Score;
pub use search::Search;
pub use seed::{Seed, Stream};
#[doc(hidden)]
pub use storage::Cut;
pub use summary::{EpochSummary, GroupSummary, Progress, StepReport, TrainSummary};
pub use watch::{Collapse, GradientNoise, GroupNoise, KindCollapse};
