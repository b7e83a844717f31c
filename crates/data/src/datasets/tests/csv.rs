use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::tempdir;

use super::{example, refuses};
use crate::datasets::csv;
use crate::{DataOptions, Dataset, Error, Header, Part};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn named(label: &str) -> DataOptions {
    DataOptions { label: Some(label.into()), ..DataOptions::default() }
}

/// All rows of a table, in order, with their class names: the test part is a copy of the table.
#[track_caller]
fn rows(text: &str, options: DataOptions) -> Vec<(Vec<f32>, String)> {
    let dir = tempdir().expect("a temporary folder");
    let path = dir.path().join("table.csv");
    fs::write(&path, text).expect("a temporary file");
    let data =
        csv::open(&path, &DataOptions { test_file: Some(path.clone()), ..options }).expect("a good table");
    let class = |(values, label): (Vec<f32>, u32)| (values, data.info().classes[label as usize].clone());
    (0..data.len(Part::Train)).map(|index| class(example(&data, Part::Train, index))).collect()
}

#[test]
fn the_first_line_is_a_header_if_a_feature_is_a_word() {
    let expected = [(vec![1.0, 2.5], "yes".to_owned()), (vec![-3.0, 4e2], "no".to_owned())];
    assert_eq!(rows("a,b,label\n1,2.5,yes\n-3,4e2,no\n", DataOptions::default()), expected);
    assert_eq!(rows("1, 2.5, yes\n-3,4e2,no", DataOptions::default()), expected);
}

#[test]
fn a_header_of_numbers_is_announced() {
    let present = DataOptions { header: Header::Present, ..DataOptions::default() };
    assert_eq!(rows("1,2\n5,no\n", present), [(vec![5.0], "no".to_owned())]);
}

#[test]
fn the_label_may_be_any_named_column() {
    let expected = [(vec![1.0, 3.0], "x".to_owned()), (vec![4.0, 6.0], "y".to_owned())];
    assert_eq!(rows("a,class,b\n1,x,3\n4,y,6\n", named("class")), expected);
}

#[test]
fn classes_are_sorted_by_number_where_all_are_integers_and_else_by_text() -> Result {
    let dir = tempdir()?;
    for (text, expected) in [("1,10\n1,2\n1,10\n1,2\n", ["2", "10"]), ("1,b\n1,a\n1,b\n1,a\n", ["a", "b"])] {
        let path = dir.path().join("t.csv");
        fs::write(&path, text)?;
        assert_eq!(csv::open(&path, &DataOptions::default())?.info().classes, expected);
    }
    Ok(())
}

#[test]
fn a_share_of_every_class_is_for_testing_and_the_seed_says_which() -> Result {
    let dir = tempdir()?;
    let path = dir.path().join("t.csv");
    let text: Vec<String> =
        (0..60).map(|i| format!("{i},{}\n", if i < 40 { "many" } else { "few" })).collect();
    fs::write(&path, text.concat())?;
    let tested = |test_seed| -> std::result::Result<Vec<f32>, Error> {
        let data = csv::open(&path, &DataOptions { test_seed, ..DataOptions::default() })?;
        assert_eq!((data.len(Part::Train), data.len(Part::Test)), (48, 12));
        Ok((0..12).map(|index| example(&data, Part::Test, index).0[0]).collect())
    };
    let zero = tested(0)?;
    assert_eq!(zero.iter().filter(|value| **value < 40.0).count(), 8);
    assert_eq!(zero, tested(0)?);
    assert_ne!(zero, tested(1)?);
    Ok(())
}

#[track_caller]
fn refuses_table(text: &str, options: &DataOptions, expected: &str) {
    let dir = tempdir().expect("a temporary folder");
    fs::write(dir.path().join("t.csv"), text).expect("a temporary file");
    refuses("csv:DIR/t.csv", dir.path(), options, expected);
}

#[test]
fn faulty_tables_are_refused() {
    let plain = DataOptions::default();
    refuses_table("", &plain, "DIR/t.csv: holds no examples");
    refuses_table("a,b\n", &plain, "DIR/t.csv: holds no examples");
    refuses_table("a,y\n1,x\nNaN,x\n", &plain, "DIR/t.csv:3: `NaN` in column a; accepted: a finite number");
    refuses_table("1,2,x\n3,,x\n", &plain, "DIR/t.csv:2: `` in column 2; accepted: a finite number");
    refuses_table(",2,x\n3,4,x\n", &plain, "DIR/t.csv:1: `` in column 1; accepted: a finite number");
    refuses_table("1,x\n1e99,x\n", &plain, "DIR/t.csv:2: `1e99` in column 1; accepted: a finite number");
    refuses_table("1,x\n2,\n", &plain, "DIR/t.csv:2: label ``; accepted: a word or an integer");
    refuses_table("1,x\n2,y\n", &plain, "DIR/t.csv: no class has two rows, so none can be tested on");
    refuses_table("x\ny\n", &plain, "DIR/t.csv:1: has 1 column; accepted: 2 or more, features and label");
    refuses_table("a,b\n1,x\n", &named("c"), "DIR/t.csv:1: column `c` is missing; accepted: a, b");
    let ragged = "CSV error: record 1 (line: 2, byte: 4): found record with 3 fields, but the previous record has 2 fields";
    refuses_table("1,x\n1,2,x\n", &plain, &format!("DIR/t.csv:2: {ragged}"));
}

#[test]
fn the_test_file_has_the_columns_and_classes_of_the_training_file() -> Result {
    let dir = tempdir()?;
    let test: PathBuf = dir.path().join("test.csv");
    let options = DataOptions { test_file: Some(test.clone()), ..DataOptions::default() };
    fs::write(dir.path().join("t.csv"), "a,y\n1,x\n")?;
    fs::write(&test, "a,y\n1,x\n2,z\n")?;
    refuses("csv:DIR/t.csv", dir.path(), &options, "DIR/test.csv:3: label z; accepted: x");
    fs::write(&test, "b,y\n1,x\n")?;
    refuses("csv:DIR/t.csv", dir.path(), &options, "DIR/test.csv: has the features b; accepted: a");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_are_a_table_or_an_error(bytes: Vec<u8>) {
        let dir = tempdir()?;
        let path = dir.path().join("t.csv");
        fs::write(&path, &bytes)?;
        let _ = csv::open(&path, &DataOptions::default());
        let _ = csv::open(&path, &DataOptions { header: Header::Present, ..DataOptions::default() });
    }
}
