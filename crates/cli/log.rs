//! The subscriber: events to stderr as asked, and to a run's `log.txt` without times.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use clap::{Args, ValueEnum};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::console::Console;
use crate::failure::Failure;

/// How much is said on stderr, and how.
#[derive(Args, Debug)]
#[command(next_help_heading = "Output")]
pub(crate) struct LogArgs {
    /// Say more on stderr; twice: everything (`RUST_LOG` decides where it is set)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub(crate) verbose: u8,
    /// Say nothing on stderr but errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Write log events as words or as one JSON object each
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
}

/// How an event looks.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// Words.
    Text,
    /// One JSON object a line.
    Json,
}

/// The log of a run: nothing is written until a run begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunLog(Arc<Mutex<Option<File>>>);

impl RunLog {
    /// Appends every event from now on to `log.txt` in `run`.
    pub(crate) fn begin(&self, run: &Path) -> Result<(), Failure> {
        let path = run.join("log.txt");
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(|error| Failure::new(format!("cannot write {}", path.display()), error))?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        Ok(())
    }
}

/// Installs the subscriber of the process.
pub(crate) fn install(args: &LogArgs, console: &Console) -> RunLog {
    let level = match (args.quiet, args.verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "info",
        (_, 2) => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let console = console.clone();
    let stderr = fmt::layer().with_target(false).with_writer(move || Lines(console.clone()));
    let stderr: Box<dyn Layer<Registry> + Send + Sync> = match args.log_format {
        LogFormat::Text => stderr.without_time().with_filter(filter).boxed(),
        LogFormat::Json => stderr.json().with_filter(filter).boxed(),
    };
    // Equal runs have equal logs: no times, no threads, no colors, and only what strait itself says.
    let log = RunLog::default();
    let file = fmt::layer().without_time().with_ansi(false).with_writer(log.clone());
    let ours = EnvFilter::new("off,strait=info,strait_trainer=info,strait_network=info,strait_data=info");
    tracing_subscriber::registry().with(stderr).with(file.with_filter(ours)).init();
    log
}

/// Events go above the progress bars.
struct Lines(Console);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for RunLog {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for RunLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(file) => file.write(bytes),
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
