//! Single pictures and rows, for networks that are trained; and pictures of data, for people.

use std::path::Path;

use image::imageops::FilterType;
use image::{DynamicImage, GrayImage, ImageFormat, ImageReader, Luma, Rgb, RgbImage, imageops};
use search_space::{Extent, Rank, Shape};

use crate::datasets::open_text;
use crate::{Dataset, Error, ErrorKind, Part};

/// Examples of each class on a [`contact_sheet`].
const COLUMNS: usize = 10;
/// Classes on a contact sheet, at most.
const ROWS: usize = 30;

/// Reads a PNG or JPEG as one example of `shape`, channels last, in [0, 1]: grey or colored as the shape has 1 or 3
/// channels, brought to its height and width (bilinear, aspect ratio not kept).
///
/// # Errors
/// The file is no picture that can be read, or examples of this shape are no pictures.
pub fn picture(path: &Path, shape: Shape) -> Result<Vec<f32>, Error> {
    let (Extent::Image { height, width }, 1 | 3) = (shape.extent, shape.channels) else {
        return Err(Error::file(path, unlike(shape, "a picture")));
    };
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let image = reader.map_err(|error| Error::file(path, error))?.decode();
    let image = image.map_err(|error| Error::file(path, error))?;
    let image = match shape.channels {
        1 => DynamicImage::ImageLuma8(image.into_luma8()),
        _ => DynamicImage::ImageRgb8(image.into_rgb8()),
    };
    let same = (image.height() as usize, image.width() as usize) == (height, width);
    let image =
        if same { image } else { image.resize_exact(width as u32, height as u32, FilterType::Triangle) };
    Ok(image.into_bytes().into_iter().map(|byte| f32::from(byte) / 255.0).collect())
}

/// Reads a table of numbers, each row one example of `shape`, channels last; a first line of words is passed over.
///
/// # Errors
/// The file cannot be read, a row has more or fewer numbers than the shape, or something is no finite number.
pub fn rows(path: &Path, shape: Shape) -> Result<Vec<Vec<f32>>, Error> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(open_text(path)?);
    let mut examples = Vec::new();
    for (index, row) in reader.records().enumerate() {
        let line = index as u64 + 1;
        let row = row.map_err(|error| Error::line(path, line, ErrorKind::Malformed(error.to_string())))?;
        let numbers: Vec<Option<f32>> =
            row.iter().map(|cell| cell.parse().ok().filter(|x: &f32| x.is_finite())).collect();
        if line == 1 && row.iter().all(|cell| cell.parse::<f32>().is_err()) {
            continue; // names
        }
        if let Some(at) = numbers.iter().position(Option::is_none) {
            let (found, column) = (row.get(at).unwrap_or_default().to_owned(), (at + 1).to_string());
            return Err(Error::line(path, line, ErrorKind::Number { found, column }));
        }
        if numbers.len() != shape.elements() {
            let what = format!("has {} numbers; accepted: {} ({shape})", numbers.len(), shape.elements());
            return Err(Error::line(path, line, ErrorKind::Malformed(what)));
        }
        examples.push(numbers.into_iter().flatten().collect());
    }
    if examples.is_empty() { Err(Error::file(path, ErrorKind::Empty)) } else { Ok(examples) }
}

/// One example as a PNG, its values in [0, 1]; series are drawn with time to the right, a row a channel.
///
/// # Errors
/// Examples of this shape are no pictures: they are flat, or have other than 1 or 3 channels.
pub fn png(values: &[f32], shape: Shape) -> Result<Vec<u8>, Error> {
    let image = drawn(values, shape, (0.0, 1.0))
        .ok_or_else(|| Error::named("example", unlike(shape, "a picture")))?;
    Ok(encoded(image))
}

/// Ten training examples of every class, a row a class, as one PNG; nothing where examples are flat.
///
/// Examples come evenly from the whole part. Values are drawn from black to white over the range of each example
/// where they are no pixels. A data set of more than 30 classes shows its first 30.
#[must_use]
pub fn contact_sheet(dataset: &dyn Dataset) -> Option<Vec<u8>> {
    let (shape, classes) = (dataset.info().shape, dataset.info().classes.len().min(ROWS));
    let mut values = vec![0.0; shape.elements()];
    let mut members = vec![Vec::new(); dataset.info().classes.len()];
    for index in 0..dataset.len(Part::Train) {
        members[dataset.read(Part::Train, index, &mut values) as usize].push(index);
    }
    let (height, width) = cell(shape)?;
    let scale = (32 / height.max(width)).max(1);
    let (high, wide) = (height * scale + 2, width * scale + 2);
    let mut sheet =
        RgbImage::from_pixel((wide * COLUMNS + 2) as u32, (high * classes + 2) as u32, Rgb([128; 3]));
    for (row, members) in members.iter().take(classes).enumerate() {
        let n = members.len().min(COLUMNS);
        for column in 0..n {
            dataset.read(Part::Train, members[column * members.len() / n], &mut values);
            let image = drawn(&values, shape, range(&values))?;
            let image = imageops::resize(
                &image,
                (width * scale) as u32,
                (height * scale) as u32,
                FilterType::Nearest,
            );
            imageops::replace(&mut sheet, &image, (column * wide + 2) as i64, (row * high + 2) as i64);
        }
    }
    Some(encoded(sheet))
}

