//! `strait bench`: how fast this machine searches, and how fast it could.

mod noise;
mod ops;
mod roofline;
mod schedule;
mod step;

use clap::{Args, Subcommand};

use crate::{answer::Answer, console::Console, failure::Failure};

/// `strait bench`
#[derive(Args, Debug)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Time whole steps of a search: one of the weights and one of the architecture, on noise
    Step(step::Step),
    /// Time every operation where supernets run it, beside the roofline
    Ops(ops::Ops),
}

impl Bench {
    /// Measures.
    pub(crate) fn run(&self, console: &Console) -> Result<Answer, Failure> {
        match &self.what {
            What::Step(args) => args.run(console),
            What::Ops(args) => args.run(console),
        }
    }
}
