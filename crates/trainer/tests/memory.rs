//! What a search holds is what was estimated: on the CPU, and on an emulated device, whose every block is counted.

use std::sync::{Arc, Mutex};

use candle_core::{Device, Result as TensorResult, Tensor};
use controller::{Demand, Estimator, Gates, Paths, estimators};
use data::{Examples, InMemory, SearchData, Split, Values};
use network::StepMemory;
use ops::{
    Catalog, Side,
    kernels::gpu::{
        Arithmetic,
        counted::{Counted, held, most_held},
        emulate_in, unavailable,
    },
};
use rand_chacha::ChaCha8Rng;
use search_space::{Extent, LayoutRequest, Phase, Shape, Space};
use strait_trainer::{Error, Layer, Progress, Search, SearchConfig};

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[global_allocator]
static MEMORY: Counted = Counted;

/// Bytes that kernels keep for each other at most: 2²¹ numbers in `f32`.
const KEPT: usize = 4 << 21;

/// Of NAS-Bench-201, and of DARTS: separable convolutions; and two inputs, preprocessing, a reduction, nodes side by side, of as
/// many channels as fill vectors.
const CELLS: [(&str, &str); 3] = [
    (
        "sums",
        "
cells:
  - {name: cell, nodes: 3, candidates: [none, skip_connect, nor_conv_1x1, nor_conv_3x3, avg_pool_3x3]}
network:
  channels: 12
  stem: {block: {op: conv_norm, kernel: 3}}
  stages: [{cell: cell, repeats: 2}, {cell: cell, growth: 2, entry: {block: residual_block}}]
  head: {block: norm_relu}
",
    ),
    (
        "separable",
        "
norm: {search: {affine: false, conv_bias: false, pool_norm: true}}
cells:
  - {name: cell, nodes: 2, candidates: [skip_connect, sep_conv_3x3, dil_conv_3x3, max_pool_3x3]}
network:
  channels: 12
  stem: {block: {op: conv_norm, kernel: 3}}
  stages: [{cell: cell, repeats: 2}]
",
    ),
    (
        "readers",
        "
norm: {search: {affine: false, conv_bias: false}}
cells:
  - {name: cell, inputs: 2, nodes: 2, output: all, preprocess: nor_conv_1x1, candidates: [skip_connect, nor_conv_1x1]}
  - {name: reduce, inputs: 2, nodes: 2, output: all, preprocess: nor_conv_1x1, candidates: [skip_connect, nor_conv_1x1]}
network:
  channels: 16
  stem: {block: {op: conv_norm, kernel: 3}}
  stages: [{cell: cell, repeats: 3}, {cell: cell, growth: 2, entry: {cell: reduce}}]
",
    ),
];

/// An estimator that writes down what it chose.
#[derive(Debug)]
struct Watched {
    estimator: Box<dyn Estimator>,
    chosen: Arc<Mutex<Vec<Paths>>>,
}

impl Estimator for Watched {
    fn demand(&self) -> Demand {
        self.estimator.demand()
    }

    fn relax(&self, logits: &Tensor, tau: &Tensor, rng: &mut ChaCha8Rng) -> TensorResult<Gates> {
        let gates = self.estimator.relax(logits, tau, rng)?;
        self.chosen.lock().expect("nobody panics").push(gates.paths().clone());
        Ok(gates)
    }

    fn credit(&self, losses: &[f64]) -> Vec<f64> {
        self.estimator.credit(losses)
    }
}

/// Noise in pictures of one channel, so that batches that wait on the host are small beside what is computed of them.
fn noise(side: usize, examples: usize) -> SearchData {
    let part = |n: usize| Examples {
        values: Values::Floats((0..n * side * side).map(|i| (i as f32 * 0.7).sin()).collect()),
        labels: (0..n).map(|i| (i % 2) as u32).collect(),
    };
    let shape = Shape { extent: Extent::Image { height: side, width: side }, channels: 1 };
    let classes = vec!["a".into(), "b".into()];
    let noise = InMemory::new("noise", shape, classes, part(examples), part(2)).expect("parts fit");
    SearchData::split(Arc::new(noise), &Split::default()).expect("both classes have examples")
}

