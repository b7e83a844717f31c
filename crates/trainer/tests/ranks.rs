//! Several devices that learn alike: what two halves of every batch give is what the whole gives, and all stays the same
//! byte by byte. Devices are threads of the host here; NCCL takes the place of where they meet.

use std::{fs, path::Path};

use candle_core::{Device, Tensor};
use data::{Examples, InMemory, SearchData, Split, Values};
use ops::{
    Autograd, Candidate, Catalog, Definition, Op, ParamBuilder,
    kernels::gpu::{emulate, unavailable},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use search_space::{Cost, Extent, Shape, Site, Space, WordError};
use strait_trainer::{EpochSummary, Error, Layer, Overwrite, RunDir, Search, SearchConfig};

use crate::support::live;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Nothing in it looks at a whole batch.
const PLAIN: &str = "
version: 1
name: plain
rank: image
rule: argmax
cells:
  - {name: cell, nodes: 2, candidates: [none, skip_connect, avg_pool_3x3, bend]}
network: {channels: 2, stages: [{cell: cell, repeats: 2}]}
";

/// Batch norms, dropout, a stem, a head.
const NORMED: &str = "
version: 1
name: normed
rank: image
rule: argmax
cells:
  - {name: cell, nodes: 2, candidates: [none, skip_connect, nor_conv_3x3, avg_pool_3x3]}
network:
  channels: 4
  stem: {block: {op: conv_norm, kernel: 3}}
  stages: [{cell: cell}]
  head: {block: norm_relu, dropout: 0.1}
";

/// `y = x·σ(βx)`, one `β` per channel.
struct Bend;

impl Candidate for Bend {
    fn cost(&self, site: &Site) -> Result<Cost, WordError> {
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

fn catalog() -> Catalog {
    let mut catalog = Catalog::standard();
    let bend = Definition::new("bend", "x·σ(βx)", |_| Box::new(Bend));
    catalog.register(bend).expect("the word is new");
    catalog
}

/// 72 noisy pictures, light on the left or on the right; 36 train weights: batches of 16, 16 and 4.
fn halves() -> SearchData {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut part = |n: usize| {
        let labels: Vec<u32> = (0..n).map(|i| (i % 2) as u32).collect();
        let light = |label: u32, i: usize| f32::from(u8::from((i / 2 % 6 < 3) == (label == 0)));
        let picture =
            |&label: &u32| (0..72).map(|i| light(label, i) + rng.random::<f32>()).collect::<Vec<_>>();
        Examples { values: Values::Floats(labels.iter().flat_map(picture).collect()), labels }
    };
    let shape = Shape { extent: Extent::Image { height: 6, width: 6 }, channels: 2 };
    let pictures = InMemory::new("pictures", shape, vec!["left".into(), "right".into()], part(72), part(20))
        .expect("parts fit");
    SearchData::split(std::sync::Arc::new(pictures), &Split::default()).expect("both classes have examples")
}

fn config(sets: &[(&str, &str)]) -> SearchConfig {
    let small = "{epochs: 3, warmup_epochs: 1, batch: 16, gap_batches: 1, arch: {lr: 0.05}, \
                 augment: {crop_padding: 1, flip: true}}";
    let mut layers = vec![Layer::Text { origin: "small", text: small }];
    layers.extend(sets.iter().map(|(key, value)| Layer::Set { key, value }));
    SearchConfig::resolve(&layers).expect("the settings are valid")
}

fn begun<'c>(
    yaml: &str,
    catalog: &'c Catalog,
    sets: &[(&str, &str)],
    ranks: usize,
) -> Result<Search<'c>, Error> {
    let space = Space::parse(yaml, "space.yaml", catalog).expect("the space is valid");
    let devices = vec![Device::Cpu; ranks];
    match ranks {
        0 => Search::new(&space, catalog, &halves(), config(sets), &Device::Cpu),
        _ => Search::across(&space, catalog, &halves(), config(sets), &devices),
    }
}

/// Epochs, and in the end logits and weights. Zero ranks: the search of one device.
fn searched(yaml: &str, sets: &[(&str, &str)], ranks: usize) -> Result<(Vec<EpochSummary>, Vec<f64>), Error> {
    let catalog = catalog();
    let mut search = begun(yaml, &catalog, sets, ranks)?;
    let mut epochs = Vec::new();
    while let Some(epoch) = search.next_epoch(&halves())? {
        epochs.push(epoch);
    }
    let logits = (0..search.arch().len()).map(|group| search.arch().logits(group).detach());
    let edges = search.edge_params().map(|edges| edges.logits().to_vec()).unwrap_or_default();
    let weights = search.params().tensors().map(|(_, tensor)| tensor.clone());
    let mut values = Vec::new();
    for tensor in logits.chain(edges).chain(weights) {
        values.extend(tensor.flatten_all()?.to_dtype(candle_core::DType::F64)?.to_vec1::<f64>()?);
    }
    Ok((epochs, values))
}

fn farthest(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f64::max)
}

