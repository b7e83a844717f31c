//! The command line of strait: how a person asks, and is answered.
//!
//! One decision runs through it: a command returns its `Answer` and prints nothing. Only this file writes to
//! stdout, once, at the end; so `--json` is one object whatever happened before, a closed pipe is no panic, and every
//! word on the way (progress, log, errors) is on stderr.

mod answer;
mod commands;
mod console;
mod events;
mod failure;
mod host;
mod interrupt;
mod live;
mod log;
mod model;
mod options;
mod progress;
mod room;

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use strait::ops::kernels::recycling::Recycling;

use crate::{commands::Command, console::Console, log::LogArgs};

/// candle allocates a fresh tensor per operation; with the system's allocator, and with mimalloc alone, a step's time
/// goes into pages that the system takes back, clears and lends out again.
#[global_allocator]
static ALLOCATOR: Recycling<MiMalloc> = Recycling::new(MiMalloc);

/// Searches neural architectures by gradient: a YAML file says what may be chosen, training decides.
#[derive(Debug, Parser)]
#[command(
    name = "strait",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    log: LogArgs,
}

const AFTER_HELP: &str = "\
Examples:
  strait search                                    a shipped space on embedded digits, in minutes
  strait search nas-bench-201 --data idx:fashion   a shipped space, data of your own
  strait new cell -o my.yaml && strait check my.yaml
  strait search my.yaml --out runs/mine --epochs 20
  strait export runs/mine --format svg -o cell.svg

Exit codes: 0 done, 1 failed, 2 misuse or invalid input, 130 interrupted (and resumable).";

fn main() -> ExitCode {
    let cli = Cli::parse();
    let console = Console::new(cli.log.quiet);
    let log = log::install(&cli.log, &console);
    let answer = interrupt::install().and_then(|()| cli.command.run(&console, &log));
    let answered = answer.and_then(|answer| answer.print().map(|()| answer.code));
    answered.unwrap_or_else(|failure| {
        console.say(&failure.to_string());
        failure.code
    })
}
