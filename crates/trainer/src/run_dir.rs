//! The directory of a run: everything about it, and nothing twice.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use search_space::Genotype;
use serde::Serialize;

use crate::{
    Cut, EpochSummary, Error, Machine, SearchConfig, TrainConfig, TrainSummary,
    checkpoint::Checkpoint,
    error::FileError,
    storage::{self, file},
};

/// A directory that holds one search, one training, or both.
///
/// | file | content |
/// |---|---|
/// | `config.yaml`, `train.yaml` | every setting of the search, of the training |
/// | `space.yaml`, `seed` | the space as written; the seed |
/// | `epochs.jsonl`, `train.jsonl` | one line per epoch |
/// | `search.safetensors`, `train.safetensors` | the checkpoints |
/// | `genotype.yaml` | the decision |
/// | `machine.json` | threads, paths, versions, machine, times: what may differ between equal runs |
///
/// Files are replaced as wholes, so that a kill at any instant leaves the old one or the new one. One process at a time
/// holds the run ([`RunDir::create`], [`RunDir::open`]); any number may look ([`RunDir::view`]).
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    cut: Cut,
    /// Holds the lock while it lives; absent for those who only look.
    lock: Option<File>,
}

/// What becomes of a run that is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// It stays, and creating another in its place is an error.
    Refuse,
    /// Its files go; others in the directory do not.
    Force,
}

const LOCK: &str = "lock";
const CONFIG: &str = "config.yaml";
const TRAIN: &str = "train.yaml";
const SPACE: &str = "space.yaml";
const SEED: &str = "seed";
const GENOTYPE: &str = "genotype.yaml";
const MACHINE: &str = "machine.json";
/// Files that others write into the directory: the log, the result.
const GUESTS: [&str; 3] = ["log.txt", "result.json", "genotype.svg"];

/// Whose checkpoint, and whose lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Search,
    Training,
}

impl Part {
    fn checkpoint(self) -> &'static str {
        match self {
            Self::Search => "search.safetensors",
            Self::Training => "train.safetensors",
        }
    }

    fn lines(self) -> &'static str {
        match self {
            Self::Search => "epochs.jsonl",
            Self::Training => "train.jsonl",
        }
    }
}

