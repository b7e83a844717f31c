//! One error: a place and what was found there.

use std::{fmt, io, path::Path, path::PathBuf};

/// What is wrong with data, and where.
#[derive(Debug)]
pub struct Error {
    /// Where it was found.
    pub place: Place,
    /// What was found, and what is accepted.
    pub kind: Box<ErrorKind>,
}

/// Where an [`Error`] was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A setting or a data set without a file, by name.
    Named(String),
    /// A file or folder as a whole.
    File(PathBuf),
    /// One record of a file, counted from 0.
    Record(PathBuf, usize),
    /// One line of a text file, counted from 1.
    Line(PathBuf, u64),
}

/// What was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system or a decompressor refused.
    #[error("cannot be read")]
    Io(#[from] io::Error),
    /// A file, folder, key or column is not there.
    #[error("{missing} is missing; accepted: {accepted}")]
    Missing {
        /// What was looked for.
        missing: String,
        /// What would do.
        accepted: String,
    },
    /// Nothing to learn from, or nothing to test on.
    #[error("holds no examples")]
    Empty,
    /// The first bytes belong to another kind of file.
    #[error("starts with {found}; accepted: {accepted}")]
    Magic {
        /// The bytes found.
        found: String,
        /// The bytes accepted.
        accepted: &'static str,
    },
    /// The file ends inside the record.
    #[error("ends at byte {found} of {expected}")]
    Truncated {
        /// Bytes there are.
        found: u64,
        /// Bytes there should be.
        expected: u64,
    },
    /// The file goes on after what its header announces.
    #[error("goes on after its {expected} bytes")]
    Surplus {
        /// Bytes there should be.
        expected: u64,
    },
    /// A header announces more than this crate would hold in memory.
    #[error("announces {found} bytes; accepted: at most {limit}")]
    TooLarge {
        /// Bytes announced; saturates.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// Images and labels do not pair up.
    #[error("{labels} labels for {images} examples")]
    Unpaired {
        /// Examples found.
        images: usize,
        /// Labels found.
        labels: usize,
    },
    /// A label that is no class.
    #[error("label {found}; accepted: {accepted}")]
    Label {
        /// The label, as written.
        found: String,
        /// The labels accepted.
        accepted: String,
    },
    /// Classes are counted by their labels, and some label is never used.
    #[error("labels run to {highest}, yet none is {missing}; if that is right, set `classes: {}`", .highest + 1)]
    Gap {
        /// The highest label.
        highest: u64,
        /// The lowest unused one.
        missing: u64,
    },
    /// One example differs in size from those before it.
    #[error("is {found}; accepted: {expected}, the size of the others{advice}")]
    Size {
        /// Its size.
        found: String,
        /// The size of the others.
        expected: String,
        /// What a person can do about it; starts with `; ` where not empty.
        advice: &'static str,
    },
    /// A picture that cannot be decoded.
    #[error("is not a readable PNG or JPEG picture")]
    Picture(#[from] image::ImageError),
    /// A field that is no finite number.
    #[error("{found} in column {column}; accepted: a finite number")]
    Number {
        /// The field, as written.
        found: String,
        /// Its column: name, or number from 1.
        column: String,
    },
    /// A file whose structure breaks its format.
    #[error("{0}")]
    Malformed(String),
    /// A setting outside its range.
    #[error("{found}; accepted: {accepted}")]
    Setting {
        /// The value, as written.
        found: String,
        /// What is accepted.
        accepted: String,
    },
    /// A tensor could not be made.
    #[error("no tensor could be made")]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn file(path: &Path, kind: impl Into<ErrorKind>) -> Self {
        Self { place: Place::File(path.to_owned()), kind: Box::new(kind.into()) }
    }

    pub(crate) fn record(path: &Path, record: usize, kind: impl Into<ErrorKind>) -> Self {
        Self { place: Place::Record(path.to_owned(), record), kind: Box::new(kind.into()) }
    }

    pub(crate) fn fault(path: &Path, Fault { record, kind }: Fault) -> Self {
        match record {
            Some(record) => Self::record(path, record, kind),
            None => Self::file(path, kind),
        }
    }

    pub(crate) fn line(path: &Path, line: u64, kind: impl Into<ErrorKind>) -> Self {
        Self { place: Place::Line(path.to_owned(), line), kind: Box::new(kind.into()) }
    }

    pub(crate) fn named(name: &str, kind: impl Into<ErrorKind>) -> Self {
        Self { place: Place::Named(name.to_owned()), kind: Box::new(kind.into()) }
    }

    pub(crate) fn setting(name: &str, found: impl fmt::Display, accepted: impl Into<String>) -> Self {
        Self::named(name, ErrorKind::Setting { found: found.to_string(), accepted: accepted.into() })
    }
}

/// What a parser found before it knew the file: a record of it, or the file as a whole.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) record: Option<usize>,
    pub(crate) kind: ErrorKind,
}

impl Fault {
    pub(crate) fn at(record: usize, kind: ErrorKind) -> Self {
        Self { record: Some(record), kind }
    }
}

impl<K: Into<ErrorKind>> From<K> for Fault {
    fn from(kind: K) -> Self {
        Self { record: None, kind: kind.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.kind)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Record(path, record) => write!(f, "{}: record {record}", path.display()),
            Self::Line(path, line) => write!(f, "{}:{line}", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.kind.source()
    }
}
