//! An operation of one's own: registered from outside, its backward left to candle, searched like any other.
//!
//! Run with `cargo run --release --example 03_custom_operation`.

use std::error::Error;

use strait::data::{DataOptions, DataSpec, SearchData, open};
use strait::ops::{Autograd, Candidate, Catalog, Definition, Op, ParamBuilder};
use strait::space::{Cost, Site, Space, WordError};
use strait::trainer::{Layer, Search, SearchConfig};
use strait::{Device, Tensor};

/// `y = x·σ(βx)` with one `β` per channel: Swish (Ramachandran et al., 2017, <https://arxiv.org/abs/1710.05941>).
struct Swish;

impl Candidate for Swish {
    fn cost(&self, site: &Site) -> Result<Cost, WordError> {
        if site.input() != site.output() {
            let found = format!("`swish` from {} to {}", site.input(), site.output());
            return Err(WordError { found, accepted: "it keeps the shape".to_owned() });
        }
        let output = site.output().elements() as u64;
        Ok(Cost { params: site.c_in as u64, macs: 0, saved: 4 * output, output })
    }

    fn build(&self, site: &Site, params: &mut ParamBuilder<'_>) -> candle_core::Result<Box<dyn Op>> {
        let beta = params.constant("beta", site.c_in, 1.0)?;
        Ok(Box::new(Autograd::new(vec![beta], |x: &Tensor, weights: &[Tensor]| {
            let gate = (x.broadcast_mul(&weights[0])?.neg()?.exp()? + 1.0)?.recip()?;
            x * gate
        })))
    }
}

const YAML: &str = "
version: 1
name: swish
rank: image
cells:
  - {name: cell, nodes: 2, candidates: [skip_connect, swish, nor_conv_3x3]}
network:
  channels: 8
  stem: {block: {op: conv_norm, kernel: 3}}
  stages: [{cell: cell}]
search: {epochs: 3, warmup_epochs: 1}
";

fn main() -> Result<(), Box<dyn Error>> {
    let mut catalog = Catalog::standard();
    catalog.register(Definition::new("swish", "x·σ(βx), one β per channel", |_| Box::new(Swish)))?;

    let space = Space::parse(YAML, "swish.yaml", &catalog)?;
    let config = SearchConfig::resolve(&[Layer::Space { origin: "swish.yaml", space: &space }])?;
    let data = SearchData::split(open(&DataSpec::Digits, &DataOptions::default())?, &config.split())?;
    let mut search = Search::new(&space, &catalog, &data, config, &Device::Cpu)?;

    // Its weights are weights like all others: counted, trained, saved.
    let counted = search.layout().cost(&catalog)?.params;
    assert_eq!(search.params().n_params(), counted);
    while let Some(epoch) = search.next_epoch(&data)? {
        println!("{epoch}");
    }
    let betas = search.params().weights().filter(|(_, name, _)| name.ends_with("beta"));
    let moved = betas.map(|(_, _, beta)| (beta - 1.0)?.abs()?.max_all()?.to_scalar::<f32>());
    let moved = moved.collect::<candle_core::Result<Vec<_>>>()?;
    println!("β moved by up to {moved:?}");
    assert!(moved.len() == 3 && moved.iter().any(|by| *by > 0.0));
    println!("\n{}", search.derive(search.rule(), &data)?.genotype);
    Ok(())
}
