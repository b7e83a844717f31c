//! A search from Rust: the shipped `digits` space on the embedded digits, two epochs of each kind.
//!
//! `Search` is a library, not a framework: the caller drives it step by step or epoch by epoch, and decides what to
//! print, what to save and when to stop. Run with `cargo run --release --example 01_search_digits`.

use std::error::Error;

use strait::Device;
use strait::data::{DataOptions, DataSpec, SearchData, open};
use strait::ops::Catalog;
use strait::space::Space;
use strait::trainer::{Layer, Search, SearchConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let catalog = Catalog::standard();
    let space = Space::shipped("digits", &catalog).ok_or("digits are shipped")??;

    // Defaults, then what the space says, then what we say.
    let config = SearchConfig::resolve(&[
        Layer::Space { origin: "digits.yaml", space: &space },
        Layer::Text { origin: "this example", text: "{epochs: 4, warmup_epochs: 2, seed: 7}" },
    ])?;

    // Weight steps and architecture steps draw from two disjoint halves; the test part has no place here.
    let data = SearchData::split(open(&DataSpec::Digits, &DataOptions::default())?, &config.split())?;
    println!("{data}");

    let mut search = Search::new(&space, &catalog, &data, config, &Device::Cpu)?;
    let mut losses = Vec::new();
    while let Some(epoch) = search.next_epoch(&data)? {
        println!("{epoch}");
        losses.push(epoch.weights.loss);
    }
    assert!(losses[3] < 0.8 * losses[0], "the weights learned nothing: {losses:?}");

    let decision = search.derive(search.rule(), &data)?;
    println!("\n{}", decision.genotype);
    assert_eq!(decision.genotype.cells[0].edges.len(), 6);

    // Under per-edge argmax the child with the supernet's weights is the supernet with its gates set to the choice.
    let gap = search.evaluate(&data, 8)?;
    println!(
        "\nsupernet, sampled paths {:.3}; derived child {:.3}",
        gap.sampled.accuracy, gap.derived.accuracy
    );
    assert_eq!(gap.derived, gap.argmax);
    Ok(())
}