/// Gradients, losses and slopes of halves have the whole's for their mean, whatever an estimator asks for.
#[test]
fn two_ranks_find_what_one_device_finds_on_the_whole_batch() -> Outcome {
    let named = |name| vec![("estimator", name)];
    let cases = [
        named("gumbel-st"),
        named("gdas"),
        named("darts"),
        named("snas"),
        named("reinforce"),
        named("exact"),
        named("proxyless"),
        vec![("estimator", "gumbel-soft"), ("edge_normalization", "true")],
        vec![("estimator", "darts"), ("unrolled", "true")],
    ];
    for sets in cases {
        let (alone, expected) = searched(PLAIN, &sets, 0)?;
        let (together, found) = searched(PLAIN, &sets, 2)?;
        for (one, two) in alone.iter().zip(&together) {
            let near = |a: f64, b: f64| (a - b).abs() < 1e-4;
            assert!(near(one.weights.loss, two.weights.loss), "{sets:?}: {one} and {two}");
            let of = |epoch: &EpochSummary| epoch.architecture.map_or(0.0, |score| score.loss);
            assert!(near(of(one), of(two)), "{sets:?}: {one} and {two}");
            assert_eq!(one.genotype, two.genotype, "{sets:?}");
        }
        let off = farthest(&found, &expected);
        assert!(off < 1e-3, "{sets:?}: {off:e}");
    }
    Ok(())
}

#[test]
fn one_rank_computes_what_a_device_alone_does_to_the_byte() -> Outcome {
    for estimator in ["gumbel-st", "snas", "reinforce"] {
        let sets = [("estimator", estimator)];
        let ((alone, expected), (ranked, found)) = (searched(NORMED, &sets, 0)?, searched(NORMED, &sets, 1)?);
        assert!(found.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{estimator}");
        let losses =
            |epochs: &[EpochSummary]| epochs.iter().map(|epoch| epoch.weights.loss).collect::<Vec<_>>();
        assert_eq!(losses(&ranked), losses(&alone), "{estimator}");
    }
    Ok(())
}

/// The last checkpoint of a search on three ranks that is taken up anew after every `calls` calls.
fn ending(calls: usize) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let (catalog, data) = (catalog(), halves());
    let sets = [("tau.policy", "adaptive"), ("watch.draws", "2"), ("batch", "12")];
    let directory = tempfile::tempdir()?;
    let run = RunDir::create(directory.path(), Overwrite::Refuse)?;
    run.write_search(&config(&sets), NORMED)?;
    while !live(begun(NORMED, &catalog, &sets, 3)?, &data, &run, calls)? {}
    Ok(fs::read(Path::new(directory.path()).join("search.safetensors"))?)
}

#[test]
fn ranks_repeat_themselves_to_the_byte_and_resume_alike() -> Outcome {
    let through = ending(usize::MAX)?;
    assert!(ending(usize::MAX)? == through, "again");
    assert!(ending(30)? == through, "in pieces");
    Ok(())
}

#[test]
fn a_batch_without_equal_parts_is_refused() {
    let refused = |sets: &[(&str, &str)], ranks: usize| {
        let catalog = catalog();
        let error = begun(PLAIN, &catalog, sets, ranks).err().expect("it is refused");
        assert!(error.is_misuse());
        error.to_string()
    };
    let batch = refused(&[("batch", "15")], 2);
    assert_eq!(batch, "a batch of 15 examples for 2 devices; expected a multiple of 2");
    let part = refused(&[("batch", "40")], 8); // of 36 examples
    assert_eq!(part, "a batch of 36 examples for 8 devices; expected a multiple of 8");
}

#[test]
fn ranks_on_emulated_devices_find_the_same() -> Outcome {
    if let Some(reason) = unavailable() {
        eprintln!("{reason}");
        return Ok(());
    }
    let sets = [("estimator", "gdas"), ("epochs", "2"), ("batch", "12")];
    let (_, expected) = searched(NORMED, &sets, 2)?;
    let (_, found) = emulate(|| searched(NORMED, &sets, 2))?;
    let off = farthest(&found, &expected);
    assert!(off < 1e-3, "{off:e}");
    Ok(())
}
