//! How a run is shown.
//!
//! The one design decision: **a report is data and a page that knows nothing else.** [`Report::read`] turns run
//! directories into one JSON value, numbers as the runs wrote them and a verdict in words; [`page`] puts it into a
//! single HTML file that draws it, without server or network. The live page of a search is the same file, asking for
//! the same value again; and [`tensorboard`] says the same numbers to another program.

mod page;
mod read;
pub mod tensorboard;
#[cfg(test)]
mod tests;
mod verdict;

pub use page::page;
pub use read::{Error, Report};
