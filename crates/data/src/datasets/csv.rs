//! `csv:FILE`: a table of numbers with a label column.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ::csv::{ReaderBuilder, StringRecord};
use search_space::{Extent, Shape};

use super::{Examples, InMemory, Values, read};
use crate::{DataOptions, Error, ErrorKind, Header, split};

/// Reads flat examples; the label is the last or the named column, text or integers.
///
/// Classes are sorted: by number if all are integers, else by their bytes. The test part is `test_file`, whose classes
/// must be known, or a share of every class.
pub(crate) fn open(path: &Path, options: &DataOptions) -> Result<InMemory, Error> {
    let table = Table::read(path, options)?;
    let classes = table.classes();
    let index: BTreeMap<&str, u32> = classes.iter().map(String::as_str).zip(0..).collect();
    let shape = Shape { extent: Extent::Flat, channels: table.columns.len() };
    let columns = table.columns.clone();
    let all = table.examples(path, &index)?;
    let (train, test) = match &options.test_file {
        Some(test_path) => {
            let test = Table::read(test_path, options)?;
            if test.columns != columns {
                let what =
                    format!("has the features {}; accepted: {}", test.columns.join(", "), columns.join(", "));
                return Err(Error::file(test_path, ErrorKind::Malformed(what)));
            }
            (all, test.examples(test_path, &index)?)
        }
        None => {
            let (kept, held) = split::stratified(&all.labels, 1.0 - options.test_fraction, options.test_seed);
            if held.is_empty() {
                let kind = ErrorKind::Malformed("no class has two rows, so none can be tested on".into());
                return Err(Error::file(path, kind));
            }
            (all.select(&kept), all.select(&held))
        }
    };
    let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
    InMemory::new(name, shape, classes.clone(), train, test)
}

/// The rows of one file.
struct Table {
    /// Names of the features, or their numbers from 1.
    columns: Vec<String>,
    values: Vec<f32>,
    /// Line and label of every row.
    labels: Vec<(u64, String)>,
}

impl Table {
    fn read(path: &Path, options: &DataOptions) -> Result<Self, Error> {
        let broken = |error: ::csv::Error| {
            let line = error.position().map_or(1, ::csv::Position::line);
            Error::line(path, line, ErrorKind::Malformed(error.to_string()))
        };
        let mut reader =
            ReaderBuilder::new().has_headers(false).trim(::csv::Trim::All).from_reader(read::open(path)?);
        let mut rows = reader.records().peekable();
        let first = match rows.peek() {
            Some(Ok(first)) => first.clone(),
            Some(Err(_)) => StringRecord::new(), // met again below
            None => return Err(Error::file(path, ErrorKind::Empty)),
        };
        let named = has_names(&first, options);
        tracing::debug!(file = %path.display(), header = named, "first line read");
        let names: Vec<String> = match named {
            true => first.iter().map(String::from).collect(),
            false => (1..=first.len()).map(|column| column.to_string()).collect(),
        };
        let label = label_column(&names, options).map_err(|kind| Error::line(path, 1, kind))?;
        let columns = without(&names, label);
        let mut table = Self { columns, values: Vec::new(), labels: Vec::new() };
        for row in rows.skip(usize::from(named)) {
            let row = row.map_err(broken)?;
            let line = row.position().map_or(0, ::csv::Position::line);
            table.push(&row, label, line).map_err(|kind| Error::line(path, line, kind))?;
        }
        if table.labels.is_empty() { Err(Error::file(path, ErrorKind::Empty)) } else { Ok(table) }
    }

    fn push(&mut self, row: &StringRecord, label: usize, line: u64) -> Result<(), ErrorKind> {
        let mut columns = self.columns.iter();
        for (at, field) in row.iter().enumerate() {
            if at == label {
                if field.is_empty() {
                    return Err(ErrorKind::Label {
                        found: "``".into(),
                        accepted: "a word or an integer".into(),
                    });
                }
                self.labels.push((line, field.to_owned()));
                continue;
            }
            let column = columns.next().map_or_else(String::new, String::clone);
            match field.parse::<f32>() {
                Ok(value) if value.is_finite() => self.values.push(value),
                _ => return Err(ErrorKind::Number { found: format!("`{field}`"), column }),
            }
        }
        Ok(())
    }

    fn classes(&self) -> Vec<String> {
        let words: BTreeSet<&str> = self.labels.iter().map(|(_, label)| label.as_str()).collect();
        let mut classes: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        if words.iter().all(|word| word.parse::<i64>().is_ok()) {
            classes.sort_by_key(|word| word.parse::<i64>().unwrap_or_default());
        }
        classes
    }

    fn examples(self, path: &Path, index: &BTreeMap<&str, u32>) -> Result<Examples, Error> {
        let known = |(line, label): &(u64, String)| {
            index.get(label.as_str()).copied().ok_or_else(|| {
                let accepted = index.keys().copied().collect::<Vec<_>>().join(", ");
                Error::line(path, *line, ErrorKind::Label { found: label.clone(), accepted })
            })
        };
        let labels: Result<Vec<u32>, Error> = self.labels.iter().map(known).collect();
        Ok(Examples { values: Values::Floats(self.values), labels: labels? })
    }
}

/// Whether the first row names the columns: a feature there is a word, or the label is asked for by name.
fn has_names(first: &StringRecord, options: &DataOptions) -> bool {
    let features = first.iter().take(first.len().saturating_sub(1));
    match options.header {
        Header::Present => true,
        Header::Absent => false,
        Header::Auto => {
            let word = |field: &str| !field.is_empty() && field.parse::<f32>().is_err();
            options.label.is_some() || features.into_iter().any(word)
        }
    }
}

fn label_column(names: &[String], options: &DataOptions) -> Result<usize, ErrorKind> {
    if names.len() < 2 {
        let what = format!("has {} column; accepted: 2 or more, features and label", names.len());
        return Err(ErrorKind::Malformed(what));
    }
    match &options.label {
        None => Ok(names.len() - 1),
        Some(label) => names.iter().position(|name| name == label).ok_or_else(|| ErrorKind::Missing {
            missing: format!("column `{label}`"),
            accepted: names.join(", "),
        }),
    }
}

fn without(names: &[String], label: usize) -> Vec<String> {
    let features = names.iter().enumerate().filter(|(at, _)| *at != label);
    features.map(|(_, name)| name.clone()).collect()
}