impl RunDir {
    /// Makes the directory, with its parents, and takes its lock.
    ///
    /// # Errors
    /// It holds something already (with [`Overwrite::Force`]: something that is no run), another process holds it, or
    /// it cannot be made.
    pub fn create(path: &Path, overwrite: Overwrite) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(|error| file(path, FileError::Io("made", error)))?;
        let names = names(path)?;
        let is_run = names.iter().any(|name| name == LOCK);
        // Without settings yet, a run died before it began; nobody misses it.
        let unborn = |name: &str| {
            [LOCK, SPACE, SEED].contains(&name.trim_end_matches(".tmp")) || name.ends_with(".yaml.tmp")
        };
        match overwrite {
            Overwrite::Refuse if !names.iter().all(|name| unborn(name)) => {
                return Err(file(path, FileError::Occupied));
            }
            Overwrite::Force if !names.is_empty() && !is_run => return Err(file(path, FileError::Foreign)),
            _ => {}
        }
        let run = Self::locked(path)?;
        run.remove(|path| vec![storage::temporary(path), path.to_owned()])?;
        Ok(run)
    }

    /// Opens a run to go on with it, and takes its lock.
    ///
    /// # Errors
    /// There is no run, or another process holds it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::view(path)?;
        let run = Self::locked(path)?;
        run.remove(|path| vec![storage::temporary(path)])?;
        Ok(run)
    }

    /// Opens a run to look at; nothing can be written.
    ///
    /// # Errors
    /// There is no run.
    pub fn view(path: &Path) -> Result<Self, Error> {
        if !path.join(CONFIG).is_file() && !path.join(TRAIN).is_file() {
            return Err(file(path, FileError::NoRun));
        }
        Ok(Self { path: path.to_owned(), cut: Cut::Never, lock: None })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what a search starts from: its settings, its space, its seed.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn write_search(&self, config: &SearchConfig, space_yaml: &str) -> Result<(), Error> {
        self.write(SPACE, space_yaml.as_bytes())?;
        self.write(SEED, format!("{}\n", config.seed).as_bytes())?;
        self.write(CONFIG, config.to_yaml().as_bytes())
    }

    /// The settings of the search.
    ///
    /// # Errors
    /// The file is missing, torn or foreign.
    pub fn search_config(&self) -> Result<SearchConfig, Error> {
        SearchConfig::from_yaml(&self.text(CONFIG)?, &self.path.join(CONFIG).display().to_string())
    }

    /// The space as written.
    ///
    /// # Errors
    /// The file is missing or no text.
    pub fn space_yaml(&self) -> Result<String, Error> {
        self.text(SPACE)
    }

    /// Writes what a training starts from: its settings and its space.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn write_train(&self, config: &TrainConfig, space_yaml: &str) -> Result<(), Error> {
        self.write(SPACE, space_yaml.as_bytes())?;
        self.write(SEED, format!("{}\n", config.seed).as_bytes())?;
        self.write(TRAIN, config.to_yaml().as_bytes())
    }

    /// The settings of the training.
    ///
    /// # Errors
    /// The file is missing, torn or foreign.
    pub fn train_config(&self) -> Result<TrainConfig, Error> {
        TrainConfig::from_yaml(&self.text(TRAIN)?, &self.path.join(TRAIN).display().to_string())
    }

    /// Appends an epoch of the search; call it before `Search::save`, which a resumed run trusts.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn record(&self, epoch: &EpochSummary) -> Result<(), Error> {
        storage::append(&self.path.join(Part::Search.lines()), &line(epoch))
    }

    /// Appends an epoch of the training; call it before `Retraining::save`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn record_training(&self, epoch: &TrainSummary) -> Result<(), Error> {
        storage::append(&self.path.join(Part::Training.lines()), &line(epoch))
    }

    /// Writes the decision.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_genotype(&self, genotype: &Genotype) -> Result<(), Error> {
        self.write(GENOTYPE, genotype.to_yaml().as_bytes())
    }

    /// The decision.
    ///
    /// # Errors
    /// There is none yet, or it is torn.
    pub fn genotype(&self) -> Result<Genotype, Error> {
        let text = self.text(GENOTYPE)?;
        Genotype::from_yaml(&text).map_err(|error| {
            file(&self.path.join(GENOTYPE), FileError::Malformed(format!("a genotype: {error}")))
        })
    }

    /// Writes what may differ between equal runs.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_machine(&self, machine: &Machine) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(machine).expect("a machine is plain values");
        self.write(MACHINE, format!("{text}\n").as_bytes())
    }

    /// The numbers that whoever last worked on the run computed in: `f32`, `tf32` or `bf16`; nothing where that was not noted.
    #[must_use]
    pub fn arithmetic(&self) -> Option<String> {
        let machine: serde_json::Value = serde_json::from_str(&self.text(MACHINE).ok()?).ok()?;
        Some(machine.get("arithmetic")?.as_str()?.to_owned())
    }

    /// Replaces a file of the directory as a whole.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        storage::replace(&self.path.join(name), bytes, self.cut)
    }

    /// Cuts every later write off at `cut`, as a kill would.
    #[doc(hidden)]
    #[must_use]
    pub fn cut(self, cut: Cut) -> Self {
        Self { cut, ..self }
    }

    pub(crate) fn save(&self, part: Part, checkpoint: &Checkpoint) -> Result<(), Error> {
        self.write(part.checkpoint(), &checkpoint.to_bytes()?)
    }

    /// Hands the part's checkpoint, if there is one, to `restore`, which says how many epochs it knows; lines beyond
    /// those go.
    pub(crate) fn resume(
        &self,
        part: Part,
        restore: impl FnOnce(&Checkpoint) -> Result<usize, FileError>,
    ) -> Result<bool, Error> {
        let path = self.path.join(part.checkpoint());
        let Some(bytes) = storage::read(&path)? else {
            self.keep_epochs(part, 0)?;
            return Ok(false);
        };
        let epochs = Checkpoint::from_bytes(&bytes).and_then(|checkpoint| restore(&checkpoint));
        self.keep_epochs(part, epochs.map_err(|kind| file(&path, kind))?)?;
        Ok(true)
    }

    /// Drops the lines of epochs that the checkpoint does not know; who only looks leaves them to whoever writes.
    fn keep_epochs(&self, part: Part, epochs: usize) -> Result<(), Error> {
        if self.lock.is_none() {
            return Ok(());
        }
        storage::keep_lines(&self.path.join(part.lines()), epochs, self.cut)
    }

    fn locked(path: &Path) -> Result<Self, Error> {
        let lock = path.join(LOCK);
        let held = File::options().create(true).truncate(false).write(true).open(&lock);
        let held = held.map_err(|error| file(&lock, FileError::Io("opened", error)))?;
        match held.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), cut: Cut::Never, lock: Some(held) }),
            Err(TryLockError::WouldBlock) => Err(file(path, FileError::Busy)),
            Err(TryLockError::Error(error)) => Err(file(&lock, FileError::Io("locked", error))),
        }
    }

    /// Removes what `which` says of every file that a run may hold, and nothing else.
    fn remove(&self, which: impl Fn(&Path) -> Vec<PathBuf>) -> Result<(), Error> {
        let parts =
            [Part::Search, Part::Training].into_iter().flat_map(|part| [part.checkpoint(), part.lines()]);
        let own = [CONFIG, TRAIN, SPACE, SEED, GENOTYPE, MACHINE].into_iter().chain(GUESTS).chain(parts);
        for path in own.flat_map(|name| which(&self.path.join(name))) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(file(&path, FileError::Io("removed", error)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn text(&self, name: &str) -> Result<String, Error> {
        let path = self.path.join(name);
        fs::read_to_string(&path).map_err(|error| file(&path, FileError::Io("read", error)))
    }
}

fn names(path: &Path) -> Result<Vec<String>, Error> {
    let unreadable = |error| file(path, FileError::Io("read", error));
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    fs::read_dir(path).map_err(unreadable)?.map(|entry| Ok(name(entry.map_err(unreadable)?))).collect()
}

fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("a summary is plain values")
}

#[cfg(test)]
mod tests;
