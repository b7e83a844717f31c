use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tempfile::{TempDir, tempdir};

use super::{example, image, refuses};
use crate::datasets::cifar;
use crate::{DataOptions, Dataset, Part};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A record whose red plane is 0, green 51 and blue 102, but for its first red pixel, which is 255.
fn record(labels: &[u8]) -> Vec<u8> {
    let mut bytes = labels.to_vec();
    bytes.extend([0, 51, 102].iter().flat_map(|byte| [*byte; 1024]));
    bytes[labels.len()] = 255;
    bytes
}

fn small_10() -> std::io::Result<TempDir> {
    let dir = tempdir()?;
    for batch in 1..=5 {
        let bytes = [record(&[batch]), record(&[0])].concat();
        fs::write(dir.path().join(format!("data_batch_{batch}.bin")), bytes)?;
    }
    fs::write(dir.path().join("test_batch.bin"), record(&[9]))?;
    Ok(dir)
}

#[test]
fn planes_become_channels_and_batches_follow_each_other() -> Result {
    let dir = small_10()?;
    let data = cifar::open_10(dir.path())?;
    assert_eq!(data.info().shape, image(32, 32, 3));
    assert_eq!(data.info().classes[9], "truck");
    assert_eq!((data.len(Part::Train), data.len(Part::Test)), (10, 1));
    let (pixels, label) = example(&data, Part::Train, 8);
    assert_eq!((label, &pixels[..6]), (5, &[1.0, 0.2, 0.4, 0.0, 0.2, 0.4][..]));
    assert_eq!(example(&data, Part::Test, 0).1, 9);
    Ok(())
}

#[test]
fn the_folder_may_be_the_parent_of_what_the_archive_unpacks_to() -> Result {
    let (dir, parent) = (small_10()?, tempdir()?);
    fs::rename(dir.path(), parent.path().join("cifar-10-batches-bin"))?;
    assert_eq!(cifar::open_10(parent.path())?.len(Part::Train), 10);
    Ok(())
}

#[test]
fn cifar_100_has_fine_labels_and_their_names() -> Result {
    let dir = tempdir()?;
    fs::write(dir.path().join("train.bin"), record(&[3, 99]))?;
    fs::write(dir.path().join("test.bin"), record(&[3, 42]))?;
    assert_eq!(cifar::open_100(dir.path())?.info().classes[99], "99");
    let names: Vec<String> = (0..100).map(|class| format!("name_{class}\n")).collect();
    fs::write(dir.path().join("fine_label_names.txt"), names.concat())?;
    let data = cifar::open_100(dir.path())?;
    assert_eq!(data.info().classes[99], "name_99");
    assert_eq!((example(&data, Part::Train, 0).1, example(&data, Part::Test, 0).1), (99, 42));
    Ok(())
}

#[track_caller]
fn refuses_batch(bytes: &[u8], expected: &str) {
    let dir = small_10().expect("a temporary folder");
    fs::write(dir.path().join("data_batch_3.bin"), bytes).expect("a temporary file");
    refuses("cifar10:DIR", dir.path(), &DataOptions::default(), expected);
}

#[test]
fn faulty_batches_are_refused() {
    refuses_batch(&[], "DIR/data_batch_3.bin: holds no examples");
    let short = [record(&[0]), record(&[1])[..3_000].to_vec()].concat();
    refuses_batch(&short, "DIR/data_batch_3.bin: record 1: ends at byte 6073 of 6146");
    let wrong = [record(&[9]), record(&[10])].concat();
    refuses_batch(&wrong, "DIR/data_batch_3.bin: record 1: label 10; accepted: 0 to 9");
    let nowhere = Path::new("no such folder");
    refuses("cifar10:DIR", nowhere, &DataOptions::default(), "DIR/data_batch_1.bin: cannot be read");
}

proptest! {
    #[test]
    fn any_bytes_are_records_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..7_000)) {
        let (mut data, mut labels) = (Vec::new(), Vec::new());
        let parsed = cifar::parse(&bytes, 1, 256, &mut data, &mut labels);
        prop_assert_eq!(parsed.is_ok(), !bytes.is_empty() && bytes.len().is_multiple_of(3_073));
    }
}
