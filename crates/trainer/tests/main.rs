//! Whole searches and trainings: one program, since each that is linked takes as long as its tests.

mod devices;
mod divergence;
mod estimators;
mod planted;
mod ranks;
mod runs;
mod support;
