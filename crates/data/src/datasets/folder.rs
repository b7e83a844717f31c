//! `folder:DIR`: pictures, one sub-folder a class.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use image::imageops::FilterType;
use image::{DynamicImage, ImageReader};
use rayon::prelude::*;
use search_space::{Extent, Shape};

use super::{Examples, InMemory, Values};
use crate::{DataOptions, Error, ErrorKind, split};

/// A picture's file and class.
type Labelled = (PathBuf, u32);

/// Reads `DIR/train/CLASS/*.png` and `DIR/test/CLASS/*.png`, or `DIR/CLASS/*.png` with a share of every class to test on.
///
/// Classes are the names of the training part's sub-folders, sorted by their bytes; a name that starts with a dot is
/// passed over, and so is a file that is neither PNG nor JPEG by its extension. Pictures become 8-bit: one channel if
/// all are grey, else three; an alpha channel is dropped, not blended.
pub(crate) fn open(dir: &Path, options: &DataOptions) -> Result<InMemory, Error> {
    let (train_dir, test_dir) = (dir.join("train"), dir.join("test"));
    let own_test = match (is_part(&train_dir), is_part(&test_dir)) {
        (true, false) => return Err(Error::file(dir, lonely("test/"))),
        (false, true) => return Err(Error::file(dir, lonely("train/"))),
        (both, _) => both,
    };
    let root = if own_test { train_dir } else { dir.to_owned() };
    let classes = class_names(&root)?;
    let mut train = pictures(&root, &classes)?;
    let test = if own_test {
        let unknown = class_names(&test_dir)?.into_iter().find(|class| !classes.contains(class));
        if let Some(found) = unknown {
            return Err(Error::file(&test_dir, label(found, &classes)));
        }
        pictures(&test_dir, &classes)?
    } else {
        let labels: Vec<u32> = train.iter().map(|(_, label)| *label).collect();
        let (kept, held) = split::stratified(&labels, 1.0 - options.test_fraction, options.test_seed);
        let test = held.iter().map(|&at| train[at].clone()).collect();
        train = kept.iter().map(|&at| train[at].clone()).collect();
        test
    };
    if test.is_empty() {
        return Err(if own_test { Error::file(&test_dir, ErrorKind::Empty) } else { lone_pictures(dir) });
    }
    let name = dir.file_name().unwrap_or(dir.as_os_str()).to_string_lossy();
    let (shape, mut data) = decode(&train, &test, options.resize)?;
    let test_data = data.split_off(train.len() * shape.elements());
    let part = |data, part: Vec<Labelled>| Examples {
        values: Values::Bytes { data, full: 255 },
        labels: part.into_iter().map(|(_, label)| label).collect(),
    };
    InMemory::new(name, shape, classes, part(data, train), part(test_data, test))
}

/// A part has classes; a class that happens to be called `train` has pictures.
fn is_part(dir: &Path) -> bool {
    class_names(dir).is_ok()
}

fn lonely(missing: &str) -> ErrorKind {
    ErrorKind::Missing {
        missing: missing.into(),
        accepted: "train/ and test/ with a folder a class, or neither".into(),
    }
}

/// A share of every class is for testing, but of a class of one there is no share.
fn lone_pictures(dir: &Path) -> Error {
    let missing = "a second picture of some class, to test on,".into();
    let accepted =
        "two pictures or more in some class, or folders train/ and test/ with a folder a class".into();
    Error::file(dir, ErrorKind::Missing { missing, accepted })
}

fn label(found: String, classes: &[String]) -> ErrorKind {
    ErrorKind::Label { found, accepted: classes.join(", ") }
}

/// The entries of `dir` that do not start with a dot, sorted.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let list = || -> io::Result<Vec<PathBuf>> { fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect() };
    let mut paths = list().map_err(|error| Error::file(dir, error))?;
    paths.retain(|path| !name(path).starts_with('.'));
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn class_names(dir: &Path) -> Result<Vec<String>, Error> {
    let names: Vec<String> =
        entries(dir)?.iter().filter(|path| path.is_dir()).map(|path| name(path)).collect();
    if names.is_empty() { Err(Error::file(dir, ErrorKind::Empty)) } else { Ok(names) }
}

/// Class by class, each in the order of its file names; every sub-folder holds at least one.
fn pictures(dir: &Path, classes: &[String]) -> Result<Vec<Labelled>, Error> {
    let mut found = Vec::new();
    for class in entries(dir)?.into_iter().filter(|path| path.is_dir()) {
        let before = found.len();
        let label = classes.iter().position(|known| *known == name(&class)).unwrap_or(classes.len()) as u32;
        let (files, others): (Vec<_>, Vec<_>) =
            entries(&class)?.into_iter().partition(|path| is_picture(path));
        found.extend(files.into_iter().map(|path| (path, label)));
        if !others.is_empty() {
            tracing::warn!(folder = %class.display(), files = others.len(), "passed over: neither PNG nor JPEG");
        }
        if found.len() == before {
            return Err(Error::file(&class, ErrorKind::Empty));
        }
    }
    Ok(found)
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    matches!(extension.as_str(), "png" | "jpg" | "jpeg")
}

/// The common shape, and the pixels of both parts end to end; decoded on all threads, put together in order.
fn decode(
    train: &[Labelled],
    test: &[Labelled],
    resize: Option<[usize; 2]>,
) -> Result<(Shape, Vec<u8>), Error> {
    let paths: Vec<&Path> = train.iter().chain(test).map(|(path, _)| path.as_path()).collect();
    let images: Result<Vec<_>, Error> =
        paths.par_iter().map(|path| load(path, resize)).collect::<Vec<_>>().into_iter().collect();
    let images = images?;
    let size = (images[0].height(), images[0].width());
    let size_of = |(height, width)| format!("{height}×{width}");
    for (path, image) in paths.iter().zip(&images) {
        let found = (image.height(), image.width());
        if found != size {
            let advice = "; or set `resize: [height, width]`";
            let kind = ErrorKind::Size { found: size_of(found), expected: size_of(size), advice };
            return Err(Error::file(path, kind));
        }
    }
    let color = images.iter().any(|image| image.color().has_color());
    let bytes = |image: DynamicImage| {
        if color { image.into_rgb8().into_raw() } else { image.into_luma8().into_raw() }
    };
    let extent = Extent::Image { height: size.0 as usize, width: size.1 as usize };
    let shape = Shape { extent, channels: if color { 3 } else { 1 } };
    Ok((shape, images.into_iter().flat_map(bytes).collect()))
}

/// One picture, at most 8 bits a channel; its content, not its extension, says PNG or JPEG.
fn load(path: &Path, resize: Option<[usize; 2]>) -> Result<DynamicImage, Error> {
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let image = reader.map_err(|error| Error::file(path, error))?.decode();
    let image = image.map_err(|error| Error::file(path, error))?;
    let image = match image.color().has_color() {
        true => DynamicImage::ImageRgb8(image.into_rgb8()),
        false => DynamicImage::ImageLuma8(image.into_luma8()),
    };
    Ok(match resize {
        Some([height, width]) => image.resize_exact(width as u32, height as u32, FilterType::Triangle),
        None => image,
    })
}
