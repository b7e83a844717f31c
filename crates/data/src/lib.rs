//! What a search learns from.
//!
//! The one design decision: a data set answers single examples, and everything that must be
//! reproducible stands between it and the batch. A [`Dataset`] knows neither order nor chance;
//! a [`Subset`] says which examples, a [`BatchPlan`] in which order and how disturbed, and
//! [`batches`] prefetches them on one background thread. A batch is a function of the data, the
//! plan and its number alone, so that a resumed epoch and a machine with more threads see the same bytes.
//!
//! The parts that must not mix are types: [`SearchData`] holds the examples that weight steps and
//! architecture steps draw from, disjoint by construction, and has no place for the test part;
//! [`TrainData`] and [`TestData`] cannot stand in for each other.
//!
//! ```
//! use candle_core::{DType, Device};
//! use strait_data::{BatchPlan, DataOptions, Normalize, SearchData, Split, batches, open};
//!
//! let digits = open(&"digits".parse()?, &DataOptions::default())?;
//! let data = SearchData::split(digits.clone(), &Split::default())?;
//! let plan = BatchPlan { normalize: Some(Normalize::of(&*digits)), ..BatchPlan::shuffled(64, 0, 0) };
//! let first = batches(data.weights(), plan, DType::F32, &Device::Cpu)?.next().expect("not empty")?;
//! assert_eq!(first.x.dims(), [64, 8, 8, 1]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod augment;
mod batches;
mod chance;
mod dataset;
mod datasets;
mod drawn;
mod error;
mod inspect;
mod normalize;
mod picture;
mod spec;
mod split;

pub use augment::{Augment, Disturbance};
pub use batches::{Batch, BatchPlan, Batches, Order, Tail, batches};
pub use dataset::{DataInfo, Dataset, Part, fingerprint};
pub use datasets::{Examples, InMemory, Values};
pub use drawn::{Drawn, Draws, drawn};
pub use error::{Error, ErrorKind, Place};
pub use inspect::{ClassCount, Inspection, Problem, inspect};
pub use normalize::Normalize;
pub use picture::{contact_sheet, picture, png, rows};
pub use spec::{DataOptions, DataSpec, Form, Header, open};
pub use split::{SearchData, Split, Subset, TestData, TrainData};
