//! The walk against PyTorch, against itself and against finite differences.

#[path = "../../../ops/tests/support/reference.rs"]
mod reference;

mod arithmetic;
mod child;
mod edges;
mod gates;
mod memory;
mod names;
mod nets;
mod partial;
mod readers;
mod rig;
