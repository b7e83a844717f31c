use std::fs;
use std::path::Path;

use image::{DynamicImage, GrayImage, ImageBuffer, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use tempfile::tempdir;

use super::{example, image as shape, refuses};
use crate::datasets::folder;
use crate::{DataOptions, Dataset, Part};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn grey(height: u32, width: u32, pixel: u8) -> DynamicImage {
    GrayImage::from_pixel(width, height, Luma([pixel])).into()
}

fn color(pixel: [u8; 3]) -> DynamicImage {
    RgbImage::from_pixel(3, 2, Rgb(pixel)).into()
}

fn save(dir: &Path, path: &str, picture: &DynamicImage) -> Result {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap_or(dir))?;
    Ok(picture.save(path)?)
}

#[test]
fn train_and_test_folders_are_the_parts_and_sub_folders_the_classes() -> Result {
    let dir = tempdir()?;
    save(dir.path(), "train/ürsine/a.png", &grey(2, 3, 51))?;
    save(dir.path(), "train/cat/b.PNG", &grey(2, 3, 255))?;
    save(dir.path(), "test/ürsine/c.png", &grey(2, 3, 102))?;
    fs::write(dir.path().join("train/cat/notes.txt"), "no picture")?;
    fs::write(dir.path().join("train/cat/.hidden.png"), "no picture")?;
    let data = folder::open(dir.path(), &DataOptions::default())?;
    assert_eq!(data.info().classes, ["cat", "ürsine"]);
    assert_eq!(data.info().shape, shape(2, 3, 1));
    assert_eq!(example(&data, Part::Train, 0), (vec![1.0; 6], 0));
    assert_eq!(example(&data, Part::Train, 1), (vec![0.2; 6], 1));
    assert_eq!(example(&data, Part::Test, 0), (vec![0.4; 6], 1));
    Ok(())
}

#[test]
fn one_colored_picture_makes_all_of_them_colored() -> Result {
    let dir = tempdir()?;
    let sixteen = ImageBuffer::from_pixel(3, 2, Luma([65_535u16]));
    save(dir.path(), "train/a/0.png", &grey(2, 3, 51))?;
    save(dir.path(), "train/a/1.png", &DynamicImage::ImageLuma16(sixteen))?;
    save(dir.path(), "train/a/2.png", &RgbaImage::from_pixel(3, 2, Rgba([255, 51, 0, 7])).into())?;
    save(dir.path(), "test/a/3.jpg", &color([255, 255, 255]))?;
    let data = folder::open(dir.path(), &DataOptions::default())?;
    assert_eq!(data.info().shape, shape(2, 3, 3));
    let first = |index| example(&data, Part::Train, index).0[..3].to_vec();
    assert_eq!([first(0), first(1), first(2)], [[0.2; 3], [1.0; 3], [1.0, 0.2, 0.0]]);
    Ok(())
}

#[test]
fn without_a_test_folder_a_share_of_every_class_is_for_testing() -> Result {
    let dir = tempdir()?;
    for index in 0..10 {
        save(dir.path(), &format!("a/{index}.png"), &grey(1, 1, 0))?;
        save(dir.path(), &format!("b/{index}.png"), &grey(1, 1, 255))?;
    }
    let data = folder::open(dir.path(), &DataOptions { test_fraction: 0.3, ..DataOptions::default() })?;
    assert_eq!((data.len(Part::Train), data.len(Part::Test)), (14, 6));
    let test: Vec<_> = (0..6).map(|index| example(&data, Part::Test, index)).collect();
    assert_eq!(test, [vec![(vec![0.0], 0); 3], vec![(vec![1.0], 1); 3]].concat());
    Ok(())
}

#[test]
fn one_picture_a_class_leaves_none_to_test_on() -> Result {
    let dir = tempdir()?;
    save(dir.path(), "a/0.png", &grey(1, 1, 0))?;
    save(dir.path(), "b/0.png", &grey(1, 1, 9))?;
    let expected = "DIR: a second picture of some class, to test on, is missing; accepted: two pictures or more in some \
        class, or folders train/ and test/ with a folder a class";
    refuses("folder:DIR", dir.path(), &DataOptions::default(), expected);
    save(dir.path(), "b/1.png", &grey(1, 1, 9))?;
    assert_eq!(folder::open(dir.path(), &DataOptions::default())?.len(Part::Test), 1);
    Ok(())
}

#[test]
fn mixed_sizes_are_refused_unless_resized() -> Result {
    let dir = tempdir()?;
    save(dir.path(), "train/a/0.png", &grey(2, 3, 51))?;
    save(dir.path(), "test/a/1.png", &grey(4, 4, 51))?;
    let expected =
        "DIR/test/a/1.png: is 4×4; accepted: 2×3, the size of the others; or set `resize: [height, width]`";
    refuses("folder:DIR", dir.path(), &DataOptions::default(), expected);
    let resized = DataOptions { resize: Some([5, 6]), ..DataOptions::default() };
    let data = folder::open(dir.path(), &resized)?;
    assert_eq!(data.info().shape, shape(5, 6, 1));
    assert_eq!(example(&data, Part::Test, 0).0, vec![0.2; 30]);
    let none = DataOptions { resize: Some([0, 6]), ..DataOptions::default() };
    refuses("folder:DIR", dir.path(), &none, "resize: [0, 6]; accepted: height and width of 1 to 4096");
    Ok(())
}

#[test]
fn faulty_folders_are_refused() -> Result {
    let dir = tempdir()?;
    let plain = DataOptions::default();
    refuses("folder:DIR", dir.path(), &plain, "DIR: holds no examples");
    save(dir.path(), "train/a/0.png", &grey(1, 1, 0))?;
    fs::create_dir_all(dir.path().join("test/b"))?;
    refuses("folder:DIR", dir.path(), &plain, "DIR/test: label b; accepted: a");
    fs::rename(dir.path().join("test/b"), dir.path().join("test/a"))?;
    refuses("folder:DIR", dir.path(), &plain, "DIR/test/a: holds no examples");
    fs::write(dir.path().join("test/a/1.png"), "no picture")?;
    refuses("folder:DIR", dir.path(), &plain, "DIR/test/a/1.png: is not a readable PNG or JPEG picture");
    save(dir.path(), "test/a/1.png", &grey(9, 9, 7))?;
    let bytes = fs::read(dir.path().join("test/a/1.png"))?;
    fs::write(dir.path().join("test/a/1.png"), &bytes[..bytes.len() / 2])?;
    refuses("folder:DIR", dir.path(), &plain, "DIR/test/a/1.png: is not a readable PNG or JPEG picture");
    fs::remove_dir_all(dir.path().join("test"))?;
    refuses(
        "folder:DIR",
        dir.path(),
        &plain,
        "DIR: test/ is missing; accepted: train/ and test/ with a folder a class, or neither",
    );
    Ok(())
}