/// The most bytes that steps of a search held, and what was estimated of the most that any of them holds.
fn measured(
    yaml: &str,
    name: &str,
    batch: usize,
    pixels: usize,
    side: Side,
    arithmetic: Arithmetic,
) -> Result<(usize, u64), Error> {
    const STEPS: usize = 3;
    let catalog = Catalog::standard();
    let yaml = format!("version: 1\nname: measured\nrank: image\nrule: argmax{yaml}");
    let space = Space::parse(&yaml, "measured.yaml", &catalog).expect("the space is valid");
    let settings = format!("{{epochs: 2, warmup_epochs: 0, batch: {batch}, estimator: {name}}}");
    let config = SearchConfig::resolve(&[Layer::Text { origin: "settings", text: &settings }])?;
    let data = noise(pixels, 2 * batch * (STEPS + 3));
    let (input, classes) = (data.info().shape, data.info().classes.len());
    let request = LayoutRequest { input, classes, phase: Phase::Search, channels: None, cells: None };
    let layout = space.layout(&request, &catalog)?;
    let chosen = Arc::new(Mutex::new(Vec::new()));
    let watched = Watched { estimator: estimators::by_name(name)?, chosen: chosen.clone() };
    let before = held();
    let search =
        Search::new(&space, &catalog, &data, config, &Device::Cpu)?.with_estimator(Box::new(watched));
    let mut search = search.with_maps(arithmetic.maps());
    let mut step = || {
        let Progress::Step(_) = search.next_step(&data)? else { panic!("the epoch is longer") };
        Ok::<(), Error>(())
    };
    step()?; // velocities, and what is made once
    chosen.lock().expect("nobody panics").clear();
    let standing = held() - before;
    let (steps, most) = most_held(|| (1..STEPS).try_for_each(|_| step()));
    steps?;
    let map_bytes = arithmetic.maps().size_in_bytes() as u64;
    let memory = StepMemory { layout: &layout, catalog: &catalog, batch, side, map_bytes };
    let demand = estimators::by_name(name)?.demand();
    let paths = std::mem::take(&mut *chosen.lock().expect("nobody panics"));
    let mut estimated = 0;
    for step in paths.chunks_exact(2 * layout.groups.len()) {
        let (weights, architecture) = step.split_at(layout.groups.len());
        let of_step = memory.peak_along(weights, architecture, demand);
        estimated = estimated.max(of_step.expect("the catalog knows the words"));
    }
    Ok((standing + most, estimated))
}

#[track_caller]
fn agrees(what: &str, (found, estimated): (usize, u64)) {
    let ratio = estimated as f64 / found as f64;
    println!("{what}: {found} bytes held, {estimated} estimated, {ratio:.3}");
    assert!((ratio - 1.0).abs() < 0.15, "{what}: {found} bytes held, {estimated} estimated");
}

/// One test, since what all threads hold is counted together.
#[test]
fn a_search_holds_what_was_estimated() -> Outcome {
    let before = held();
    for (cell, yaml) in CELLS {
        for (estimator, batch, arithmetic) in [
            ("gdas", 16, Arithmetic::F32),
            ("gdas", 48, Arithmetic::F32),
            ("gdas", 48, Arithmetic::Bf16),
            ("gumbel-st", 16, Arithmetic::F32),
            ("darts", 16, Arithmetic::F32),
        ] {
            let found = || measured(yaml, estimator, batch, 16, Side::Host, arithmetic);
            found()?; // leaves what kernels keep for each other, which is the process's
            agrees(
                &format!("{cell}, {estimator} at batch {batch} on the CPU in {}", arithmetic.name()),
                found()?,
            );
        }
    }
    let kept = held() - before;
    assert!(kept < KEPT, "{kept} bytes held when all searches are gone");
    if let Some(reason) = unavailable() {
        eprintln!("{reason}");
        return Ok(());
    }
    // Emulated steps take their time: the cases are few.
    let [sums, separable, readers] = CELLS;
    let cases = [
        (sums, "gdas", 8, Arithmetic::F32),
        (sums, "gdas", 20, Arithmetic::F32),
        (sums, "gdas", 20, Arithmetic::Bf16),
        (sums, "darts", 4, Arithmetic::F32),
        (separable, "gdas", 8, Arithmetic::F32),
        (separable, "gdas", 8, Arithmetic::Bf16),
        (separable, "gumbel-st", 8, Arithmetic::F32),
        (separable, "darts", 4, Arithmetic::F32),
        (readers, "gdas", 8, Arithmetic::F32),
    ];
    for ((cell, yaml), estimator, batch, arithmetic) in cases {
        let found = emulate_in(arithmetic, || measured(yaml, estimator, batch, 8, Side::Device, arithmetic))?;
        agrees(&format!("{cell}, {estimator} at batch {batch} on a device in {}", arithmetic.name()), found);
    }
    Ok(())
}
