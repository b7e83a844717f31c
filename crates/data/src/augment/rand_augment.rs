//! A few operations on pictures, drawn at random, all of one strength.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use search_space::Shape;

/// Strengths go from 0 to this, in equal steps.
pub(super) const STRONGEST: usize = 30;

/// What may happen to a picture whose values lie in [0, 1]; the ranges are torchvision's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

use Operation::{
    AutoContrast, Brightness, Color, Contrast, Equalize, Identity, Posterize, Rotate, Sharpness, ShearX,
    ShearY, Solarize, TranslateX, TranslateY,
};

const ALL: [Operation; 14] = [
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
];

/// Applies `n` operations in turn, each drawn evenly; those with a direction draw their sign.
///
/// # References
/// - Cubuk, Zoph, Shlens & Le, *RandAugment*, 2019, <https://arxiv.org/abs/1909.13719>
pub(super) fn apply(picture: &mut [f32], shape: Shape, n: usize, strength: usize, rng: &mut ChaCha8Rng) {
    for _ in 0..n {
        let operation = ALL[rng.random_range(0..ALL.len() as u32) as usize];
        let sign = if rng.random::<bool>() { 1.0 } else { -1.0 };
        operate(operation, picture, shape, strength as f64 / STRONGEST as f64, sign);
    }
}

/// One operation of strength `m` in [0, 1], towards `sign`.
fn operate(operation: Operation, picture: &mut [f32], shape: Shape, m: f64, sign: f64) {
    let (height, width) = shape.extent.plane();
    let factor = (1.0 + sign * 0.9 * m) as f32;
    match operation {
        Identity => {}
        ShearX => warp(picture, shape, |y, x| (y, x + sign * 0.3 * m * y)),
        ShearY => warp(picture, shape, |y, x| (y + sign * 0.3 * m * x, x)),
        TranslateX => warp(picture, shape, |y, x| (y, x + (sign * 150.0 / 331.0 * m * width as f64).trunc())),
        TranslateY => {
            warp(picture, shape, |y, x| (y + (sign * 150.0 / 331.0 * m * height as f64).trunc(), x))
        }
        Rotate => {
            let (sin, cos) = (sign * 30.0 * m).to_radians().sin_cos();
            warp(picture, shape, |y, x| (cos * y + sin * x, cos * x - sin * y));
        }
        Brightness => each(picture, |value| value * factor),
        Color => {
            let grey = greys(picture, shape.channels);
            blend(picture, |at| grey[at / shape.channels], factor);
        }
        Contrast => {
            let grey = greys(picture, shape.channels);
            let mean = grey.iter().sum::<f32>() / grey.len().max(1) as f32;
            blend(picture, |_| mean, factor);
        }
        Sharpness => {
            let soft = softened(picture, shape);
            blend(picture, |at| soft[at], factor);
        }
        Posterize => {
            let levels = f32::from(1u16 << (8 - (4.0 * m).round() as u16)); // 8 bits to 4
            each(picture, |value| (value * 255.0 * levels / 256.0).floor() * 256.0 / levels / 255.0);
        }
        Solarize => each(picture, |value| if f64::from(value) >= 1.0 - m { 1.0 - value } else { value }),
        AutoContrast => by_channel(picture, shape.channels, |values| {
            let low = values.iter().copied().fold(f32::INFINITY, f32::min);
            let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            if high > low {
                values.iter_mut().for_each(|value| *value = (*value - low) / (high - low));
            }
        }),
        Equalize => by_channel(picture, shape.channels, equalize),
    }
}

/// Reads each pixel from where `source` says, both measured from the middle; black outside, the nearest pixel inside.
fn warp(picture: &mut [f32], shape: Shape, source: impl Fn(f64, f64) -> (f64, f64)) {
    let ((height, width), channels) = (shape.extent.plane(), shape.channels);
    let old = picture.to_vec();
    let (middle_y, middle_x) = ((height as f64 - 1.0) / 2.0, (width as f64 - 1.0) / 2.0);
    for (at, pixel) in picture.chunks_exact_mut(channels).enumerate() {
        let (y, x) = source((at / width) as f64 - middle_y, (at % width) as f64 - middle_x);
        let (y, x) = ((y + middle_y).round(), (x + middle_x).round());
        let inside = y >= 0.0 && x >= 0.0 && y < height as f64 && x < width as f64;
        match inside {
            true => {
                let from = (y as usize * width + x as usize) * channels;
                pixel.copy_from_slice(&old[from..from + channels]);
            }
            false => pixel.fill(0.0),
        }
    }
}

fn each(picture: &mut [f32], f: impl Fn(f32) -> f32) {
    picture.iter_mut().for_each(|value| *value = f(*value).clamp(0.0, 1.0));
}

/// `other + factor·(picture − other)`, within [0, 1].
fn blend(picture: &mut [f32], other: impl Fn(usize) -> f32, factor: f32) {
    for (at, value) in picture.iter_mut().enumerate() {
        let other = other(at);
        *value = (other + factor * (*value - other)).clamp(0.0, 1.0);
    }
}