/// Rows and columns of one example's picture.
fn cell(shape: Shape) -> Option<(usize, usize)> {
    match shape.extent {
        Extent::Image { height, width } => Some((height, width)),
        Extent::Series { length } => Some((shape.channels, length)),
        Extent::Flat => None,
    }
}

/// Pixels lie in [0, 1]; other values are drawn over the range they have.
fn range(values: &[f32]) -> (f32, f32) {
    let (low, high) = values.iter().fold((0.0f32, 0.0f32), |(low, high), &x| (low.min(x), high.max(x)));
    if low >= 0.0 && high <= 1.0 { (0.0, 1.0) } else { (low, high) }
}

fn drawn(values: &[f32], shape: Shape, (low, high): (f32, f32)) -> Option<RgbImage> {
    let byte = |value: f32| ((value - low) / (high - low) * 255.0).round().clamp(0.0, 255.0) as u8;
    let (height, width) = cell(shape)?;
    match (shape.extent.rank(), shape.channels) {
        (Rank::Image, 3) => Some(RgbImage::from_fn(width as u32, height as u32, |x, y| {
            let at = (y as usize * width + x as usize) * 3;
            Rgb([byte(values[at]), byte(values[at + 1]), byte(values[at + 2])])
        })),
        (Rank::Image, channels) => Some(grey(width, height, |x, y| byte(values[(y * width + x) * channels]))),
        (Rank::Series, channels) => Some(grey(width, height, |x, y| byte(values[x * channels + y]))),
        (Rank::Flat, _) => None,
    }
}

fn grey(width: usize, height: usize, at: impl Fn(usize, usize) -> u8) -> RgbImage {
    let image = GrayImage::from_fn(width as u32, height as u32, |x, y| Luma([at(x as usize, y as usize)]));
    DynamicImage::ImageLuma8(image).into_rgb8()
}

fn encoded(image: RgbImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).expect("memory takes a PNG");
    bytes.into_inner()
}

fn unlike(shape: Shape, found: &str) -> ErrorKind {
    ErrorKind::Malformed(format!("is {found}; accepted: examples of {shape}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataOptions, DataSpec, open};

    const SHAPE: Shape = Shape { extent: Extent::Image { height: 8, width: 8 }, channels: 1 };

    #[test]
    fn a_picture_that_was_written_reads_back() -> Result<(), Error> {
        let digits = open(&DataSpec::Digits, &DataOptions::default())?;
        let mut values = vec![0.0; 64];
        digits.read(Part::Test, 5, &mut values);
        let file = tempfile::NamedTempFile::new().map_err(|error| Error::named("file", error))?;
        std::fs::write(file.path(), png(&values, SHAPE)?).map_err(|error| Error::file(file.path(), error))?;
        let read = picture(file.path(), SHAPE)?;
        assert!(values.iter().zip(&read).all(|(a, b)| (a - b).abs() <= 0.5 / 255.0), "{read:?}");
        let twice = Shape { extent: Extent::Image { height: 16, width: 4 }, channels: 3 };
        assert_eq!(picture(file.path(), twice)?.len(), 16 * 4 * 3);
        let series = Shape { extent: Extent::Series { length: 8 }, channels: 8 };
        assert!(picture(file.path(), series).is_err());
        Ok(())
    }

    #[test]
    fn rows_are_read_and_refused_by_line() -> Result<(), Error> {
        let flat = Shape { extent: Extent::Flat, channels: 2 };
        let read = |text: &str| {
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), text).expect("writable");
            rows(file.path(), flat)
                .map_err(|error| error.to_string().split_once(':').expect("a place").1.to_owned())
        };
        assert_eq!(read("a,b\n1,2\n3, 4\n"), Ok(vec![vec![1.0, 2.0], vec![3.0, 4.0]]));
        assert!(read("1,2\n3,NaN\n").is_err_and(|message| message.starts_with("2: ")));
        assert!(read("1,2\n3\n").is_err_and(|message| message.contains("1 numbers; accepted: 2")));
        assert!(read("a,b\n").is_err_and(|message| message.contains("no examples")));
        Ok(())
    }

    #[test]
    fn a_sheet_has_a_row_a_class() -> Result<(), Error> {
        let digits = open(&DataSpec::Digits, &DataOptions::default())?;
        let sheet = image::load_from_memory(&contact_sheet(&*digits).expect("digits are pictures"));
        let sheet = sheet.expect("a PNG");
        assert_eq!((sheet.width(), sheet.height()), (34 * 10 + 2, 34 * 10 + 2)); // 8×8, four times as large
        Ok(())
    }
}
