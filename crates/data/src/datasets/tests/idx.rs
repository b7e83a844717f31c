use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use search_space::{Extent, Shape};
use tempfile::{TempDir, tempdir};

use super::{example, image, refuses};
use crate::datasets::idx;
use crate::{DataOptions, Dataset, Part};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn file(dims: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dims.len() as u8];
    dims.iter().for_each(|dim| bytes.extend(dim.to_be_bytes()));
    bytes.extend(data);
    bytes
}

/// Two training images of 1×2 pixels and one test image.
fn small() -> std::io::Result<TempDir> {
    let dir = tempdir()?;
    fs::write(dir.path().join("train-images-idx3-ubyte"), file(&[2, 1, 2], &[0, 51, 102, 255]))?;
    fs::write(dir.path().join("train-labels-idx1-ubyte"), file(&[2], &[1, 0]))?;
    fs::write(dir.path().join("t10k-images-idx3-ubyte"), file(&[1, 1, 2], &[255, 0]))?;
    fs::write(dir.path().join("t10k-labels-idx1-ubyte"), file(&[1], &[1]))?;
    Ok(dir)
}

fn gzip(path: &Path) -> std::io::Result<()> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(&fs::read(path)?)?;
    fs::write(path, gz.finish()?)
}

/// Writes `bytes` over one file of a good folder and opens it.
#[track_caller]
fn refuses_file(name: &str, bytes: &[u8], expected: &str) {
    let dir = small().expect("a temporary folder");
    fs::write(dir.path().join(name), bytes).expect("a temporary file");
    refuses("idx:DIR", dir.path(), &DataOptions::default(), expected);
}

#[test]
fn pairs_are_read_by_their_names() -> Result {
    let dir = small()?;
    let data = idx::open(dir.path(), None)?;
    assert_eq!(example(&data, Part::Train, 1), (vec![0.4, 1.0], 0));
    assert_eq!(example(&data, Part::Test, 0), (vec![1.0, 0.0], 1));
    Ok(())
}

#[test]
fn the_test_pair_may_be_named_test_and_every_file_gzipped() -> Result {
    let dir = small()?;
    for kind in ["images-idx3-ubyte", "labels-idx1-ubyte"] {
        let to = dir.path().join(format!("test-{kind}.gz"));
        fs::rename(dir.path().join(format!("t10k-{kind}")), &to)?;
        gzip(&to)?;
        gzip(&dir.path().join(format!("train-{kind}")))?;
    }
    let data = idx::open(dir.path(), None)?;
    assert_eq!(example(&data, Part::Train, 1), (vec![0.4, 1.0], 0));
    assert_eq!(example(&data, Part::Test, 0), (vec![1.0, 0.0], 1));
    Ok(())
}

#[test]
fn two_axes_are_flat_and_four_have_channels() -> Result {
    let flat = Shape { extent: Extent::Flat, channels: 6 };
    for (tail, shape) in [(vec![6], flat), (vec![2, 3], image(2, 3, 1)), (vec![1, 2, 3], image(1, 2, 3))] {
        let dir = small()?;
        for (name, n) in [("train", 2u32), ("t10k", 1)] {
            let dims: Vec<u32> = [n].into_iter().chain(tail.iter().copied()).collect();
            let pixels = vec![7; 6 * n as usize];
            fs::write(dir.path().join(format!("{name}-images-idx3-ubyte")), file(&dims, &pixels))?;
        }
        assert_eq!(idx::open(dir.path(), None)?.info().shape, shape);
    }
    Ok(())
}

#[test]
fn truncation_names_the_record() -> Result {
    let images = file(&[2, 1, 2], &[0, 51, 102]);
    let expected = "DIR/train-images-idx3-ubyte: record 1: ends at byte 3 of 4";
    refuses_file("train-images-idx3-ubyte", &images, expected);
    let short = file(&[1], &[]);
    refuses_file(
        "t10k-labels-idx1-ubyte",
        &short,
        "DIR/t10k-labels-idx1-ubyte: record 0: ends at byte 0 of 1",
    );
    refuses_file("t10k-labels-idx1-ubyte", &[0, 0], "DIR/t10k-labels-idx1-ubyte: ends at byte 2 of 4");
    Ok(())
}

