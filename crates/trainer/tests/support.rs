//! What several tests of whole searches do, and a space and data that make them small.

use data::{Examples, InMemory, SearchData, Split, Values};
use ops::Catalog;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use search_space::{Extent, Shape, Space};
use strait_trainer::{Error, Layer, Progress, RunDir, Search, SearchConfig, TrainConfig};

pub(crate) const SPACE: &str = "
version: 1
name: small
rank: image
rule: argmax
cells:
  - name: cell
    inputs: 1
    nodes: 2
    edges: all
    candidates: [none, skip_connect, nor_conv_1x1, nor_conv_3x3, avg_pool_3x3]
    output: last
network:
  channels: 4
  stem: {block: {op: conv_norm, kernel: 3}}
  stages:
    - {cell: cell}
    - {cell: cell, growth: 2, entry: {block: residual_block}}
  head: {block: norm_relu, dropout: 0.1}
";

pub(crate) fn space(catalog: &Catalog) -> Space {
    Space::parse(SPACE, "small.yaml", catalog).expect("the space is valid")
}

/// 72 noisy pictures, light on the left or on the right; 36 train weights, so a batch of 16 leaves a smaller one.
pub(crate) fn pictures() -> InMemory {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut part = |n: usize| {
        let labels: Vec<u32> = (0..n).map(|i| (i % 2) as u32).collect();
        let pixel = |label: u32, i: usize| f32::from(u8::from((i % 6 < 3) == (label == 0)));
        let picture =
            |&label: &u32| (0..36).map(|i| pixel(label, i) + rng.random::<f32>()).collect::<Vec<_>>();
        Examples { values: Values::Floats(labels.iter().flat_map(picture).collect()), labels }
    };
    let shape = Shape { extent: Extent::Image { height: 6, width: 6 }, channels: 1 };
    InMemory::new("pictures", shape, vec!["left".into(), "right".into()], part(72), part(20))
        .expect("parts fit")
}

pub(crate) fn halves() -> SearchData {
    SearchData::split(std::sync::Arc::new(pictures()), &Split::default()).expect("both classes have examples")
}

pub(crate) fn config(sets: &[(&str, &str)]) -> SearchConfig {
    let small = "{epochs: 3, warmup_epochs: 1, batch: 16, gap_batches: 1, arch: {lr: 0.05}, \
                 augment: {crop_padding: 1, flip: true}}";
    let mut layers = vec![Layer::Text { origin: "small", text: small }];
    layers.extend(sets.iter().map(|(key, value)| Layer::Set { key, value }));
    SearchConfig::resolve(&layers).expect("the settings are valid")
}

pub(crate) fn training(epochs: usize) -> TrainConfig {
    let mut config =
        TrainConfig { epochs, batch: 16, drop_path: 0.2, label_smoothing: 0.1, ..TrainConfig::default() };
    config.weights.lr = 0.1;
    config.augment.crop_padding = 1;
    config
}

/// One life of a run: takes the search up where the run's last checkpoint left it, and goes on for at most so many calls
/// that each leave a checkpoint. Whether the search has ended.
pub(crate) fn live(
    mut search: Search<'_>,
    data: &SearchData,
    run: &RunDir,
    calls: usize,
) -> Result<bool, Error> {
    search.resume(run)?;
    for _ in 0..calls {
        match search.next_step(data)? {
            Progress::Finished => return Ok(true),
            Progress::Epoch(epoch) => run.record(&epoch)?,
            Progress::Step(_) => {}
            Progress::Measuring { .. } => continue, // is measured anew, and would never end
        }
        search.save(run)?;
    }
    Ok(false)
}
