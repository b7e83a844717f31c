//! Who may see which example.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fmt, io::Read, str::FromStr, sync::Arc};

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::chance::{Use, rng};
use crate::datasets::open_text;
use crate::{DataInfo, Dataset, Error, ErrorKind, Normalize, Part};

/// How the training part is divided between weights and architecture.
///
/// As text: `stratified:0.5` (seed 0), `stratified:0.5:7` (seed 7), `halves`, `indices:FILE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Split {
    /// Of every class, a share drawn at random goes to the weights.
    Stratified {
        /// That share, in `(0, 1)`; a class of two or more examples reaches both sides.
        fraction: f64,
        /// Which ones.
        seed: u64,
    },
    /// The first `⌊n/2⌋` examples go to the weights, in the order of the files, as in DARTS (Liu et al., 2019).
    Halves,
    /// A JSON file, gzipped or not, of the form of NAS-Bench-201's:
    /// `{"train": ["int", ["0", "5", …]], "valid": ["int", ["1", …]]}`; `train` goes to the weights.
    Indices(PathBuf),
}

/// Some examples of one part of a data set, in ascending order.
#[derive(Clone)]
pub struct Subset {
    dataset: Arc<dyn Dataset>,
    part: Part,
    indices: Arc<[usize]>,
}

/// What a search learns from: two disjoint subsets of the training part, and no field for the test part.
#[derive(Clone, Debug)]
pub struct SearchData {
    weights: Subset,
    architecture: Subset,
}

/// The whole training part: what a derived network trains on.
#[derive(Clone, Debug)]
pub struct TrainData(Subset);

/// The whole test part: what is read once, for the report.
#[derive(Clone, Debug)]
pub struct TestData(Subset);

impl SearchData {
    /// Divides the training part of `dataset`; `Stratified` reads every example once, for its label.
    ///
    /// # Errors
    /// If a side would be empty, the fraction is outside `(0, 1)`, a label is no class, or a file of indices
    /// cannot be read, repeats an index or names one that is not there.
    pub fn split(dataset: Arc<dyn Dataset>, split: &Split) -> Result<Self, Error> {
        let n = dataset.len(Part::Train);
        let (weights, architecture) = match split {
            Split::Stratified { fraction, seed } => {
                share(*fraction)?;
                stratified(&labels(&*dataset)?, *fraction, *seed)
            }
            Split::Halves => ((0..n / 2).collect(), (n / 2..n).collect()),
            Split::Indices(path) => read_indices(path, n)?,
        };
        let subset = |side: &str, indices: Vec<usize>| match indices.len() {
            0 => Err(Error::named(
                &format!("{}, split {split}, {side}", dataset.info().name),
                ErrorKind::Empty,
            )),
            _ => Ok(Subset { dataset: dataset.clone(), part: Part::Train, indices: indices.into() }),
        };
        let data = Self {
            weights: subset("weights", weights)?,
            architecture: subset("architecture", architecture)?,
        };
        tracing::info!(%split, weights = data.weights.len(), architecture = data.architecture.len(), "data divided");
        Ok(data)
    }

    /// What weight steps draw from.
    #[must_use]
    pub fn weights(&self) -> &Subset {
        &self.weights
    }

    /// What architecture steps draw from.
    #[must_use]
    pub fn architecture(&self) -> &Subset {
        &self.architecture
    }

    /// Name, shape and classes.
    #[must_use]
    pub fn info(&self) -> &DataInfo {
        self.weights.info()
    }
}

impl TrainData {
    /// All of the training part.
    ///
    /// # Errors
    /// If it is empty.
    pub fn of(dataset: Arc<dyn Dataset>) -> Result<Self, Error> {
        Subset::whole(dataset, Part::Train).map(Self)
    }

    /// The examples.
    #[must_use]
    pub fn subset(&self) -> &Subset {
        &self.0
    }
}

impl TestData {
    /// All of the test part.
    ///
    /// # Errors
    /// If it is empty.
    pub fn of(dataset: Arc<dyn Dataset>) -> Result<Self, Error> {
        Subset::whole(dataset, Part::Test).map(Self)
    }

    /// The examples.
    #[must_use]
    pub fn subset(&self) -> &Subset {
        &self.0
    }
}

impl Subset {
    fn whole(dataset: Arc<dyn Dataset>, part: Part) -> Result<Self, Error> {
        match dataset.len(part) {
            0 => Err(Error::named(&format!("{}, {part:?} part", dataset.info().name), ErrorKind::Empty)),
            n => Ok(Self { dataset, part, indices: (0..n).collect() }),
        }
    }

    /// The `n` examples spread evenly over this subset, or all where it has fewer: for estimates that need not see all.
    #[must_use]
    pub fn thinned(&self, n: usize) -> Self {
        let (n, len) = (n.clamp(1, self.len()), self.len());
        let indices = (0..n).map(|i| self.indices[i * len / n]).collect();
        Self { dataset: self.dataset.clone(), part: self.part, indices }
    }

    /// Examples; at least one.
    #[expect(clippy::len_without_is_empty, reason = "a subset is never empty")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Name, shape and classes.
    #[must_use]
    pub fn info(&self) -> &DataInfo {
        self.dataset.info()
    }

    /// Where the examples stand in their part, ascending.
    #[must_use]
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// Mean and deviation of the whole training part of the data set that this subset is of: what every part is
    /// normalized with.
    #[must_use]
    pub fn normalize(&self) -> Normalize {
        Normalize::of(&*self.dataset)
    }

