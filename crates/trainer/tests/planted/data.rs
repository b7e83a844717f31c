//! Pictures of random signs whose label only a wide view shows, or any view.

use std::sync::Arc;

use data::{Examples, InMemory, SearchData, Split, Values};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use search_space::{Extent, Shape};

const N: usize = 512;
const HEIGHT: usize = 4;
const WIDTH: usize = 10;

/// The label says which of two stripes is light and which is dark: columns 2 and 3, or columns 6 and 7.
///
/// All other columns are noise. A small window sees a light and a dark stripe somewhere in every picture, of either label;
/// which one is left only he can tell who sees a stripe together with the picture's border, four columns away.
pub(crate) fn sides(seed: u64) -> SearchData {
    split(seed, |label, rng| {
        let light = |column| match column {
            2 | 3 => 0.1 + 0.8 * f64::from(label),
            6 | 7 => 0.9 - 0.8 * f64::from(label),
            _ => 0.5,
        };
        (0..HEIGHT * WIDTH).map(|i| if rng.random_bool(light(i % WIDTH)) { 1.0 } else { -1.0 }).collect()
    })
}

/// The label says whether pixels are mostly light or mostly dark.
pub(crate) fn brightness(seed: u64) -> SearchData {
    split(seed, |label, rng| {
        let light = 0.3 + 0.4 * f64::from(label);
        (0..HEIGHT * WIDTH).map(|_| if rng.random_bool(light) { 1.0 } else { -1.0 }).collect()
    })
}

fn split(seed: u64, picture: impl Fn(u32, &mut ChaCha8Rng) -> Vec<f32>) -> SearchData {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let labels: Vec<u32> = (0..N).map(|i| (i % 2) as u32).collect();
    let values = labels.iter().flat_map(|&label| picture(label, &mut rng)).collect();
    let train = Examples { values: Values::Floats(values), labels };
    let shape = Shape { extent: Extent::Image { height: HEIGHT, width: WIDTH }, channels: 1 };
    let classes = vec!["no".into(), "yes".into()];
    let data = InMemory::new("planted", shape, classes, train, Examples::default()).expect("the parts fit");
    SearchData::split(Arc::new(data), &Split::default()).expect("both classes have examples")
}
