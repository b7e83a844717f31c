//! Pictures of random signs whose label only a wide view shows, or any view.

use std::sync::Arc;

use data::{Examples, InMemory, SearchData, Split, Values};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use search_space::{Extent, Shape};

const N: usize = 512;
const HEIGHT: usize = 4;
const WIDTH: usize = 10;

/// The label is the product of a pixel of the upper left quarter with the one `apart` columns further on; two rows lower
/// stands the opposite of that one, so that the pixels of both classes add up alike. Everything else is noise.
///
/// To whoever never sees two such pixels at once the classes look the same. `sep_conv_3x3` convolves twice and looks at
/// five columns: four apart it sees both, six apart only `dil_conv_5x5` does, whose taps span nine.
pub(crate) fn products(seed: u64, apart: usize) -> SearchData {
    split(seed, 2 * apart, |label, rng| {
        let left: Vec<f32> = (0..HEIGHT * apart).map(|_| sign(rng.random_bool(0.5))).collect();
        let right = |row: usize, column: usize| {
            left[row % 2 * apart + column] * sign(label == 1) * if row < 2 { 1.0 } else { -1.0 }
        };
        let row = |row: usize| {
            let left = left[row * apart..][..apart].iter().copied();
            left.chain((0..apart).map(move |column| right(row, column))).collect::<Vec<f32>>()
        };
        (0..HEIGHT).flat_map(row).collect()
    })
}

/// The label says which of two stripes is light and which is dark: columns 2 and 3, or columns 6 and 7.
///
/// All other columns are noise. A small window sees a light and a dark stripe somewhere in every picture, of either label;
/// which one is left only he can tell who sees a stripe together with the picture's border, four columns away.
pub(crate) fn sides(seed: u64) -> SearchData {
    split(seed, WIDTH, |label, rng| {
        let light = |column| match column {
            2 | 3 => 0.1 + 0.8 * f64::from(label),
            6 | 7 => 0.9 - 0.8 * f64::from(label),
            _ => 0.5,
        };
        (0..HEIGHT * WIDTH).map(|i| sign(rng.random_bool(light(i % WIDTH)))).collect()
    })
}

/// The label says whether pixels are mostly light or mostly dark.
pub(crate) fn brightness(seed: u64) -> SearchData {
    split(seed, WIDTH, |label, rng| {
        let light = 0.3 + 0.4 * f64::from(label);
        (0..HEIGHT * WIDTH).map(|_| sign(rng.random_bool(light))).collect()
    })
}

fn sign(light: bool) -> f32 {
    if light { 1.0 } else { -1.0 }
}

fn split(seed: u64, width: usize, picture: impl Fn(u32, &mut ChaCha8Rng) -> Vec<f32>) -> SearchData {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let labels: Vec<u32> = (0..N).map(|i| (i % 2) as u32).collect();
    let values = labels.iter().flat_map(|&label| picture(label, &mut rng)).collect();
    let train = Examples { values: Values::Floats(values), labels };
    let shape = Shape { extent: Extent::Image { height: HEIGHT, width }, channels: 1 };
    let classes = vec!["no".into(), "yes".into()];
    let data = InMemory::new("planted", shape, classes, train, Examples::default()).expect("the parts fit");
    SearchData::split(Arc::new(data), &Split::default()).expect("both classes have examples")
}
