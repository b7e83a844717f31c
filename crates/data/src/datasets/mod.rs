//! The data sets that come with the crate, one file each.

pub(crate) mod cifar;
pub(crate) mod csv;
pub(crate) mod digits;
pub(crate) mod folder;
pub(crate) mod idx;
mod in_memory;
mod labels;
pub(crate) mod npz;
mod read;
pub(crate) mod series;

pub use in_memory::{Examples, InMemory, Values};
pub(crate) use read::open as open_text;

#[cfg(test)]
mod tests;
