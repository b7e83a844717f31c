//! `cifar10:DIR` and `cifar100:DIR`: the binary version of the data sets.

use std::fs;
use std::path::{Path, PathBuf};

use search_space::{Extent, Shape};

use super::{Examples, InMemory, Values};
use crate::error::Fault;
use crate::{Error, ErrorKind};

const SIDE: usize = 32;
const PIXELS: usize = SIDE * SIDE;
const CIFAR_10: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Records of one label and `3×32×32` bytes, plane by plane; five training files.
pub(crate) fn open_10(dir: &Path) -> Result<InMemory, Error> {
    let dir = inner(dir, "cifar-10-batches-bin", "data_batch_1.bin");
    let train: Vec<PathBuf> = (1..=5).map(|batch| dir.join(format!("data_batch_{batch}.bin"))).collect();
    let classes = CIFAR_10.map(String::from).to_vec();
    read("cifar10", classes, &train, &dir.join("test_batch.bin"), 1)
}

/// Records of a coarse label, a fine label and the same bytes; classes are the 100 fine ones.
pub(crate) fn open_100(dir: &Path) -> Result<InMemory, Error> {
    let dir = inner(dir, "cifar-100-binary", "train.bin");
    let names = fs::read_to_string(dir.join("fine_label_names.txt")).unwrap_or_default();
    let names: Vec<String> = names.split_whitespace().map(String::from).collect();
    let classes = if names.len() == 100 { names } else { (0..100).map(|class| class.to_string()).collect() };
    read("cifar100", classes, &[dir.join("train.bin")], &dir.join("test.bin"), 2)
}

/// The folder that the official archive unpacks to, where `dir` is its parent.
fn inner(dir: &Path, unpacked: &str, file: &str) -> PathBuf {
    let nested = dir.join(unpacked);
    if !dir.join(file).exists() && nested.join(file).exists() { nested } else { dir.to_owned() }
}

fn read(
    name: &str,
    classes: Vec<String>,
    train: &[PathBuf],
    test: &Path,
    n_labels: usize,
) -> Result<InMemory, Error> {
    let part = |paths: &[PathBuf]| {
        let (mut data, mut labels) = (Vec::new(), Vec::new());
        for path in paths {
            let bytes = fs::read(path).map_err(|error| Error::file(path, error))?;
            parse(&bytes, n_labels, classes.len(), &mut data, &mut labels)
                .map_err(|fault| Error::fault(path, fault))?;
        }
        Ok(Examples { values: Values::Bytes { data, full: 255 }, labels })
    };
    let (train, test) = (part(train)?, part(&[test.to_owned()])?);
    let shape = Shape { extent: Extent::Image { height: SIDE, width: SIDE }, channels: 3 };
    InMemory::new(name, shape, classes.clone(), train, test)
}

/// Appends the records of one file, pixels channels last; the last of `n_labels` labels counts.
pub(super) fn parse(
    bytes: &[u8],
    n_labels: usize,
    classes: usize,
    data: &mut Vec<u8>,
    labels: &mut Vec<u32>,
) -> Result<(), Fault> {
    let size = n_labels + 3 * PIXELS;
    let (records, rest) = (bytes.chunks_exact(size), bytes.len() % size);
    if bytes.is_empty() {
        return Err(ErrorKind::Empty.into());
    }
    if rest > 0 {
        let (found, n) = (bytes.len() as u64, bytes.len() / size);
        return Err(Fault::at(n, ErrorKind::Truncated { found, expected: ((n + 1) * size) as u64 }));
    }
    data.reserve(records.len() * 3 * PIXELS);
    for (record, bytes) in records.enumerate() {
        let (head, planes) = bytes.split_at(n_labels);
        let label = head[n_labels - 1];
        if usize::from(label) >= classes {
            let accepted = format!("0 to {}", classes - 1);
            return Err(Fault::at(record, ErrorKind::Label { found: label.to_string(), accepted }));
        }
        labels.push(label.into());
        data.extend((0..PIXELS).flat_map(|at| [planes[at], planes[at + PIXELS], planes[at + 2 * PIXELS]]));
    }
    Ok(())
}