    /// Whether both are of the same part of the same data set, so that an index means the same example.
    #[must_use]
    pub fn shares_part(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.dataset, &other.dataset) && self.part == other.part
    }

    /// Examples of the whole part.
    #[must_use]
    pub fn part_len(&self) -> usize {
        self.dataset.len(self.part)
    }

    /// Reads the example that stands at `index` of the part, whether or not this subset has it, and returns its label;
    /// see [`Dataset::read`].
    ///
    /// # Errors
    /// If the label is no class.
    pub fn read(&self, index: usize, out: &mut [f32]) -> Result<u32, Error> {
        let (label, info) = (self.dataset.read(self.part, index, out), self.info());
        if label as usize >= info.classes.len() {
            return Err(mislabelled(&info.name, index, label, info.classes.len()));
        }
        Ok(label)
    }
}

/// Divides places by their labels: of every class `fraction`, rounded, to the first side, the rest to the second.
///
/// A class of two or more reaches both sides, a single example the first. Both sides ascend.
pub(crate) fn stratified(labels: &[u32], fraction: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let mut classes = BTreeMap::<u32, Vec<usize>>::new();
    for (index, label) in labels.iter().enumerate() {
        classes.entry(*label).or_default().push(index);
    }
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (label, mut members) in classes {
        members.shuffle(&mut rng(seed, Use::Split, u64::from(label), 0));
        let n = members.len();
        let taken = ((n as f64 * fraction).round() as usize).clamp(1, (n - 1).max(1));
        second.extend(members.split_off(taken));
        first.extend(members);
    }
    first.sort_unstable();
    second.sort_unstable();
    (first, second)
}

fn share(fraction: f64) -> Result<(), Error> {
    match fraction > 0.0 && fraction < 1.0 {
        true => Ok(()),
        false => Err(Error::setting("split", fraction, "a fraction above 0 and below 1")),
    }
}

fn labels(dataset: &dyn Dataset) -> Result<Vec<u32>, Error> {
    let DataInfo { name, shape, classes } = dataset.info();
    let mut values = vec![0.0; shape.elements()];
    let read = |index| match dataset.read(Part::Train, index, &mut values) {
        label if (label as usize) < classes.len() => Ok(label),
        label => Err(mislabelled(name, index, label, classes.len())),
    };
    (0..dataset.len(Part::Train)).map(read).collect()
}

/// Example `index` of a data set by name has a label that is no class.
fn mislabelled(name: &str, index: usize, label: u32, classes: usize) -> Error {
    let kind = ErrorKind::Label { found: label.to_string(), accepted: format!("below {classes}") };
    Error::record(Path::new(name), index, kind)
}

/// NAS-Bench-201's file: `(type, values)` under each key, the values as text.
#[derive(Deserialize)]
struct IndexFile {
    train: (String, Vec<String>),
    valid: (String, Vec<String>),
}

fn read_indices(path: &Path, n: usize) -> Result<(Vec<usize>, Vec<usize>), Error> {
    let malformed = |what: String| Error::file(path, ErrorKind::Malformed(what));
    let mut text = String::new();
    open_text(path)?.read_to_string(&mut text).map_err(|error| Error::file(path, error))?;
    let file: IndexFile = serde_json::from_str(&text).map_err(|error| {
        malformed(format!(
            "{error}; accepted: {{\"train\": [\"int\", [\"0\", …]], \"valid\": [\"int\", […]]}}"
        ))
    })?;
    let mut seen = vec![false; n];
    let mut side = |key: &str, values: Vec<String>| {
        let mut indices = Vec::with_capacity(values.len());
        for (at, text) in values.iter().enumerate() {
            let what = |what: &str| malformed(format!("{key}[{at}] is {text}, {what}"));
            let index = text.trim().parse().ok().filter(|index| *index < n);
            let index: usize = index.ok_or_else(|| what(&format!("accepted: an index below {n}")))?;
            if std::mem::replace(&mut seen[index], true) {
                return Err(what("which stands there already; train and valid share nothing"));
            }
            indices.push(index);
        }
        indices.sort_unstable();
        Ok(indices)
    };
    Ok((side("train", file.train.1)?, side("valid", file.valid.1)?))
}

impl Default for Split {
    fn default() -> Self {
        Self::Stratified { fraction: 0.5, seed: 0 }
    }
}

impl FromStr for Split {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = || {
            Error::setting("split", format!("`{text}`"), "stratified:FRACTION[:SEED], halves, indices:FILE")
        };
        match text.split_once(':') {
            None if text == "halves" => Ok(Self::Halves),
            Some(("indices", path)) if !path.is_empty() => Ok(Self::Indices(path.into())),
            Some(("stratified", rest)) => {
                let (fraction, seed) = rest.split_once(':').unwrap_or((rest, "0"));
                let fraction = fraction.parse().map_err(|_| refuse())?;
                share(fraction)?;
                Ok(Self::Stratified { fraction, seed: seed.parse().map_err(|_| refuse())? })
            }
            _ => Err(refuse()),
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stratified { fraction, seed: 0 } => write!(f, "stratified:{fraction}"),
            Self::Stratified { fraction, seed } => write!(f, "stratified:{fraction}:{seed}"),
            Self::Halves => f.write_str("halves"),
            Self::Indices(path) => write!(f, "indices:{}", path.display()),
        }
    }
}

impl TryFrom<String> for Split {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Split> for String {
    fn from(split: Split) -> Self {
        split.to_string()
    }
}

/// The sizes: `1911 for weights, 1912 for the architecture`.
impl fmt::Display for SearchData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for weights, {} for the architecture", self.weights.len(), self.architecture.len())
    }
}

impl fmt::Debug for Subset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}, {:?} part", self.len(), self.info().name, self.part)
    }
}

#[cfg(test)]
mod tests;
