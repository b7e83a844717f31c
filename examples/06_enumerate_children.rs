//! The truth about a small space: every child trained from scratch and tested.
//!
//! `cargo run --release --example 06_enumerate_children` trains the last five of 125 children once;
//! `… -- 125 4 > examples/06_children.csv` trained all of them with four seeds and made the table that lies beside this file.

use std::{env, error::Error};

use strait::trainer::{Layer, TrainConfig};
use strait::{Catalog, DataOptions, Device, Retraining, Rule, Search, SearchConfig, SearchData, Space};
use strait::{TestData, TrainData, open};

const OPS: [&str; 5] = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"];

fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<usize> = env::args().skip(1).map(|n| n.parse()).collect::<Result<_, _>>()?;
    let (children, seeds) = (numbers.first().copied().unwrap_or(5), numbers.get(1).copied().unwrap_or(1));
    let catalog = Catalog::standard();
    let space = Space::parse(include_str!("06_children.yaml"), "06_children.yaml", &catalog)?;
    let block = Layer::Value { origin: "06_children.yaml", value: space.search_settings() };
    let mut config = SearchConfig::resolve(&[block])?;
    let digits = open(&"digits".parse()?, &DataOptions::default())?;
    let (train, test) = (TrainData::of(digits.clone())?, TestData::of(digits.clone())?);
    // A genotype to write in: any that the space has.
    let data = SearchData::split(digits, &config.split())?;
    let search = Search::new(&space, &catalog, &data, config.clone(), &Device::Cpu)?;
    let mut child = search.derive(Rule::Argmax, &data)?.genotype;
    for index in 125 - children.min(125)..125 {
        for (edge, place) in child.cells[0].edges.iter_mut().zip([25, 5, 1]) {
            edge.op = OPS[index / place % 5].to_owned();
        }
        let mut sum = 0.0;
        for seed in 0..seeds {
            config.seed = seed as u64;
            let settings = TrainConfig::from(&config);
            let mut training = Retraining::new(&space, &child, &catalog, &train, settings, &Device::Cpu)?;
            while training.next_epoch(&train)?.is_some() {}
            sum += training.test(&test)?.accuracy;
        }
        let name: Vec<&str> = child.cells[0].edges.iter().map(|edge| edge.op.as_str()).collect();
        println!("{},{:.4}", name.join(" "), sum / seeds as f64);
    }
    Ok(())
}
