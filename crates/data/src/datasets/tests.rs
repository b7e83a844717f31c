mod cifar;
mod csv;
mod folder;
mod idx;
mod npz;

use std::path::Path;
use std::sync::Arc;

use search_space::{Extent, Shape};

use super::{Examples, InMemory, Values};
use crate::{DataOptions, DataSpec, Dataset, Error, Form, Part, fingerprint, open};

/// The value and label of one example.
fn example(data: &dyn Dataset, part: Part, index: usize) -> (Vec<f32>, u32) {
    let mut values = vec![0.0; data.info().shape.elements()];
    let label = data.read(part, index, &mut values);
    (values, label)
}

/// `spec` is a kind; `dir` stands for its path, and for `DIR` in the expected message.
#[track_caller]
fn refuses(spec: &str, dir: &Path, options: &DataOptions, expected: &str) {
    let dir = dir.display().to_string();
    let spec: DataSpec = spec.replace("DIR", &dir).parse().expect("a kind and a path");
    let Err(error) = open(&spec, options) else { panic!("faulty data was accepted") };
    assert_eq!(error.to_string().replace(&dir, "DIR").replace('\\', "/"), expected);
}

fn image(height: usize, width: usize, channels: usize) -> Shape {
    Shape { extent: Extent::Image { height, width }, channels }
}

#[test]
fn digits_are_those_of_uci() -> Result<(), Error> {
    let digits = open(&DataSpec::Digits, &DataOptions::default())?;
    assert_eq!(digits.info().shape, image(8, 8, 1));
    assert_eq!((digits.len(Part::Train), digits.len(Part::Test)), (3_823, 1_797));
    let (pixels, label) = example(&*digits, Part::Test, 0);
    assert_eq!(label, 0);
    assert_eq!(pixels[..8], [0.0, 0.0, 5.0 / 16.0, 13.0 / 16.0, 9.0 / 16.0, 1.0 / 16.0, 0.0, 0.0]);
    let mut counts = [0; 10];
    (0..3_823).for_each(|index| counts[example(&*digits, Part::Train, index).1 as usize] += 1);
    assert_eq!(counts, [376, 389, 380, 389, 387, 376, 377, 387, 380, 382]);
    Ok(())
}

#[test]
fn a_series_has_columns_as_time_and_rows_times_channels_as_channels() -> Result<(), Error> {
    let values = Values::Floats((0u8..12).map(f32::from).collect()); // (2, 3, 2)
    let train = Examples { values, labels: vec![0] };
    let data = InMemory::new("ramp", image(2, 3, 2), vec!["ramp".into()], train, Examples::default())?;
    let series = super::series::view(Arc::new(data))?;
    assert_eq!(series.info().shape, Shape { extent: Extent::Series { length: 3 }, channels: 4 });
    let expected = [0.0, 1.0, 6.0, 7.0, 2.0, 3.0, 8.0, 9.0, 4.0, 5.0, 10.0, 11.0];
    assert_eq!(example(&*series, Part::Train, 0).0, expected);
    Ok(())
}

#[test]
fn flat_examples_are_no_series() -> Result<(), Error> {
    let shape = Shape { extent: Extent::Flat, channels: 1 };
    let train = Examples { values: Values::Floats(vec![0.0]), labels: vec![0] };
    let data = InMemory::new("point", shape, vec!["point".into()], train, Examples::default())?;
    let Err(error) = super::series::view(Arc::new(data)) else { panic!("flat data was accepted") };
    assert_eq!(error.to_string(), "as: series of flat examples; accepted: images or series");
    Ok(())
}

#[track_caller]
fn refuses_in_memory(values: Values, labels: Vec<u32>, expected: &str) {
    let shape = Shape { extent: Extent::Flat, channels: 2 };
    let classes = vec!["a".into(), "b".into()];
    let data = InMemory::new("x", shape, classes, Examples { values, labels }, Examples::default());
    assert_eq!(data.expect_err("faulty examples were accepted").to_string(), expected);
}

#[test]
fn what_is_held_in_memory_is_checked() {
    refuses_in_memory(Values::default(), vec![], "x: holds no examples");
    refuses_in_memory(Values::Floats(vec![0.0; 4]), vec![0], "x: 1 labels for 2 examples");
    refuses_in_memory(Values::Floats(vec![0.0; 2]), vec![2], "x: label 2; accepted: below 2");
    let nan = Values::Floats(vec![0.0, 1.0, 2.0, f32::NAN]);
    refuses_in_memory(nan, vec![0, 1], "x: NaN in column 2 of example 1; accepted: a finite number");
    let zero = Values::Bytes { data: vec![0; 2], full: 0 };
    refuses_in_memory(zero, vec![0], "x: full: 0; accepted: 1 to 255");
}

#[test]
fn a_fingerprint_sees_pixels_labels_and_parts_but_no_names() -> Result<(), Error> {
    let data = |name: &str, pixel, label, test| {
        let part = |n| Examples { values: Values::Floats(vec![pixel; n]), labels: vec![label; n] };
        let classes = vec!["a".into(), "b".into()];
        InMemory::new(name, image(1, 1, 1), classes, part(3 - test), part(test))
            .map(|data| fingerprint(&data))
    };
    let one = data("one", 0.5, 0, 1)?;
    assert_eq!(one.len(), 64);
    assert_eq!(one, data("other", 0.5, 0, 1)?);
    assert_ne!(one, data("one", 0.25, 0, 1)?);
    assert_ne!(one, data("one", 0.5, 1, 1)?);
    assert_ne!(one, data("one", 0.5, 0, 2)?);
    Ok(())
}

#[test]
fn a_specification_is_a_kind_and_a_path() -> Result<(), Error> {
    for text in ["digits", "idx:a", "cifar10:a/b", "cifar100:c", "folder:d e", "csv:C:\\x.csv", "npz:ü.npz"]
    {
        assert_eq!(text.parse::<DataSpec>()?.to_string(), text);
    }
    for text in ["", "digit", "digits:x", "idx", "idx:", "mnist:a"] {
        let error = text.parse::<DataSpec>().expect_err("an unknown kind was accepted");
        let accepted = "digits, idx:DIR, cifar10:DIR, cifar100:DIR, folder:DIR, csv:FILE, npz:FILE";
        assert_eq!(error.to_string(), format!("data: `{text}`; accepted: {accepted}"));
    }
    Ok(())
}

#[test]
fn options_are_written_as_a_map_and_unknown_ones_refused() -> serde_json::Result<()> {
    let options: DataOptions = serde_json::from_str(r#"{"as": "series", "test_fraction": 0.25}"#)?;
    assert_eq!((options.form, options.test_fraction), (Form::Series, 0.25));
    assert!(serde_json::from_str::<DataOptions>(r#"{"as_series": true}"#).is_err());
    Ok(())
}

#[test]
fn options_that_do_not_apply_are_refused() {
    let here = Path::new("DIR");
    let label = DataOptions { label: Some("y".into()), ..DataOptions::default() };
    refuses("digits", here, &label, "label, test_file, header: set for digits; accepted: csv");
    let resize = DataOptions { resize: Some([8, 8]), ..DataOptions::default() };
    refuses("npz:DIR", here, &resize, "resize: set for npz:DIR; accepted: folder");
    let classes = DataOptions { classes: Some(2), ..DataOptions::default() };
    refuses("digits", here, &classes, "classes: set for digits; accepted: idx, npz");
    let fraction = DataOptions { test_fraction: 1.0, ..DataOptions::default() };
    refuses("digits", here, &fraction, "test_fraction: 1; accepted: above 0 and below 1");
}
