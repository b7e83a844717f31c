//! What goes wrong around a search.

use std::{io, path::PathBuf};

use network::Place;

/// Why a search, a training or its run directory cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key that no configuration has.
    #[error("{origin}: unknown key `{key}`; {advice}")]
    UnknownKey {
        /// The layer: a file, `--set`, a space's block.
        origin: String,
        /// The path to the key.
        key: String,
        /// A near key, and all that are accepted.
        advice: String,
    },
    /// A value of the wrong type, or out of range.
    #[error("{origin}: `{key}`: found {found}; {accepted}")]
    Setting {
        /// The layer.
        origin: String,
        /// The path to the key.
        key: String,
        /// The value as written.
        found: String,
        /// What would be accepted.
        accepted: String,
    },
    /// A text that is no YAML.
    #[error("{origin}: not YAML")]
    Syntax {
        /// The file or option.
        origin: String,
        /// The parser's reason.
        source: serde_yaml::Error,
    },
    /// A file of a run directory cannot be used.
    #[error("{}: {kind}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        kind: FileError,
    },
    /// A loss or a gradient that is infinite or not a number.
    #[error("epoch {epoch}, step {step}: {what} is not finite{}; expected a finite number, lower the learning rate", .place.as_ref().map_or_else(String::new, |place| format!(", first at {place}")))]
    Diverged {
        /// From 0.
        epoch: usize,
        /// Within the epoch, from 0.
        step: usize,
        /// The loss of which step, or the gradient of which weight.
        what: String,
        /// The first operation whose output is not finite: cell, edge and candidate.
        place: Option<Box<Place>>,
    },
    /// Logits that are infinite or not a number.
    #[error("epoch {epoch}, step {step}: the architecture step failed")]
    Logits {
        /// From 0.
        epoch: usize,
        /// Within the epoch, from 0.
        step: usize,
        /// Group, edge and candidate.
        source: controller::Error,
    },
    /// A temperature that is infinite, not a number or not above zero.
    #[error(
        "epoch {epoch}, step {step}: group `{group}`, edge {} → {}: temperature {value}; expected a finite number above 0",
        edge.0, edge.1
    )]
    Temperature {
        /// From 0.
        epoch: usize,
        /// Within the epoch, from 0.
        step: usize,
        /// Name of the group of edges.
        group: String,
        /// The edge, `(from, to)`.
        edge: (usize, usize),
        /// What was found.
        value: f64,
    },
    /// What goes wrong on one of several devices.
    #[error("on rank {rank} of {of}")]
    Rank {
        /// From 0, in the order of the devices.
        rank: usize,
        /// How many there are.
        of: usize,
        /// What it is.
        source: Box<Error>,
    },
    /// A device that has other numbers than the first: it does not repeat what the others compute.
    #[error(
        "epoch {epoch}: rank {rank} has other {what} than rank 0; expected the same bytes on all; \
         go on from the last checkpoint, or on one device"
    )]
    Apart {
        /// From 0.
        epoch: usize,
        /// From 1.
        rank: usize,
        /// The logits of which group, the weights, or the optimizer's state.
        what: String,
    },
    /// A batch that has no equal parts for several devices.
    #[error("a batch of {batch} examples for {ranks} devices; expected a multiple of {ranks}")]
    Uneven {
        /// Examples in a batch: as set, or all of a smaller part of the data.
        batch: usize,
        /// Devices.
        ranks: usize,
    },
    /// An architecture without a path from input to output.
    #[error("no path from input to output in cell {}; search longer, or derive by another rule", list(cells))]
    Disconnected {
        /// Indices of the cells.
        cells: Vec<usize>,
    },
    /// The derived child disagrees with the supernet it came from: a defect of this program.
    #[error(
        "the derived child's loss is {derived} where the supernet's with the same choices is {argmax}; expected equal numbers"
    )]
    Unfaithful {
        /// Mean loss with argmax gates.
        argmax: f64,
        /// Mean loss of the child with inherited weights.
        derived: f64,
    },
    /// A child has weights that its supernet does not: a defect of this program.
    #[error("{found} of the child's {expected} weights have a namesake in the supernet; expected all")]
    Orphans {
        /// Those that have.
        found: usize,
        /// All.
        expected: usize,
    },
    /// The test part is read after the last epoch, once.
    #[error("{epochs} of {expected} epochs are done; the test part is read after the last")]
    Unfinished {
        /// Done.
        epochs: usize,
        /// To do.
        expected: usize,
    },
    /// An estimator that nobody knows.
    #[error(transparent)]
    Estimator(#[from] controller::estimators::UnknownEstimator),
    /// The space cannot be laid out for the data.
    #[error(transparent)]
    Layout(#[from] search_space::LayoutError),
    /// A genotype does not belong to the space.
    #[error(transparent)]
    Genotype(#[from] search_space::GenotypeError),
    /// The data.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// The network.
    #[error(transparent)]
    Network(Box<network::Error>),
    /// The relaxation.
    #[error(transparent)]
    Controller(#[from] controller::Error),
    /// A tensor operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Why a file of a run directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system's reason.
    #[error("cannot be {0}")]
    Io(&'static str, #[source] io::Error),
    /// Another process holds the run.
    #[error("in use by another process; wait for it, or choose another directory")]
    Busy,
    /// Something is there already.
    #[error("not empty; choose another directory, resume it, or force")]
    Occupied,
    /// Something is there that no run has left.
    #[error("holds files that are no run's; choose another directory")]
    Foreign,
    /// There is no run here.
    #[error("no run here; expected a directory with config.yaml or train.yaml")]
    NoRun,
    /// The file is torn, or not what its name says.
    #[error("not {0}")]
    Malformed(String),
    /// The file is of another search than the one that reads it.
    #[error("written by another run: {0}")]
    Mismatch(String),
    /// Only tests see this: the process "died" on purpose.
    #[error("cut off on purpose")]
    Cut,
}

impl Error {
    /// Whether the person who called can mend it by calling otherwise (exit code 2), rather than a run that failed.
    #[must_use]
    pub fn is_misuse(&self) -> bool {
        use FileError::{Busy, Foreign, NoRun, Occupied};
        match self {
            Self::File { kind, .. } => matches!(kind, Busy | Foreign | NoRun | Occupied),
            Self::UnknownKey { .. }
            | Self::Setting { .. }
            | Self::Syntax { .. }
            | Self::Estimator(_)
            | Self::Layout(_)
            | Self::Genotype(_)
            | Self::Data(_)
            | Self::Uneven { .. } => true,
            Self::Rank { source, .. } => source.is_misuse(),
            Self::Network(error) => matches!(**error, network::Error::Inherited { .. }),
            _ => false,
        }
    }
}

impl From<network::Error> for Error {
    fn from(error: network::Error) -> Self {
        Self::Network(Box::new(error))
    }
}

fn list(cells: &[usize]) -> String {
    cells.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}
