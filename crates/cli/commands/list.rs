//! `strait list`: what strait knows.

use clap::{Args, ValueEnum};
use serde::Serialize;
use strait::controller::estimators;
use strait::ops::Catalog;
use strait::space::{Space, Vocabulary, Word};

use crate::{answer::Answer, failure::Failure};

/// `strait list`
#[derive(Args, Debug)]
pub(crate) struct List {
    /// What to list
    what: What,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// Search spaces that are shipped
    Spaces,
    /// Operations that a space may name
    Ops,
    /// Data that `--data` reads
    Data,
    /// Estimators: how a gradient crosses a choice
    Estimators,
}

#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    summary: String,
}

const DATA: [(&str, &str); 7] = [
    ("digits", "UCI's optical digits, embedded: 8×8×1, 10 classes, 3,823 to train on and 1,797 to test on"),
    ("idx:DIR", "MNIST, Fashion-MNIST and their kin: four IDX files, gzipped or not"),
    ("cifar10:DIR", "CIFAR-10, binary version: data_batch_1.bin … test_batch.bin"),
    ("cifar100:DIR", "CIFAR-100, binary version: train.bin, test.bin; fine labels"),
    (
        "folder:DIR",
        "PNG and JPEG pictures, one sub-folder a class; train/ and test/, or a fraction to test on",
    ),
    ("csv:FILE", "a table of numbers; the label in the last column, or in the one that data.label names"),
    ("npz:FILE", "NumPy arrays under the keys of Keras (x_train …) or MedMNIST (train_images …)"),
];

impl List {
    /// Names and what they mean, in the order in which strait knows them.
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let (key, entries) = match self.what {
            What::Spaces => ("spaces", spaces()),
            What::Ops => ("ops", Catalog::standard().words().iter().map(op).collect()),
            What::Data => ("data", DATA.map(|(name, summary)| entry(name, summary)).into()),
            What::Estimators => ("estimators", estimators::NAMES.map(estimator).into()),
        };
        Answer::either(self.json, &serde_json::json!({ key: entries }), || columns(&entries))
    }
}

fn entry(name: impl Into<String>, summary: impl Into<String>) -> Entry {
    Entry { name: name.into(), summary: summary.into() }
}

/// A shipped space is headed by comments; the first of them says what it is.
fn spaces() -> Vec<Entry> {
    let head = |name: &str| {
        let first = Space::shipped_yaml(name).and_then(|yaml| yaml.lines().next()).unwrap_or_default();
        first.trim_start_matches('#').trim().to_owned()
    };
    Space::shipped_names().iter().map(|name| entry(*name, head(name))).collect()
}

fn op(word: &Word) -> Entry {
    let labels = if word.examples.is_empty() { vec![word.name.clone()] } else { word.examples.clone() };
    let params: Vec<_> = word.params.iter().map(|(name, accepted)| format!("{name}: {accepted}")).collect();
    let params = if params.is_empty() { String::new() } else { format!(" [{}]", params.join("; ")) };
    entry(&word.name, format!("{} ({}){params}", word.summary, labels.join(", ")))
}

fn estimator(name: &str) -> Entry {
    entry(name, estimators::summary(name).unwrap_or_default())
}

fn columns(entries: &[Entry]) -> String {
    let width = entries.iter().map(|entry| entry.name.chars().count()).max().unwrap_or(0);
    entries.iter().map(|Entry { name, summary }| format!("{name:width$}  {summary}\n")).collect()
}
