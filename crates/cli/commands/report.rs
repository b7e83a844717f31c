//! `strait report`: runs as one page.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use strait::ops::Catalog;
use strait::report::{self, page, tensorboard};

use crate::options::write;
use crate::{answer::Answer, failure::Failure};

const EXAMPLES: &str = "\
Examples:
  strait report runs/digits-seed0 -o report.html
  strait report runs/digits-seed0 runs/digits-seed1 runs/digits-seed2 -o seeds.html
  strait report runs/digits-seed0 --tensorboard events/";

/// `strait report`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Report {
    /// Directories of runs, ended or not; several are laid over one another, with mean and spread
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Where to write the page: one HTML file that needs no server and no network [default: report.html]
    #[arg(short, long, value_name = "FILE.html")]
    output: Option<PathBuf>,
    /// Write TensorBoard's event files to this directory, one folder a run
    #[arg(long, value_name = "DIR")]
    tensorboard: Option<PathBuf>,
}

impl Report {
    /// Writes the page, and the event files where they are asked for.
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let paths: Vec<&Path> = self.runs.iter().map(PathBuf::as_path).collect();
        let report = report::Report::read(&paths, &Catalog::standard())?;
        let mut told = String::new();
        if let Some(dir) = &self.tensorboard {
            write_events(&paths, dir)?;
            told += &format!("wrote {}; look at it with: tensorboard --logdir {0}\n", dir.display());
        }
        if self.output.is_some() || self.tensorboard.is_none() {
            let path = self.output.clone().unwrap_or_else(|| PathBuf::from("report.html"));
            write(&path, page(&report).as_bytes())?;
            told += &format!("wrote {}\n", path.display());
        }
        for run in &report.runs {
            told += &format!(
                "\n{}: {}\n",
                run["name"].as_str().unwrap_or_default(),
                run["verdict"].as_str().unwrap_or_default()
            );
            for warning in run["warnings"].as_array().into_iter().flatten() {
                told += &format!("warning: {}\n", warning.as_str().unwrap_or_default());
            }
        }
        Ok(Answer::text(told))
    }
}

/// One event file for each run, in a folder of its name.
fn write_events(paths: &[&Path], dir: &Path) -> Result<(), Failure> {
    let report = report::Report::read(paths, &Catalog::standard())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    for run in &report.runs {
        let folder = dir.join(run["name"].as_str().unwrap_or_default());
        fs::create_dir_all(&folder)
            .map_err(|error| Failure::new(format!("cannot make {}", folder.display()), error))?;
        let file = folder.join(format!("events.out.tfevents.{}.strait", now.as_secs()));
        write(&file, &tensorboard::events(run, now.as_secs_f64()))?;
    }
    Ok(())
}
