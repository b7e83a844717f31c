//! The decision: which operation every edge of every cell kind got.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    Cell, GenotypeError,
    document::{self, MOST_BYTES},
    fault::Faults,
};

/// A discrete architecture of a space, by labels; with its space it rebuilds a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genotype {
    /// Version of this format.
    pub version: u32,
    /// Name of the space.
    pub space: String,
    /// One entry per cell kind, or per cell where every cell chooses for itself, in the space's order.
    pub cells: Vec<CellGenotype>,
}

/// The choices of one cell kind, or of one cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellGenotype {
    /// Name of the cell kind.
    pub kind: String,
    /// The cell's index among the network's cells, where every cell chooses for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cell: Option<usize>,
    /// The edges that are kept, by target node, then source node. `none` is a legal choice under per-edge argmax.
    pub edges: Vec<Chosen>,
    /// The nodes that make the cell's output.
    pub output: Vec<usize>,
}

/// One edge's choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// Source node.
    pub from: usize,
    /// Target node.
    pub to: usize,
    /// Label of the operation: `sep_conv_3x3`.
    pub op: String,
}

impl Genotype {
    /// The version of the format that this crate reads and writes.
    pub const VERSION: u32 = 1;

    /// As YAML.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        serde_yaml::to_string(self).expect("numbers and strings have a YAML form")
    }

    /// From YAML.
    ///
    /// # Errors
    /// The text is no genotype, with the line and column of the first fault; or another version's.
    pub fn from_yaml(text: &str) -> Result<Self, GenotypeError> {
        let mut faults = Faults::default();
        let genotype = document::parse(text, &mut faults).and_then(|root| document::read(&root, &mut faults));
        match (genotype, faults.of("genotype").and_then(|errors| errors.faults.into_iter().next())) {
            (Some(genotype), None) => Self::checked(genotype),
            (_, Some(fault)) => {
                let place = fault.at.map_or("genotype".to_owned(), |at| format!("genotype:{at}"));
                Err(GenotypeError::new(place, fault.found, fault.accepted))
            }
            (None, None) => Err(GenotypeError::new("genotype", "nothing", "expected a genotype in YAML")),
        }
    }

    /// As JSON, on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings have a JSON form")
    }

    /// From JSON.
    ///
    /// # Errors
    /// The text is no genotype, or another version's.
    pub fn from_json(text: &str) -> Result<Self, GenotypeError> {
        if text.len() > MOST_BYTES {
            let fault = document::too_long();
            return Err(GenotypeError::new("genotype", fault.found, fault.accepted));
        }
        let expected = "expected a genotype in JSON";
        let genotype = serde_json::from_str(text)
            .map_err(|error| GenotypeError::new("genotype", error.to_string(), expected))?;
        Self::checked(genotype)
    }

    fn checked(genotype: Self) -> Result<Self, GenotypeError> {
        genotype.check_version().map(|()| genotype)
    }

    pub(crate) fn check_version(&self) -> Result<(), GenotypeError> {
        if self.version == Self::VERSION {
            return Ok(());
        }
        let accepted = format!("this program reads version {}", Self::VERSION);
        Err(GenotypeError::new("version", format!("version {}", self.version), accepted))
    }

    /// The entry for `cell`: its own, or else that of its kind.
    pub(crate) fn of(&self, cell: &Cell) -> Result<&CellGenotype, GenotypeError> {
        let mut own = self.cells.iter().filter(|entry| entry.kind == cell.name);
        let mut matching = own.clone().filter(|entry| entry.cell == Some(cell.index));
        let mut shared = own.by_ref().filter(|entry| entry.cell.is_none());
        let place = || format!("cell {} of kind `{}`", cell.index, cell.name);
        match (matching.next(), matching.next(), shared.next(), shared.next()) {
            (Some(entry), None, None, _) | (None, _, Some(entry), None) => Ok(entry),
            (None, _, None, _) => Err(GenotypeError::new(place(), "no choices", "expected an entry for it")),
            _ => Err(GenotypeError::new(place(), "more than one entry", "expected one")),
        }
    }
}

impl CellGenotype {
    /// Sorts the edges by target, then source: the one order of a genotype.
    pub(crate) fn sorted(mut self) -> Self {
        self.edges.sort_by_key(|chosen| (chosen.to, chosen.from));
        self
    }
}

/// One line per cell: `normal: 2 = sep_conv_3x3(0) + skip_connect(1); output 2, 3`.
impl fmt::Display for Genotype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, cell) in self.cells.iter().enumerate() {
            write!(f, "{}{cell}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl fmt::Display for CellGenotype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cell {
            Some(index) => write!(f, "{}@{index}:", self.kind)?,
            None => write!(f, "{}:", self.kind)?,
        }
        let mut target = None;
        for Chosen { from, to, op } in &self.edges {
            match target.replace(*to) {
                Some(before) if before == *to => write!(f, " + {op}({from})")?,
                Some(_) => write!(f, "; {to} = {op}({from})")?,
                None => write!(f, " {to} = {op}({from})")?,
            }
        }
        let output: Vec<String> = self.output.iter().map(ToString::to_string).collect();
        write!(f, "; output {}", output.join(", "))
    }
}
