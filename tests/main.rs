//! Tests of the whole: the house's invariants, the shipped spaces' figures, the command line.

mod tidy;
