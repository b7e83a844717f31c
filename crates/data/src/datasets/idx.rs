//! `idx:DIR`: the files of MNIST and its kin, gzipped or not.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};

use search_space::{Extent, Shape};

use super::{Examples, InMemory, Values, labels, read};
use crate::error::Fault;
use crate::{Error, ErrorKind};

/// Reads `train-images…`, `train-labels…`, and the test pair named `t10k-…` or `test-…`.
///
/// Images are unsigned bytes in two axes `(N, C)`, three `(N, H, W)` or four `(N, H, W, C)`.
pub(crate) fn open(dir: &Path, classes: Option<usize>) -> Result<InMemory, Error> {
    let (shape, train, train_labels) = pair(dir, &["train"])?;
    let (test_shape, test, test_labels) = pair(dir, &["t10k", "test"])?;
    if shape != test_shape {
        let kind = ErrorKind::Size { found: test_shape.to_string(), expected: shape.to_string(), advice: "" };
        return Err(Error::file(&find(dir, &["t10k", "test"], "images")?, kind));
    }
    let classes = labels::numbered(&train_labels, &train.labels, classes)?;
    labels::check(&test_labels, &test.labels, classes.len())?;
    let name = dir.file_name().unwrap_or(OsStr::new("idx")).to_string_lossy();
    InMemory::new(name, shape, classes, train, test)
}

/// One part, and the path of its labels.
fn pair(dir: &Path, prefixes: &[&str]) -> Result<(Shape, Examples, PathBuf), Error> {
    let image_path = find(dir, prefixes, "images")?;
    let label_path = find(dir, prefixes, "labels")?;
    let (dims, data) = load(&image_path)?;
    let (label_dims, label_bytes) = load(&label_path)?;
    let extent = match dims[1..] {
        [_] => Extent::Flat,
        [height, width] | [height, width, _] => Extent::Image { height, width },
        _ => return Err(Error::file(&image_path, axes(&dims, "2 to 4"))),
    };
    let channels = if let [_, _, _] = dims[..] { 1 } else { dims[dims.len() - 1] };
    if label_dims.len() != 1 {
        return Err(Error::file(&label_path, axes(&label_dims, "1")));
    }
    if dims[0] != label_dims[0] {
        return Err(Error::file(&label_path, ErrorKind::Unpaired { images: dims[0], labels: label_dims[0] }));
    }
    if data.is_empty() {
        return Err(Error::file(&image_path, ErrorKind::Empty));
    }
    let labels = label_bytes.into_iter().map(u32::from).collect();
    let examples = Examples { values: Values::Bytes { data, full: 255 }, labels };
    Ok((Shape { extent, channels }, examples, label_path))
}

fn axes(dims: &[usize], accepted: &str) -> ErrorKind {
    ErrorKind::Malformed(format!("has {} axes; accepted: {accepted}", dims.len()))
}

/// The first file of `dir`, by name, that starts with one of the prefixes and `-kind`.
fn find(dir: &Path, prefixes: &[&str], kind: &str) -> Result<PathBuf, Error> {
    let names =
        || -> std::io::Result<Vec<PathBuf>> { dir.read_dir()?.map(|entry| Ok(entry?.path())).collect() };
    let mut paths = names().map_err(|error| Error::file(dir, error))?;
    paths.sort();
    let starts: Vec<String> = prefixes.iter().map(|prefix| format!("{prefix}-{kind}")).collect();
    let fits = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        starts.iter().any(|start| name.starts_with(start))
    };
    paths.into_iter().find(fits).ok_or_else(|| {
        let accepted = starts.join("… or ") + "…, gzipped or not";
        Error::file(
            dir,
            ErrorKind::Missing { missing: format!("the file of {} {kind}", prefixes[0]), accepted },
        )
    })
}

fn load(path: &Path) -> Result<(Vec<usize>, Vec<u8>), Error> {
    parse(&mut read::open(path)?).map_err(|fault| Error::fault(path, fault))
}

/// Axes, at least one, and as many bytes as they say; any bytes may come.
pub(super) fn parse(reader: &mut dyn Read) -> Result<(Vec<usize>, Vec<u8>), Fault> {
    let magic = read::head(reader, 4)?;
    let [0, 0, 8, n_axes @ 1..=8] = magic[..] else {
        let found = format!("{magic:02x?}");
        return Err(ErrorKind::Magic { found, accepted: "00 00 08 and 1 to 8 axes" }.into());
    };
    let head = read::head(reader, u32::from(n_axes) * 4)?;
    let dim = |four: &[u8]| four.iter().fold(0, |dim, byte| dim << 8 | usize::from(*byte));
    let dims: Vec<usize> = head.chunks_exact(4).map(dim).collect();
    let bytes = read::records(reader, dims[0], &dims[1..])?;
    Ok((dims, bytes))
}
