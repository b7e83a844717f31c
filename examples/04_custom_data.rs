//! Data of one's own: three methods make a data set, and a function of the index needs no file.
//!
//! Run with `cargo run --release --example 04_custom_data`.

use std::error::Error;
use std::f32::consts::TAU;
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use strait::Device;
use strait::data::{DataInfo, Dataset, Part, SearchData, TestData, TrainData};
use strait::ops::Catalog;
use strait::space::{Extent, Rank, Shape, Space};
use strait::trainer::{Layer, Retraining, Search, SearchConfig, TrainConfig};

/// Noisy waves of 32 steps in two channels; the class is the number of periods.
struct Waves(DataInfo);

impl Dataset for Waves {
    fn info(&self) -> &DataInfo {
        &self.0
    }

    fn len(&self, part: Part) -> usize {
        match part {
            Part::Train => 600,
            Part::Test => 200,
        }
    }

    fn read(&self, part: Part, index: usize, out: &mut [f32]) -> u32 {
        let label = index as u32 % 3;
        // A function of its arguments: asked twice, it writes the same values.
        let mut rng = ChaCha8Rng::seed_from_u64(2 * index as u64 + u64::from(part == Part::Test));
        let phase = rng.random::<f32>();
        for (step, pair) in out.chunks_exact_mut(2).enumerate() {
            let angle = TAU * ((label + 1) as f32 * step as f32 / 32.0 + phase);
            pair[0] = angle.sin() + rng.random::<f32>() - 0.5;
            pair[1] = angle.cos() + rng.random::<f32>() - 0.5;
        }
        label
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let shape = Shape { extent: Extent::Series { length: 32 }, channels: 2 };
    let classes = ["one", "two", "three"].map(str::to_owned).into();
    let waves: Arc<dyn Dataset> = Arc::new(Waves(DataInfo { name: "waves".to_owned(), shape, classes }));

    let catalog = Catalog::standard();
    let yaml = "{version: 1, name: waves, rank: series, cells: [{name: cell, nodes: 2, \
                candidates: [none, skip_connect, sep_conv_5, avg_pool_3]}], network: {channels: 8, \
                stem: {block: {op: conv_norm, kernel: 3}}, stages: [{cell: cell}]}}";
    let space = Space::parse(yaml, "waves.yaml", &catalog)?;
    assert_eq!(space.rank(), Rank::Series);

    let text = "{epochs: 6, warmup_epochs: 2, retrain_epochs: 8, batch: 32}";
    let config = SearchConfig::resolve(&[Layer::Text { origin: "this example", text }])?;
    let data = SearchData::split(waves.clone(), &config.split())?;
    let mut search = Search::new(&space, &catalog, &data, config.clone(), &Device::Cpu)?;
    while let Some(epoch) = search.next_epoch(&data)? {
        println!("{epoch}");
    }
    let genotype = search.derive(search.rule(), &data)?.connected()?;
    println!("\n{genotype}\n");

    // From scratch on the whole training part; the test part is read once, at the end.
    let (train, test) = (TrainData::of(waves.clone())?, TestData::of(waves)?);
    let config = TrainConfig::from(&config);
    let mut training = Retraining::new(&space, &genotype, &catalog, &train, config, &Device::Cpu)?;
    while training.next_epoch(&train)?.is_some() {}
    let score = training.test(&test)?;
    println!("test: {score}");
    assert!(score.accuracy > 0.9, "a third is chance");
    Ok(())
}