#[test]
fn a_gzip_stream_that_breaks_off_names_the_record() -> Result {
    let dir = small()?;
    let path = dir.path().join("train-images-idx3-ubyte");
    let mut pixels = vec![0; 60_000];
    ChaCha8Rng::seed_from_u64(0).fill_bytes(&mut pixels);
    fs::write(&path, file(&[2, 100, 300], &pixels))?;
    gzip(&path)?;
    fs::write(&path, &fs::read(&path)?[..40_000])?;
    let Err(error) = idx::open(dir.path(), None) else { panic!("half a file was accepted") };
    assert!(error.to_string().contains("train-images-idx3-ubyte: record 1: ends at byte "), "{error}");
    Ok(())
}

#[test]
fn faulty_files_are_refused() {
    let images = "train-images-idx3-ubyte";
    let magic =
        "DIR/train-images-idx3-ubyte: starts with [50, 4b, 03, 04]; accepted: 00 00 08 and 1 to 8 axes";
    refuses_file(images, b"PK\x03\x04", magic);
    refuses_file(
        images,
        &file(&[2, 1, 2], &[0; 5]),
        "DIR/train-images-idx3-ubyte: goes on after its 4 bytes",
    );
    refuses_file(images, &file(&[2], &[0; 2]), "DIR/train-images-idx3-ubyte: has 1 axes; accepted: 2 to 4");
    refuses_file(images, &[], "DIR/train-images-idx3-ubyte: ends at byte 0 of 4");
    refuses_file(images, &file(&[3, 1, 1], &[0; 3]), "DIR/train-labels-idx1-ubyte: 2 labels for 3 examples");
    refuses_file(
        images,
        &file(&[u32::MAX; 3], &[]),
        "DIR/train-images-idx3-ubyte: announces 18446744073709551615 bytes; accepted: at most 17179869184",
    );
    refuses_file(
        "t10k-images-idx3-ubyte",
        &file(&[1, 2, 1], &[0; 2]),
        "DIR/t10k-images-idx3-ubyte: is 2×1×1; accepted: 1×2×1, the size of the others",
    );
}

#[test]
fn faulty_labels_are_refused() {
    let gap =
        "DIR/train-labels-idx1-ubyte: labels run to 200, yet none is 1; if that is right, set `classes: 201`";
    refuses_file("train-labels-idx1-ubyte", &file(&[2], &[0, 200]), gap);
    let unknown = "DIR/t10k-labels-idx1-ubyte: record 0: label 2; accepted: 0 to 1";
    refuses_file("t10k-labels-idx1-ubyte", &file(&[1], &[2]), unknown);
}

#[test]
fn declared_classes_may_leave_gaps_but_bound_the_labels() -> Result {
    let dir = small()?;
    assert_eq!(idx::open(dir.path(), Some(5))?.info().classes.len(), 5);
    let Err(error) = idx::open(dir.path(), Some(1)) else { panic!("label 1 of 1 class was accepted") };
    assert!(error.to_string().ends_with("train-labels-idx1-ubyte: record 0: label 1; accepted: 0 to 0"));
    Ok(())
}

#[test]
fn missing_files_are_named() -> Result {
    let dir = small()?;
    fs::remove_file(dir.path().join("t10k-images-idx3-ubyte"))?;
    let accepted = "t10k-images… or test-images…, gzipped or not";
    let expected = format!("DIR: the file of t10k images is missing; accepted: {accepted}");
    refuses("idx:DIR", dir.path(), &DataOptions::default(), &expected);
    refuses("idx:DIR", &dir.path().join("no"), &DataOptions::default(), "DIR: cannot be read");
    Ok(())
}

#[test]
fn empty_parts_are_refused() {
    let empty = file(&[0, 1, 2], &[]);
    let expected = "DIR/train-labels-idx1-ubyte: 2 labels for 0 examples";
    refuses_file("train-images-idx3-ubyte", &empty, expected);
    refuses_file(
        "train-images-idx3-ubyte",
        &file(&[2, 0, 2], &[]),
        "DIR/train-images-idx3-ubyte: holds no examples",
    );
}

proptest! {
    #[test]
    fn any_bytes_are_a_file_or_an_error(bytes: Vec<u8>) {
        let _ = idx::parse(&mut bytes.as_slice());
        let _ = idx::parse(&mut [&[0, 0, 8, 3], bytes.as_slice()].concat().as_slice());
    }
}
