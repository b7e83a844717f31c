//! From run directories to what is shown of them.

use std::fs;
use std::path::Path;

use search_space::{LayoutRequest, Phase, Space, Vocabulary};
use serde::Serialize;
use serde_json::{Value, json};
use trainer::{RunDir, SearchConfig};

use crate::verdict::verdict;

/// Why a run cannot be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no run, or a file of it cannot be used.
    #[error(transparent)]
    Run(#[from] trainer::Error),
    /// The run's space is faulty.
    #[error(transparent)]
    Space(#[from] search_space::SpaceErrors),
    /// The run's space does not fit its own shape.
    #[error(transparent)]
    Layout(#[from] search_space::LayoutError),
    /// A line of a run is no JSON.
    #[error("{path}:{line}: not JSON; expected one object a line")]
    Line {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
    },
}

/// What is shown of one or more runs.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this value, 1.
    pub version: u32,
    /// Whether more is to come.
    pub live: bool,
    /// Run by run, as JSON: `name`, `space`, `groups`, `epochs`, `training`, `result`, `config`, `machine`, `verdict`,
    /// `warnings`, `repeat`.
    pub runs: Vec<Value>,
}

impl Report {
    /// Reads runs, in their order; `words` are the operations that their spaces name.
    ///
    /// # Errors
    /// A directory holds no run, or a file of one cannot be used.
    pub fn read(paths: &[&Path], words: &dyn Vocabulary) -> Result<Self, Error> {
        let runs = paths.iter().map(|path| run(path, words)).collect::<Result<_, _>>()?;
        Ok(Self { version: 1, live: false, runs })
    }

    /// The same report of a search that goes on: its page asks for more.
    #[must_use]
    pub fn live(self) -> Self {
        Self { live: true, ..self }
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain values have a JSON form")
    }
}

fn run(path: &Path, words: &dyn Vocabulary) -> Result<Value, Error> {
    let dir = RunDir::view(path)?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let space = Space::parse(&dir.space_yaml()?, &format!("{}/space.yaml", path.display()), words)?;
    let text = |file: &str| fs::read_to_string(path.join(file)).unwrap_or_default();
    let parsed = |file: &str| serde_json::from_str::<Value>(&text(file)).unwrap_or_default();
    let (config, train) = (text("config.yaml"), text("train.yaml"));
    let epochs = lines(path, "epochs.jsonl")?;
    let (result, machine) = (parsed("result.json"), parsed("machine.json"));
    let search = path.join("config.yaml").is_file().then(|| dir.search_config()).transpose()?;
    let groups = groups(&space, words)?;
    let (verdict, warnings) = verdict(&space, search.as_ref(), &groups, &epochs, &result);
    Ok(json!({
        "name": name,
        "space": space.name(),
        "groups": groups,
        "epochs": epochs,
        "planned": search.as_ref().map(|config| config.epochs),
        "training": lines(path, "train.jsonl")?,
        "genotype": text("genotype.yaml"),
        "result": result,
        "machine": machine,
        "config": config,
        "train": train,
        "verdict": verdict,
        "warnings": warnings,
        "repeat": repeat(search.as_ref(), space.name(), path),
    }))
}

/// Every group of edges: its name, kind, candidates and `[from, to]` pairs.
fn groups(space: &Space, words: &dyn Vocabulary) -> Result<Vec<Value>, Error> {
    let request = LayoutRequest {
        input: space.sample_input(),
        classes: space.classes().unwrap_or(10),
        phase: Phase::Search,
        channels: None,
        cells: None,
    };
    let layout = space.layout(&request, words)?;
    let group = |group: &search_space::ChoiceGroup| {
        let candidates: Vec<&str> = group.candidates.iter().map(|op| op.label.as_str()).collect();
        json!({
            "name": group.name, "kind": group.kind, "cell": group.cell, "candidates": candidates, "edges": group.edges,
        })
    };
    Ok(layout.groups.iter().map(group).collect())
}

/// The objects of a file of lines; none where there is no file.
fn lines(path: &Path, file: &str) -> Result<Vec<Value>, Error> {
    let path = path.join(file);
    let text = fs::read_to_string(&path).unwrap_or_default();
    // A line that is being written right now has no end yet.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |(index, line): (usize, &str)| {
        serde_json::from_str(line)
            .map_err(|_| Error::Line { path: path.display().to_string(), line: index + 1 })
    };
    whole.lines().enumerate().map(parse).collect()
}

/// The command that does it again.
fn repeat(search: Option<&SearchConfig>, space: &str, path: &Path) -> String {
    let run = path.display();
    match search {
        Some(config) => format!(
            "strait search {run}/space.yaml --config {run}/config.yaml --out again   # {space}, seed {}",
            config.seed
        ),
        None => format!(
            "strait train {run}/genotype.yaml --space {run}/space.yaml --config {run}/train.yaml --out again"
        ),
    }
}