/// Brightness of every pixel, by the weights of ITU-R BT.601.
fn greys(picture: &[f32], channels: usize) -> Vec<f32> {
    let grey = |pixel: &[f32]| match pixel {
        [red, green, blue] => 0.299 * red + 0.587 * green + 0.114 * blue,
        other => other.iter().sum::<f32>() / other.len().max(1) as f32,
    };
    picture.chunks_exact(channels).map(grey).collect()
}

/// The 3×3 mean with a middle of weight 5 of 13; the border stays.
fn softened(picture: &[f32], shape: Shape) -> Vec<f32> {
    let ((height, width), channels) = (shape.extent.plane(), shape.channels);
    let mut soft = picture.to_vec();
    for y in 1..height.saturating_sub(1) {
        for x in 1..width.saturating_sub(1) {
            for c in 0..channels {
                let at = |dy: usize, dx: usize| picture[((y + dy - 1) * width + x + dx - 1) * channels + c];
                let all: f32 = (0..9).map(|tap| at(tap / 3, tap % 3)).sum();
                soft[(y * width + x) * channels + c] = (all + 4.0 * at(1, 1)) / 13.0;
            }
        }
    }
    soft
}

fn by_channel(picture: &mut [f32], channels: usize, f: impl Fn(&mut [f32])) {
    for channel in 0..channels {
        let mut values: Vec<f32> = picture.iter().skip(channel).step_by(channels).copied().collect();
        f(&mut values);
        picture.iter_mut().skip(channel).step_by(channels).zip(values).for_each(|(to, value)| *to = value);
    }
}

/// Every value becomes the share of values below it, in 256 levels, so that all levels are about equally frequent.
fn equalize(values: &mut [f32]) {
    let level = |value: f32| (value * 255.0).round().clamp(0.0, 255.0) as usize;
    let mut count = [0usize; 256];
    values.iter().for_each(|value| count[level(*value)] += 1);
    let last = count.iter().rev().find(|count| **count > 0).copied().unwrap_or_default();
    let step = (values.len() - last) / 255;
    if step == 0 {
        return;
    }
    let mut below = step / 2;
    let map = count.map(|count| {
        let level = (below / step).min(255);
        below += count;
        level as f32 / 255.0
    });
    values.iter_mut().for_each(|value| *value = map[level(*value)]);
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use search_space::Extent;

    use super::*;

    const SQUARE: Shape = Shape { extent: Extent::Image { height: 3, width: 3 }, channels: 1 };
    const RAMP: [f32; 9] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];

    #[track_caller]
    fn becomes(operation: Operation, m: f64, sign: f64, expected: [f32; 9]) {
        let mut picture = RAMP;
        operate(operation, &mut picture, SQUARE, m, sign);
        let near = picture.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-3);
        assert!(near, "{operation:?}: {picture:?}, expected {expected:?}");
    }

    #[test]
    fn each_operation_does_what_its_name_says() {
        becomes(Identity, 1.0, 1.0, RAMP);
        becomes(TranslateX, 1.0, 1.0, [0.1, 0.2, 0.0, 0.4, 0.5, 0.0, 0.7, 0.8, 0.0]); // by ⌊150/331·3⌋ = 1
        becomes(TranslateY, 1.0, -1.0, [0.0, 0.0, 0.0, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5]);
        becomes(Brightness, 1.0, -1.0, RAMP.map(|value| 0.1 * value));
        becomes(Contrast, 1.0, -1.0, RAMP.map(|value| 0.4 + 0.1 * (value - 0.4)));
        becomes(Solarize, 0.5, 1.0, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.4, 0.3, 0.2]);
        becomes(AutoContrast, 0.0, 1.0, [0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0]);
        becomes(Posterize, 1.0, 1.0, RAMP.map(|value| (value * 255.0 / 16.0).floor() * 16.0 / 255.0));
        becomes(Color, 1.0, -1.0, RAMP); // of grey there is nothing to take
    }

    #[test]
    fn without_strength_shapes_and_blends_change_nothing() {
        for operation in
            [ShearX, ShearY, TranslateX, TranslateY, Rotate, Brightness, Color, Contrast, Sharpness]
        {
            becomes(operation, 0.0, 1.0, RAMP);
        }
    }

    #[test]
    fn what_is_drawn_depends_on_the_generator_alone() {
        let drawn = |seed| {
            let mut picture = RAMP;
            apply(&mut picture, SQUARE, 3, 20, &mut ChaCha8Rng::seed_from_u64(seed));
            picture
        };
        assert_eq!(drawn(1), drawn(1));
        assert!((0..20).any(|seed| drawn(seed) != drawn(1)));
        assert!((0..200).all(|seed| drawn(seed).iter().all(|value| (0.0..=1.0).contains(value))));
    }
}
