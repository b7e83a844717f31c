//! Every estimator on the shipped spaces and the digits: a search that was put down and taken up on two threads ends as one
//! that ran through on one. `tests/estimators.sh` does the same with the binary, killed, and NAS-Bench-201 at its full depth.

use std::{fs, path::Path};

use candle_core::Device;
use data::{DataOptions, SearchData, open};
use ops::Catalog;
use search_space::{LayoutRequest, Phase, Space};
use strait_trainer::{Error, Layer, Overwrite, RunDir, Search, SearchConfig};

use crate::support::live;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Two epochs of three steps each, the first with still logits.
const SHORT: &str = "{epochs: 2, warmup_epochs: 1, batch: 32, fraction: 0.025, gap_batches: 1, last_gap_batches: 1, \
                     watch: {draws: 2}}";

/// The last checkpoint of a search of `space`, with one cell a stage, that is taken up anew after every `calls` calls.
fn searched(
    name: &str,
    estimator: &str,
    threads: usize,
    calls: usize,
) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let catalog = Catalog::standard();
    let space = Space::shipped(name, &catalog).expect("it is shipped")?;
    let set = Layer::Set { key: "estimator", value: estimator };
    let layers =
        [Layer::Space { origin: name, space: &space }, Layer::Text { origin: "short", text: SHORT }, set];
    let config = SearchConfig::resolve(&layers)?;
    let data = SearchData::split(open(&"digits".parse()?, &DataOptions::default())?, &config.split())?;
    let (input, classes) = (data.info().shape, data.info().classes.len());
    let request = LayoutRequest { input, classes, phase: Phase::Search, channels: None, cells: Some(1) };
    let layout = space.layout(&request, &catalog)?;
    let directory = tempfile::tempdir()?;
    let run = RunDir::create(directory.path(), Overwrite::Refuse)?;
    run.write_search(&config, space.yaml())?;
    let life = || -> Result<bool, Error> {
        let (config, rule) = (config.clone(), space.rule());
        let search = Search::from_layout(layout.clone(), rule, &catalog, &data, config, &Device::Cpu)?;
        live(search, &data, &run, calls)
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    while !pool.install(life)? {}
    let read = |file: &str| fs::read(Path::new(directory.path()).join(file));
    Ok([read("search.safetensors")?, read("epochs.jsonl")?].concat())
}

fn ends_alike(name: &str, estimators: &[&str]) -> Outcome {
    for estimator in estimators {
        let whole = searched(name, estimator, 1, usize::MAX)?;
        assert!(whole == searched(name, estimator, 2, 30)?, "{estimator} on {name}");
    }
    Ok(())
}

#[test]
fn every_estimator_searches_the_digits_to_the_bit() -> Outcome {
    ends_alike("digits", &controller::estimators::NAMES)
}

#[test]
fn one_estimator_of_every_kind_searches_nas_bench_201_to_the_bit() -> Outcome {
    ends_alike("nas-bench-201", &["gumbel-st", "gdas", "darts", "proxyless", "snas"])
}
