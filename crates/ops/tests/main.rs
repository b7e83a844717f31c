//! Every operation of the catalog, against PyTorch's numbers, against finite differences and against its own cost.

mod battery;
mod costs;
mod draws;
mod fixtures;
mod own_words;
#[path = "support/reference.rs"]
mod reference;
#[path = "support/running.rs"]
mod running;
