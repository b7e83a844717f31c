//! TensorBoard's events, written while a run goes on.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;
use strait::report::tensorboard;

use crate::failure::Failure;

const PREFIX: &str = "events.out.tfevents.";
const SUFFIX: &str = ".strait";

/// The event file of a run, in its directory `tensorboard`; a record is written as its epoch ends.
#[derive(Debug)]
pub(crate) struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Begins the file of the run in `run`, in place of an older one, with the epochs that the search has done.
    pub(crate) fn begin(run: &Path) -> Result<Self, Failure> {
        clear(run)?;
        let (dir, now) = (run.join("tensorboard"), now());
        let path = dir.join(format!("{PREFIX}{now:.0}{SUFFIX}"));
        let made = fs::create_dir_all(&dir).and_then(|()| File::create(&path));
        let file = made.map_err(|error| Failure::new(format!("cannot make {}", path.display()), error))?;
        let mut known = tensorboard::opening(now);
        known.extend(lines(run, "epochs.jsonl").iter().flat_map(|line| tensorboard::searched(line, now)));
        let events = Self { path, file };
        events.append(&known);
        Ok(events)
    }

    /// Adds the epochs that the training of the run in `run` has done.
    pub(crate) fn go_on_training(&self, run: &Path) {
        let known = lines(run, "train.jsonl");
        self.append(&known.iter().flat_map(|line| tensorboard::trained(line, now())).collect::<Vec<_>>());
    }

    /// Adds an epoch of the search.
    pub(crate) fn searched(&self, summary: &impl Serialize) {
        self.append(&tensorboard::searched(&value(summary), now()));
    }

    /// Adds an epoch of the training.
    pub(crate) fn trained(&self, summary: &impl Serialize) {
        self.append(&tensorboard::trained(&value(summary), now()));
    }

    /// A full disk stops no search: the run has its own lines, from which `strait report` writes the same events.
    fn append(&self, bytes: &[u8]) {
        if let Err(error) = (&self.file).write_all(bytes) {
            tracing::warn!(%error, "cannot write {}; the run goes on", self.path.display());
        }
    }
}

/// Removes the event files of an older run in `run`.
pub(crate) fn clear(run: &Path) -> Result<(), Failure> {
    let dir = run.join("tensorboard");
    let entries = match fs::read_dir(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read.and_then(Iterator::collect::<io::Result<Vec<_>>>),
    };
    let fail = |error| Failure::new(format!("cannot clear {}", dir.display()), error);
    for entry in entries.map_err(fail)? {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            fs::remove_file(entry.path()).map_err(fail)?;
        }
    }
    Ok(())
}

fn lines(run: &Path, file: &str) -> Vec<Value> {
    let text = fs::read_to_string(run.join(file)).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn value(summary: &impl Serialize) -> Value {
    serde_json::to_value(summary).expect("a summary is plain values")
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
