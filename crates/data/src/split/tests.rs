use std::fs;
use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use search_space::{Extent, Shape};
use tempfile::tempdir;

use super::*;
use crate::{Examples, InMemory, Values};

/// Examples `0..n` of one value each, their own index; labels as given.
fn numbered(labels: Vec<u32>) -> Arc<dyn Dataset> {
    let n = labels.len();
    let values = Values::Floats((0..n as u16).map(f32::from).collect());
    let shape = Shape { extent: Extent::Flat, channels: 1 };
    let classes = vec!["a".into(), "b".into()];
    let data = InMemory::new("n", shape, classes, Examples { values, labels }, Examples::default());
    Arc::new(data.expect("valid examples"))
}

fn split(n: usize, split: &Split) -> Result<(Vec<usize>, Vec<usize>), Error> {
    let data = SearchData::split(numbered((0..n as u32).map(|i| i % 2).collect()), split)?;
    Ok((data.weights().indices().to_vec(), data.architecture().indices().to_vec()))
}

#[test]
fn a_stratified_split_gives_every_class_its_share_and_every_example_one_side() -> Result<(), Error> {
    let labels: Vec<u32> = (0..100).map(|i| u32::from(i >= 80)).collect();
    let data = SearchData::split(numbered(labels), &Split::Stratified { fraction: 0.75, seed: 3 })?;
    let (weights, architecture) = (data.weights().indices(), data.architecture().indices());
    assert_eq!(weights.iter().filter(|index| **index < 80).count(), 60);
    assert_eq!((weights.len(), architecture.len()), (75, 25));
    let mut all = [weights, architecture].concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..100));
    assert_eq!(data.to_string(), "75 for weights, 25 for the architecture");
    Ok(())
}

#[test]
fn the_seed_alone_decides_a_stratified_split() -> Result<(), Error> {
    let by = |seed| split(40, &Split::Stratified { fraction: 0.5, seed });
    assert_eq!(by(1)?, by(1)?);
    assert_ne!(by(1)?, by(2)?);
    Ok(())
}

#[test]
fn a_class_of_two_reaches_both_sides_and_a_class_of_one_the_first() {
    assert_eq!(stratified(&[0, 1, 0], 0.99, 0).1.len(), 1);
    assert_eq!(stratified(&[0, 1, 0], 0.01, 0).0.len(), 2);
}

#[test]
fn halves_are_the_first_and_the_second() -> Result<(), Error> {
    assert_eq!(split(5, &Split::Halves)?, (vec![0, 1], vec![2, 3, 4]));
    Ok(())
}

#[test]
fn a_side_without_examples_is_refused() {
    let error = split(1, &Split::Halves).expect_err("a search without weights was accepted");
    assert_eq!(error.to_string(), "n, split halves, weights: holds no examples");
    let error = TestData::of(numbered(vec![0])).expect_err("a report on nothing was accepted");
    assert_eq!(error.to_string(), "n, Test part: holds no examples");
}

#[test]
fn indices_are_read_as_nas_bench_201_writes_them() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempdir()?;
    let text = br#"{"train": ["int", ["3", "0"]], "valid": ["int", ["2"]]}"#;
    let (plain, gzipped) = (dir.path().join("s.json"), dir.path().join("s.json.gz"));
    fs::write(&plain, text)?;
    let mut gz = GzEncoder::new(fs::File::create(&gzipped)?, Compression::fast());
    gz.write_all(text)?;
    gz.finish()?;
    for path in [plain, gzipped] {
        assert_eq!(split(4, &Split::Indices(path))?, (vec![0, 3], vec![2]));
    }
    Ok(())
}

#[track_caller]
fn refuses_indices(text: &str, expected: &str) {
    let dir = tempdir().expect("a temporary folder");
    let path = dir.path().join("s.json");
    fs::write(&path, text).expect("a temporary file");
    let error = split(4, &Split::Indices(path)).expect_err("faulty indices were accepted").to_string();
    assert_eq!(error.replace(&dir.path().display().to_string(), "DIR"), format!("DIR/s.json: {expected}"));
}

#[test]
fn faulty_indices_are_refused() {
    let form = r#"{"train": ["int", ["0", …]], "valid": ["int", […]]}"#;
    let syntax = "missing field `valid` at line 1 column 25";
    refuses_indices(r#"{"train": ["int", ["3"]]}"#, &format!("{syntax}; accepted: {form}"));
    let twice = r#"{"train": ["int", ["3"]], "valid": ["int", ["1", "3"]]}"#;
    refuses_indices(twice, "valid[1] is 3, which stands there already; train and valid share nothing");
    let beyond = r#"{"train": ["int", ["4"]], "valid": ["int", ["1"]]}"#;
    refuses_indices(beyond, "train[0] is 4, accepted: an index below 4");
}

#[test]
fn a_split_is_written_as_text() -> Result<(), Error> {
    for text in ["stratified:0.5", "stratified:0.25:7", "halves", "indices:a/b.json.gz"] {
        assert_eq!(text.parse::<Split>()?.to_string(), text);
    }
    for text in ["", "half", "stratified", "stratified:x", "stratified:0.5:-1", "indices:"] {
        let error = text.parse::<Split>().expect_err("no split was accepted").to_string();
        assert_eq!(
            error,
            format!("split: `{text}`; accepted: stratified:FRACTION[:SEED], halves, indices:FILE")
        );
    }
    let error = "stratified:1".parse::<Split>().expect_err("all for the weights was accepted");
    assert_eq!(error.to_string(), "split: 1; accepted: a fraction above 0 and below 1");
    Ok(())
}

#[test]
fn a_thinned_subset_is_spread_evenly() -> Result<(), Error> {
    let all = TrainData::of(numbered(vec![0; 10]))?;
    assert_eq!(all.subset().thinned(4).indices(), [0, 2, 5, 7]);
    assert_eq!(all.subset().thinned(99).len(), 10);
    Ok(())
}
