//! The sub-commands, one file each.

mod bench;
mod check;
mod convert;
mod data;
mod derive;
mod doctor;
mod eval;
mod export;
mod lab;
mod list;
mod new;
mod predict;
mod report;
mod search;
mod train;
mod verify;

use clap::Subcommand;

use crate::{answer::Answer, console::Console, failure::Failure, log::RunLog};

/// What a person may ask for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Search a space on data: train the choices with the weights, derive, retrain, report
    Search(search::Search),
    /// Check a space file and count it: architectures, parameters, operations, memory
    Check(check::Check),
    /// Write a commented space to start from
    New(new::New),
    /// Turn a run's logits into a genotype, by any rule
    Derive(derive::Derive),
    /// Train a genotype from scratch and test it once
    Train(train::Train),
    /// Measure a run's networks again
    Eval(eval::Eval),
    /// Write a run or a genotype in another format
    Export(export::Export),
    /// Say a genotype in another notation: strait's, NAS-Bench-201's or DARTS's
    Convert(convert::Convert),
    /// Classify pictures or rows with a trained network
    Predict(predict::Predict),
    /// Check an exported network: its fingerprint and, given data, its accuracy
    Verify(verify::Verify),
    /// Look at data before anything learns from them: counts, balance, problems, pictures
    Data(data::Data),
    /// Measure bias and variance of the estimators where the truth is known: numbers and pictures
    Lab(lab::Lab),
    /// Show runs as one HTML page that opens from disk
    Report(report::Report),
    /// List what strait knows: spaces, operations, data, estimators
    List(list::List),
    /// Say whether a GPU can be computed on here, and what is missing
    Doctor(doctor::Doctor),
    /// Measure how fast this machine searches
    Bench(bench::Bench),
}

impl Command {
    /// Does what was asked.
    pub(crate) fn run(&self, console: &Console, log: &RunLog) -> Result<Answer, Failure> {
        match self {
            Self::Search(args) => args.run(console, log),
            Self::Check(args) => args.run(),
            Self::New(args) => args.run(),
            Self::Derive(args) => args.run(),
            Self::Train(args) => args.run(console, log),
            Self::Eval(args) => args.run(console),
            Self::Export(args) => args.run(),
            Self::Convert(args) => args.run(),
            Self::Predict(args) => args.run(console),
            Self::Verify(args) => args.run(),
            Self::Data(args) => args.run(),
            Self::Lab(args) => args.run(),
            Self::Report(args) => args.run(),
            Self::List(args) => args.run(),
            Self::Doctor(args) => args.run(),
            Self::Bench(args) => args.run(console),
        }
    }
}
