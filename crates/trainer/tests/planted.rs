//! Planted truth: data that one candidate alone can explain, and data that all but one can.

mod planted {
    pub(crate) mod data;
}

use candle_core::Device;
use data::SearchData;
use ops::Catalog;
use planted::data::{brightness, sides};
use search_space::{Rule, Space};
use strait_trainer::{Error, Search, SearchConfig};

/// One edge, five candidates, batch norm and ReLU behind it; the stem sees single pixels.
const SPACE: &str = "
version: 1
name: planted
rank: image
rule: argmax
norm:
  search: {affine: false, conv_bias: true}
cells:
  - name: cell
    inputs: 1
    nodes: 1
    edges: all
    candidates: [none, skip_connect, sep_conv_3x3, avg_pool_3x3, dil_conv_5x5]
    output: last
network:
  channels: 8
  stem: {block: {op: conv_norm, kernel: 1}}
  stages: [{cell: cell}]
  head: {block: norm_relu}
";

/// About a second of search on two cores.
fn config(estimator: &str, seed: u64) -> SearchConfig {
    let mut config = SearchConfig {
        seed,
        estimator: estimator.into(),
        epochs: 10,
        warmup_epochs: 5,
        batch: 32,
        gap_batches: 1,
        ..SearchConfig::default()
    };
    config.weights.lr = 0.1;
    config.arch.lr = 0.05;
    config.tau.from = 1.0;
    config
}

/// The label of the candidate that a search chooses.
fn found(config: SearchConfig, data: &SearchData) -> Result<String, Error> {
    let catalog = Catalog::standard();
    let space = Space::parse(SPACE, "planted.yaml", &catalog).expect("the space is valid");
    let mut search = Search::new(&space, &catalog, data, config, &Device::Cpu)?;
    while search.next_epoch(data)?.is_some() {}
    let genotype = search.derive(Rule::Argmax, data)?.genotype;
    Ok(genotype.cells[0].edges[0].op.clone())
}

/// Three by default; `STRAIT_PLANTED_SEEDS` asks for more.
fn seeds() -> std::ops::Range<u64> {
    0..std::env::var("STRAIT_PLANTED_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(3)
}

fn hits(estimator: &str) -> Result<usize, Error> {
    let mut hits = 0;
    for seed in seeds() {
        let choice = found(config(estimator, seed), &sides(seed))?;
        println!("{estimator}, seed {seed}: {choice}");
        hits += usize::from(choice == "dil_conv_5x5");
    }
    Ok(hits)
}

fn finds_the_truth(estimator: &str) -> Result<(), Error> {
    let (hits, n) = (hits(estimator)?, seeds().count());
    assert!(20 * hits >= 19 * n, "{estimator} found the truth {hits} times of {n}");
    Ok(())
}

#[test]
fn gumbel_st_finds_the_only_candidate_that_reaches() -> Result<(), Error> {
    finds_the_truth("gumbel-st")
}

#[test]
fn gumbel_soft_finds_the_only_candidate_that_reaches() -> Result<(), Error> {
    finds_the_truth("gumbel-soft")
}

#[test]
fn darts_finds_the_only_candidate_that_reaches() -> Result<(), Error> {
    finds_the_truth("darts")
}

/// Biased as it is (it charges a candidate for its own size), its rate is printed, not asked for; it is above chance.
#[test]
fn gdas_states_its_rate() -> Result<(), Error> {
    let (hits, n) = (hits("gdas")?, seeds().count());
    println!("gdas found the truth {hits} times of {n}");
    assert!(5 * hits > n, "no better than chance");
    Ok(())
}

/// Without steps of the architecture the choice is that of the initial logits: chance.
#[test]
fn nothing_is_found_without_architecture_steps() -> Result<(), Error> {
    let mut hits = 0;
    for seed in 0..3 {
        let mut config = config("gumbel-st", seed);
        config.arch.lr = 0.0;
        hits += usize::from(found(config, &sides(seed))? == "dil_conv_5x5");
    }
    assert!(hits < 3, "a search that does not search found the truth every time");
    Ok(())
}

/// Every candidate but `none` explains single pixels.
#[test]
fn the_only_useless_candidate_is_never_chosen() -> Result<(), Error> {
    for estimator in ["gumbel-st", "gumbel-soft", "darts"] {
        for seed in seeds() {
            let choice = found(config(estimator, seed), &brightness(seed))?;
            assert_ne!(choice, "none", "{estimator}, seed {seed}");
        }
    }
    Ok(())
}
