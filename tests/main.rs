//! Tests of the whole: the house's invariants, the shipped spaces' figures, the command line.

mod commands;
mod exports;
mod refusals;
mod runs;
mod search_spaces;
mod tidy;
mod workbench;
