//! Which data, in words: `--data digits`, `--data idx:DIR`, and the `data:` section of a configuration.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::datasets::{InMemory, cifar, csv, digits, folder, idx, npz, series};
use crate::{Dataset, Error, Part};

const ACCEPTED: &str = "digits, idx:DIR, cifar10:DIR, cifar100:DIR, folder:DIR, csv:FILE, npz:FILE";

/// A data set by kind and path; relative paths start from the working directory.
///
/// ```
/// use strait_data::DataSpec;
/// let spec: DataSpec = "idx:data/fashion-mnist".parse()?;
/// assert_eq!(spec.to_string(), "idx:data/fashion-mnist");
/// # Ok::<(), strait_data::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DataSpec {
    /// UCI's optical digits (CC BY 4.0), embedded: 8×8×1, 3,823 for training and 1,797 for testing.
    #[default]
    Digits,
    /// A folder of IDX files, as MNIST and Fashion-MNIST have them, gzipped or not.
    Idx(PathBuf),
    /// The folder of CIFAR-10's binary version.
    Cifar10(PathBuf),
    /// The folder of CIFAR-100's binary version; fine labels.
    Cifar100(PathBuf),
    /// A folder of PNG or JPEG pictures, one sub-folder a class, or `train/` and `test/` of such.
    Folder(PathBuf),
    /// A table of numbers with a label column.
    Csv(PathBuf),
    /// NumPy arrays under the keys of Keras or MedMNIST.
    Npz(PathBuf),
}

/// How to read it; an option that the kind of data does not know is an error, unless it has its default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataOptions {
    /// What an image is to the network.
    #[serde(rename = "as")]
    pub form: Form,
    /// `csv`: the column that holds the label, by name; the last one unless named.
    pub label: Option<String>,
    /// `csv`: whether the first line names the columns.
    pub header: Header,
    /// `csv`: a second file, with the same columns, as test part.
    pub test_file: Option<PathBuf>,
    /// `csv` and `folder` without a test part of their own: the share of every class to test on, in `(0, 1)`.
    pub test_fraction: f64,
    /// `csv` and `folder`: which examples those are.
    pub test_seed: u64,
    /// `folder`: height and width in pixels to bring every picture to, 1 to 4096 (bilinear, aspect ratio not kept).
    pub resize: Option<[usize; 2]>,
    /// `idx` and `npz`: the number of classes, where the labels alone do not tell.
    pub classes: Option<usize>,
}

/// What an image is to the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// What it is in the files.
    #[default]
    Given,
    /// A series: its columns are time, its rows (times channels) the channels.
    Series,
}

/// Whether the first line of a table names its columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Header {
    /// It does if one of its features is a word, or if the label column is named.
    #[default]
    Auto,
    /// It does.
    Present,
    /// It does not.
    Absent,
}

/// Opens the data set that `spec` names.
///
/// # Errors
/// If a file is missing, truncated, empty, mislabelled or otherwise not what its format says (the error names the
/// file and the record), or an option does not apply or is out of range.
pub fn open(spec: &DataSpec, options: &DataOptions) -> Result<Arc<dyn Dataset>, Error> {
    options.check(spec)?;
    let held = |data: InMemory| -> Arc<dyn Dataset> { Arc::new(data) };
    let data = match spec {
        DataSpec::Digits => digits::open()?,
        DataSpec::Idx(dir) => held(idx::open(dir, options.classes)?),
        DataSpec::Cifar10(dir) => held(cifar::open_10(dir)?),
        DataSpec::Cifar100(dir) => held(cifar::open_100(dir)?),
        DataSpec::Folder(dir) => held(folder::open(dir, options)?),
        DataSpec::Csv(file) => held(csv::open(file, options)?),
        DataSpec::Npz(file) => held(npz::open(file, options.classes)?),
    };
    let data = match options.form {
        Form::Given => data,
        Form::Series => series::view(data)?,
    };
    let (info, train, test) = (data.info(), data.len(Part::Train), data.len(Part::Test));
    tracing::info!(data = %spec, shape = %info.shape, classes = info.classes.len(), train, test, "data opened");
    Ok(data)
}

impl Default for DataOptions {
    fn default() -> Self {
        Self {
            form: Form::Given,
            label: None,
            header: Header::Auto,
            test_file: None,
            test_fraction: 0.2,
            test_seed: 0,
            resize: None,
            classes: None,
        }
    }
}

impl DataOptions {
    fn check(&self, spec: &DataSpec) -> Result<(), Error> {
        use DataSpec::{Csv, Folder, Idx, Npz};
        let table = self.label.is_some() || self.test_file.is_some() || self.header != Header::Auto;
        let refuse = |option, kinds| Err(Error::setting(option, format!("set for {spec}"), kinds));
        match spec {
            _ if !(self.test_fraction > 0.0 && self.test_fraction < 1.0) => {
                Err(Error::setting("test_fraction", self.test_fraction, "above 0 and below 1"))
            }
            _ if table && !matches!(spec, Csv(_)) => refuse("label, test_file, header", "csv"),
            _ if self.resize.is_some() && !matches!(spec, Folder(_)) => refuse("resize", "folder"),
            _ if self.classes.is_some() && !matches!(spec, Idx(_) | Npz(_)) => refuse("classes", "idx, npz"),
            _ if self.resize.iter().flatten().any(|side| !(1..=4_096).contains(side)) => {
                let found = format!("{:?}", self.resize.unwrap_or_default());
                Err(Error::setting("resize", found, "height and width of 1 to 4096"))
            }
            _ if self.classes == Some(0) => Err(Error::setting("classes", 0, "at least 1")),
            _ => Ok(()),
        }
    }
}

impl FromStr for DataSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once(':').map(|(kind, path)| (kind, PathBuf::from(path))) {
            None if text == "digits" => Ok(Self::Digits),
            Some((_, path)) if path.as_os_str().is_empty() => Err(()),
            Some(("idx", path)) => Ok(Self::Idx(path)),
            Some(("cifar10", path)) => Ok(Self::Cifar10(path)),
            Some(("cifar100", path)) => Ok(Self::Cifar100(path)),
            Some(("folder", path)) => Ok(Self::Folder(path)),
            Some(("csv", path)) => Ok(Self::Csv(path)),
            Some(("npz", path)) => Ok(Self::Npz(path)),
            _ => Err(()),
        }
        .map_err(|()| Error::setting("data", format!("`{text}`"), ACCEPTED))
    }
}

impl fmt::Display for DataSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, path) = match self {
            Self::Digits => return f.write_str("digits"),
            Self::Idx(path) => ("idx", path),
            Self::Cifar10(path) => ("cifar10", path),
            Self::Cifar100(path) => ("cifar100", path),
            Self::Folder(path) => ("folder", path),
            Self::Csv(path) => ("csv", path),
            Self::Npz(path) => ("npz", path),
        };
        write!(f, "{kind}:{}", path.display())
    }
}

impl TryFrom<String> for DataSpec {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<DataSpec> for String {
    fn from(spec: DataSpec) -> Self {
        spec.to_string()
    }
}
