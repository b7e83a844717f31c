use rand::SeedableRng;

use super::*;

const SERIES: Shape = Shape { extent: Extent::Series { length: 4 }, channels: 2 };

fn image(height: usize, width: usize) -> Shape {
    Shape { extent: Extent::Image { height, width }, channels: 1 }
}

#[track_caller]
fn shifts(down: isize, right: isize, expected: [f32; 6]) {
    let mut example = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    crop::shift(&mut example, image(2, 3), (down, right));
    assert_eq!(example, expected, "down {down}, right {right}");
}

#[test]
fn a_crop_is_a_window_of_the_padded_image() {
    shifts(0, 0, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    shifts(1, 0, [4.0, 5.0, 6.0, 0.0, 0.0, 0.0]);
    shifts(-1, 1, [0.0, 0.0, 0.0, 2.0, 3.0, 0.0]);
    shifts(0, -2, [0.0, 0.0, 1.0, 0.0, 0.0, 4.0]);
    shifts(2, 0, [0.0; 6]);
    shifts(-5, 9, [0.0; 6]);
}

#[test]
fn a_series_is_shifted_in_time_with_its_channels_together() {
    let mut example = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
    crop::shift(&mut example, SERIES, (0, 1));
    assert_eq!(example, [3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 0.0, 0.0]);
}

#[test]
fn every_window_is_cut_equally_often() {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut counts = [0; 9];
    for _ in 0..9_000 {
        let mut example = [0.0; 9];
        example[4] = 1.0;
        let shift = crop::draw(image(3, 3), 1, &mut rng);
        crop::shift(&mut example, image(3, 3), shift);
        counts[example.iter().position(|value| *value == 1.0).expect("a shift by one keeps the center")] += 1;
    }
    assert!(counts.iter().all(|count| (1_000i32 - count).abs() < 120), "{counts:?}"); // 4σ of binomial(9000, 1/9)
}

#[test]
fn a_flip_mirrors_columns_and_keeps_channels() {
    let mut example = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    flip::mirror(&mut example, Shape { channels: 2, ..image(1, 3) });
    assert_eq!(example, [5.0, 6.0, 3.0, 4.0, 1.0, 2.0]);
}

#[track_caller]
fn cuts(side: usize, center: (usize, usize), expected: [f32; 9]) {
    let mut example = [1.0; 9];
    cutout::hole(&mut example, image(3, 3), cutout::spans(image(3, 3), side, center));
    assert_eq!(example, expected, "side {side} at {center:?}");
}

#[test]
fn a_hole_is_clipped_at_the_border() {
    cuts(1, (1, 1), [1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
    cuts(2, (1, 1), [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
    cuts(2, (0, 0), [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    cuts(3, (2, 2), [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn padding_is_black_before_and_a_hole_is_zero_after_normalization() {
    let normalize = Normalize { mean: vec![0.5], deviation: vec![0.25] };
    let settings = Augment { crop_padding: 2, flip: true, cutout: 1, ..Augment::default() };
    let mut values = Vec::new();
    for seed in 0..50 {
        let mut example = [1.0; 9];
        settings.apply(&mut example, image(3, 3), Some(&normalize), &mut ChaCha8Rng::seed_from_u64(seed));
        assert_eq!(example.iter().filter(|value| **value == 0.0).count(), 1);
        values.extend(example);
    }
    assert!(values.iter().all(|value| [-2.0, 0.0, 2.0].contains(value)) && values.contains(&-2.0));
}

#[track_caller]
fn refuses(settings: Augment, shape: Shape, expected: &str) {
    let error = settings.check(shape).expect_err("settings that do not fit were accepted");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn settings_fit_the_shape() -> Result<(), Error> {
    let flat = Shape { extent: Extent::Flat, channels: 4 };
    let none = Augment::default();
    none.check(flat)?;
    Augment { crop_padding: 2, flip: true, cutout: 3, ..Augment::default() }.check(image(3, 4))?;
    Augment { crop_padding: 3, flip: false, cutout: 4, ..Augment::default() }.check(SERIES)?;
    refuses(Augment { flip: true, ..none }, SERIES, "augment.flip: true; accepted: false, for series");
    refuses(Augment { crop_padding: 3, ..none }, image(3, 4), "augment.crop_padding: 3; accepted: below 3");
    refuses(Augment { cutout: 4, ..none }, image(3, 4), "augment.cutout: 4; accepted: at most 3");
    let debug = "Augment { crop_padding: 0, flip: false, cutout: 1, rand_ops: 0, rand_strength: 9 }";
    let expected = format!("augment: {debug}; accepted: nothing, for flat examples");
    refuses(Augment { cutout: 1, ..none }, flat, &expected);
    Ok(())
}
