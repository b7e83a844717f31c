//! `npz:FILE`: NumPy arrays under the keys of Keras (`x_train`, …) or MedMNIST (`train_images`, …).

pub(super) mod array;

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use search_space::{Extent, Shape};
use zip::ZipArchive;
use zip::result::ZipError;

use self::array::Array;
use super::{Examples, InMemory, Values, labels};
use crate::{Error, ErrorKind};

/// Keys of images and labels: training parts, then the test part. MedMNIST's validation images are training data to us.
const KEYS: [[Option<[&str; 2]>; 3]; 2] = [
    [Some(["x_train", "y_train"]), None, Some(["x_test", "y_test"])],
    [
        Some(["train_images", "train_labels"]),
        Some(["val_images", "val_labels"]),
        Some(["test_images", "test_labels"]),
    ],
];

/// Reads images `(N, H, W)` or `(N, H, W, C)`, or features `(N, C)`; labels `(N)` or `(N, 1)`.
///
/// Unsigned bytes are pixels and divided by 255; numbers of other types are taken as they are.
pub(crate) fn open(path: &Path, classes: Option<usize>) -> Result<InMemory, Error> {
    let file = File::open(path).map_err(|error| Error::file(path, error))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| zip_error(path, error))?;
    let has = |key: &str| archive.index_for_name(&format!("{key}.npy")).is_some();
    let keys = KEYS.iter().find(|[train, ..]| train.is_some_and(|[images, _]| has(images)));
    let &[train_keys, more_keys, test_keys] = keys.ok_or_else(|| {
        let missing = "the array of training images".to_owned();
        Error::file(path, ErrorKind::Missing { missing, accepted: "x_train or train_images".into() })
    })?;
    let more_keys = more_keys.filter(|[images, _]| has(images));
    let mut part = |keys: Option<[&str; 2]>| keys.map(|keys| read_part(&mut archive, path, keys)).transpose();
    let required = |part: Option<Part>| part.ok_or_else(|| Error::file(path, ErrorKind::Empty));
    let (mut train, more, test) =
        (required(part(train_keys)?)?, part(more_keys)?, required(part(test_keys)?)?);
    for other in more.iter().chain([&test]) {
        if other.shape != train.shape {
            let (found, expected) = (other.shape.to_string(), train.shape.to_string());
            return Err(Error::file(&other.images, ErrorKind::Size { found, expected, advice: "" }));
        }
    }
    let names = labels::numbered(&train.label_key, &train.examples.labels, classes)?;
    for other in more.iter().chain([&test]) {
        labels::check(&other.label_key, &other.examples.labels, names.len())?;
    }
    if let Some(more) = more {
        train.append(more)?;
    }
    let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
    InMemory::new(name, train.shape, names, train.examples, test.examples)
}

/// One pair of arrays; the paths name file and key for errors.
struct Part {
    images: PathBuf,
    label_key: PathBuf,
    shape: Shape,
    examples: Examples,
}

impl Part {
    fn append(&mut self, more: Self) -> Result<(), Error> {
        match (&mut self.examples.values, more.examples.values) {
            (Values::Bytes { data, .. }, Values::Bytes { data: more, .. }) => data.extend(more),
            (Values::Floats(data), Values::Floats(more)) => data.extend(more),
            _ => {
                let what = format!("another type of number than {}", self.images.display());
                return Err(Error::file(&more.images, ErrorKind::Malformed(what)));
            }
        }
        self.examples.labels.extend(more.examples.labels);
        Ok(())
    }
}

type Archive = ZipArchive<BufReader<File>>;

fn read_part(archive: &mut Archive, path: &Path, [image_key, label_key]: [&str; 2]) -> Result<Part, Error> {
    let (images, label_path) = (inside(path, image_key), inside(path, label_key));
    let pixels = read_array(archive, path, image_key)?;
    let labels = read_array(archive, path, label_key)?;
    let (extent, channels) = match pixels.shape[..] {
        [_, channels] => (Extent::Flat, channels),
        [_, height, width] => (Extent::Image { height, width }, 1),
        [_, height, width, channels] => (Extent::Image { height, width }, channels),
        _ => {
            let what = format!("has {} axes; accepted: 2 to 4", pixels.shape.len());
            return Err(Error::file(&images, ErrorKind::Malformed(what)));
        }
    };
    let labels = labels.into_labels().map_err(|fault| Error::fault(&label_path, fault))?;
    if labels.len() != pixels.shape[0] {
        let kind = ErrorKind::Unpaired { images: pixels.shape[0], labels: labels.len() };
        return Err(Error::file(&label_path, kind));
    }
    let shape = Shape { extent, channels };
    if labels.is_empty() || shape.elements() == 0 {
        return Err(Error::file(&images, ErrorKind::Empty));
    }
    let finite = |values: &Values| match values {
        Values::Floats(data) => data.iter().position(|value| !value.is_finite()),
        Values::Bytes { .. } => None,
    };
    let values = pixels.into_values();
    if let Some(at) = finite(&values) {
        let (record, column) = (at / shape.elements(), (at % shape.elements() + 1).to_string());
        let kind = ErrorKind::Number { found: "a value that is not finite".into(), column };
        return Err(Error::record(&images, record, kind));
    }
    Ok(Part { images, label_key: label_path, shape, examples: Examples { values, labels } })
}

fn read_array(archive: &mut Archive, path: &Path, key: &str) -> Result<Array, Error> {
    let missing = |error| match error {
        ZipError::FileNotFound => {
            let accepted = format!("`{key}` beside the other arrays");
            Error::file(path, ErrorKind::Missing { missing: format!("array `{key}`"), accepted })
        }
        error => zip_error(path, error),
    };
    let mut entry = archive.by_name(&format!("{key}.npy")).map_err(missing)?;
    Array::read(&mut entry).map_err(|fault| Error::fault(&inside(path, key), fault))
}

/// How an error names an array: `file.npz/key`.
fn inside(path: &Path, key: &str) -> PathBuf {
    path.join(key)
}

fn zip_error(path: &Path, error: ZipError) -> Error {
    match error {
        ZipError::Io(error) => Error::file(path, error),
        error => Error::file(path, ErrorKind::Malformed(format!("is no zip archive of arrays ({error})"))),
    }
}
