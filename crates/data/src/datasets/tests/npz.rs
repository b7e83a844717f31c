use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use proptest::prelude::*;
use search_space::{Extent, Shape};
use tempfile::{TempDir, tempdir};
use zip::{ZipWriter, write::SimpleFileOptions};

use super::{example, image, refuses};
use crate::datasets::Values;
use crate::datasets::npz::{self, array::Array};
use crate::{DataOptions, Dataset, Part};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A `.npy` file of version 1.
fn npy(descr: &str, shape: &str, fortran: bool, data: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
}

fn archive(arrays: &[(&str, Vec<u8>)]) -> Result<TempDir> {
    let dir = tempdir()?;
    let mut zip = ZipWriter::new(File::create(dir.path().join("d.npz"))?);
    for (key, bytes) in arrays {
        zip.start_file(format!("{key}.npy"), SimpleFileOptions::default())?;
        zip.write_all(bytes)?;
    }
    zip.finish()?;
    Ok(dir)
}

/// Keras' keys: two training images of 1×2 pixels, one test image.
fn keras() -> [(&'static str, Vec<u8>); 4] {
    [
        ("x_train", npy("|u1", "(2, 1, 2)", false, &[0, 51, 102, 255])),
        ("y_train", npy("<i8", "(2,)", false, &[1i64, 0].map(i64::to_le_bytes).concat())),
        ("x_test", npy("|u1", "(1, 1, 2)", false, &[255, 0])),
        ("y_test", npy("|u1", "(1, 1)", false, &[1])),
    ]
}

#[test]
fn the_keys_of_keras_are_two_parts() -> Result {
    let dir = archive(&keras())?;
    let data = npz::open(&dir.path().join("d.npz"), None)?;
    assert_eq!(data.info().shape, image(1, 2, 1));
    assert_eq!(example(&data, Part::Train, 1), (vec![0.4, 1.0], 0));
    assert_eq!(example(&data, Part::Test, 0), (vec![1.0, 0.0], 1));
    Ok(())
}

#[test]
fn validation_images_of_medmnist_follow_its_training_images() -> Result {
    let labels = |label| npy("|u1", "(1, 1)", false, &[label]);
    let images = |pixel: u8| npy("|u1", "(1, 1, 1, 3)", false, &[pixel; 3]);
    let dir = archive(&[
        ("train_images", images(0)),
        ("train_labels", labels(0)),
        ("val_images", images(51)),
        ("val_labels", labels(0)),
        ("test_images", images(255)),
        ("test_labels", labels(0)),
    ])?;
    let data = npz::open(&dir.path().join("d.npz"), None)?;
    assert_eq!(data.info().shape, image(1, 1, 3));
    assert_eq!((data.len(Part::Train), data.len(Part::Test)), (2, 1));
    assert_eq!(example(&data, Part::Train, 1).0, [0.2; 3]);
    Ok(())
}

#[test]
fn features_of_two_axes_are_flat_and_taken_as_they_are() -> Result {
    let mut arrays = keras();
    arrays[0].1 = npy("<f8", "(2, 2)", false, &[-1.5f64, 2.0, 3.0, 400.0].map(f64::to_le_bytes).concat());
    arrays[2].1 = npy("<f8", "(1, 2)", false, &[0.5f64, 0.25].map(f64::to_le_bytes).concat());
    let dir = archive(&arrays)?;
    let data = npz::open(&dir.path().join("d.npz"), None)?;
    assert_eq!(data.info().shape, Shape { extent: Extent::Flat, channels: 2 });
    assert_eq!(example(&data, Part::Train, 1).0, [3.0, 400.0]);
    Ok(())
}

#[track_caller]
fn reads(descr: &str, data: &[u8], expected: [f32; 2]) {
    let array = Array::read(&mut npy(descr, "(2,)", false, data).as_slice()).expect("a good array");
    let Values::Floats(values) = array.into_values() else { panic!("{descr} became bytes") };
    assert_eq!(values, expected, "{descr}");
}

#[test]
fn every_type_of_number_is_read() {
    reads("|i1", &[1, 0xff], [1.0, -1.0]);
    reads("<u2", &[1, 2, 0, 1], [513.0, 256.0]);
    reads("<i2", &[1, 0, 0xff, 0xff], [1.0, -1.0]);
    reads("<i4", &[7i32, -9].map(i32::to_le_bytes).concat(), [7.0, -9.0]);
    reads("<u4", &[7u32, 1 << 31].map(u32::to_le_bytes).concat(), [7.0, 2_147_483_648.0]);
    reads("<i8", &[1i64 << 40, -1].map(i64::to_le_bytes).concat(), [1_099_511_627_776.0, -1.0]);
    reads("<u8", &[3u64, 4].map(u64::to_le_bytes).concat(), [3.0, 4.0]);
    reads("<f4", &[0.5f32, -2.0].map(f32::to_le_bytes).concat(), [0.5, -2.0]);
    reads("<f8", &[0.5f64, -2.0].map(f64::to_le_bytes).concat(), [0.5, -2.0]);
}

#[test]
fn fortran_order_is_turned_into_c_order() -> std::result::Result<(), crate::error::Fault> {
    // [[[0, 1], [2, 3], [4, 5]], [[6, 7], [8, 9], [10, 11]]] with the first axis fastest
    let bytes = [0, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11];
    let array = Array::read(&mut npy("|u1", "(2, 3, 2)", true, &bytes).as_slice())?;
    let Values::Bytes { data, .. } = array.into_values() else { panic!("bytes became floats") };
    assert_eq!(data, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    Ok(())
}

#[track_caller]
fn refuses_array(at: usize, bytes: Vec<u8>, expected: &str) {
    let mut arrays = keras();
    arrays[at].1 = bytes;
    let dir = archive(&arrays).expect("a temporary archive");
    refuses("npz:DIR/d.npz", dir.path(), &DataOptions::default(), expected);
}

#[test]
fn faulty_arrays_are_refused() {
    let short = npy("|u1", "(2, 1, 2)", false, &[0; 3]);
    refuses_array(0, short, "DIR/d.npz/x_train: record 1: ends at byte 3 of 4");
    let long = npy("|u1", "(2, 1, 2)", false, &[0; 5]);
    refuses_array(0, long, "DIR/d.npz/x_train: goes on after its 4 bytes");
    let empty = npy("|u1", "(0, 1, 2)", false, &[]);
    refuses_array(0, empty, "DIR/d.npz/y_train: 2 labels for 0 examples");
    let text = npy("<U5", "(2, 1, 2)", false, &[]);
    let types = "|u1, |i1, |b1, <u2 to <u8, <i2 to <i8, <f4, <f8";
    refuses_array(0, text, &format!("DIR/d.npz/x_train: holds numbers of type `<U5`; accepted: {types}"));
    let magic = "starts with [6e, 6f, 20, 61, 72, 72, 61, 79]; accepted: 93 NUMPY, versions 1 to 3";
    refuses_array(0, b"no array".to_vec(), &format!("DIR/d.npz/x_train: {magic}"));
    let header = "has the header `{'descr': '|u1', 'fortran_order': False, 'shape': 7, }`";
    let expected = format!("DIR/d.npz/x_train: {header}; accepted: descr, fortran_order, shape");
    refuses_array(0, npy("|u1", "7", false, &[]), &expected);
    let huge = npy("<f8", "(99999999999, 99999999999, 99999999999)", false, &[]);
    let limit = "announces 18446744073709551615 bytes; accepted: at most 17179869184";
    refuses_array(0, huge, &format!("DIR/d.npz/x_train: {limit}"));
    let nan = npy("<f4", "(2, 1)", false, &[0.0, f32::NAN].map(f32::to_le_bytes).concat());
    let finite = "a value that is not finite in column 1; accepted: a finite number";
    refuses_array(0, nan, &format!("DIR/d.npz/x_train: record 1: {finite}"));
    let other = npy("|u1", "(1, 2, 2)", false, &[0; 4]);
    refuses_array(2, other, "DIR/d.npz/x_test: is 2×2×1; accepted: 1×2×1, the size of the others");
}

#[test]
fn faulty_labels_are_refused() {
    let several = npy("|u1", "(2, 3)", false, &[0; 6]);
    let shape = "has shape [2, 3]; accepted: one label for each example";
    refuses_array(1, several, &format!("DIR/d.npz/y_train: {shape}"));
    let negative = npy("|i1", "(2,)", false, &[0, 0xff]);
    refuses_array(1, negative, "DIR/d.npz/y_train: record 1: label -1; accepted: integers from 0");
    let few = npy("|u1", "(1,)", false, &[0]);
    refuses_array(1, few, "DIR/d.npz/y_train: 1 labels for 2 examples");
    let unknown = npy("|u1", "(1,)", false, &[2]);
    refuses_array(3, unknown, "DIR/d.npz/y_test: record 0: label 2; accepted: 0 to 1");
}

#[test]
fn missing_arrays_are_named() -> Result {
    let dir = archive(&keras()[..3])?;
    let missing = "array `y_test` is missing; accepted: `y_test` beside the other arrays";
    refuses("npz:DIR/d.npz", dir.path(), &DataOptions::default(), &format!("DIR/d.npz: {missing}"));
    let dir = archive(&keras()[1..])?;
    let missing = "the array of training images is missing; accepted: x_train or train_images";
    refuses("npz:DIR/d.npz", dir.path(), &DataOptions::default(), &format!("DIR/d.npz: {missing}"));
    Ok(())
}

fn open_bytes(path: &Path, bytes: &[u8]) -> std::io::Result<bool> {
    fs::write(path, bytes)?;
    Ok(npz::open(path, None).is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_bytes_are_an_array_or_an_error(bytes: Vec<u8>, shape in "[(0-9, )]{0,12}") {
        let _ = Array::read(&mut bytes.as_slice());
        let _ = Array::read(&mut npy("<i8", &shape, true, &bytes).as_slice()).map(Array::into_labels);
    }

    #[test]
    fn a_damaged_archive_never_panics(at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let dir = archive(&keras()).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let path = dir.path().join("d.npz");
        let mut bytes = fs::read(&path)?;
        let at = at.index(bytes.len());
        bytes[at] = byte;
        open_bytes(&path, &bytes)?;
        bytes.truncate(cut.index(bytes.len()));
        prop_assert!(!open_bytes(&path, &bytes)?, "half an archive was accepted");
    }
}
