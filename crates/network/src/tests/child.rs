//! A derived network computes what its supernet computes under one-hot gates.

use candle_core::{DType, Device, Tensor};
use controller::Paths;
use ops::{Backward, Catalog, Forward, Gradients, Mode, Statistics};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use search_space::{CellGenotype, Chosen, Extent, Genotype, Layout, LayoutRequest, Phase, Shape, Space};

use super::rig::{Rig, draw, layout, space};
use crate::{Error, Network, Purpose, inherit};

fn rig() -> Result<Rig, Error> {
    let x: Vec<f64> = (0..2 * 8 * 8 * 3).map(|i| ((i * 41 % 97) as f64 / 40.0 - 1.0).cos()).collect();
    let x = Tensor::from_vec(x, (2, 8, 8, 3), &Device::Cpu)?;
    Rig::new(layout(&space("nas-bench-201"), 8, 4, 2), DType::F64, &x, vec![0, 9])
}

/// Candidate `pick(row)` on every edge.
fn genotype(layout: &Layout, pick: impl Fn(usize) -> usize) -> Genotype {
    let cells = layout.groups.iter().map(|group| CellGenotype {
        kind: group.kind.clone(),
        cell: group.cell,
        edges: group
            .edges
            .iter()
            .enumerate()
            .map(|(row, &(from, to))| Chosen { from, to, op: group.candidates[pick(row)].label.clone() })
            .collect(),
        output: vec![3],
    });
    Genotype { version: 1, space: "nas-bench-201".into(), cells: cells.collect() }
}

fn child(rig: &Rig, pick: impl Fn(usize) -> usize) -> Result<(Network, ops::ParamStore), Error> {
    let plan = rig.net.layout();
    let plan = plan.child(&genotype(plan, pick)).expect("a genotype of the space");
    let mut rng = ChaCha8Rng::seed_from_u64(99);
    let (net, mut params) = Network::new(plan, &Catalog::standard(), DType::F64, &Device::Cpu, &mut rng)?;
    let found = inherit(&mut params, &rig.params)?;
    assert_eq!(found, params.n_weights(), "every weight is inherited");
    Ok((net, params))
}

#[test]
fn a_child_computes_what_its_supernet_computes_under_one_hot_gates() -> Result<(), Error> {
    let rig = rig()?;
    for shift in 0..5 {
        let pick = |row: usize| (row + shift) % 5;
        let (net, params) = child(&rig, pick)?;
        let paths = [Paths::Single((0..6).map(pick).collect())];
        for mode in [Mode::Train, Mode::Eval] {
            let mut statistics = Statistics::default();
            let mut pass = Forward { params: &params, mode, statistics: &mut statistics, draw: draw() };
            let (own, _) = net.forward(&rig.x, 0.0, Purpose::Evaluate, &mut pass)?;
            let mut pass = Forward { params: &rig.params, mode, statistics: &mut statistics, draw: draw() };
            let (super_logits, _) = rig.net.forward(&rig.x, &paths, Purpose::Evaluate, &mut pass)?;
            assert_eq!(own.main.to_vec2::<f64>()?, super_logits.to_vec2::<f64>()?, "shift {shift}, {mode:?}");
        }
    }
    Ok(())
}

#[test]
fn a_supernet_is_no_child() -> Result<(), Error> {
    let rig = rig()?;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let plan = rig.net.layout().clone();
    let error = Network::new(plan, &Catalog::standard(), DType::F64, &Device::Cpu, &mut rng).err();
    let error = error.expect("a supernet's layout was accepted").to_string();
    assert_eq!(error, "cell 0 (cell), edge 0→1, none: 5 candidates; a derived network has one an edge");
    Ok(())
}

/// Kept or dropped whole, each example by itself, and the gradient is dropped with it.
#[test]
fn drop_path_drops_an_edge_for_single_examples() -> Result<(), Error> {
    let rig = rig()?;
    let (net, params) = child(&rig, |_| 3)?;
    let logits = |drop_path: f64, step: u64| -> Result<Vec<Vec<f64>>, Error> {
        let mut statistics = Statistics::default();
        let draw = ops::Draw { seed: 5, step };
        let mut pass = Forward { params: &params, mode: Mode::Train, statistics: &mut statistics, draw };
        let (logits, trace) = net.forward(&rig.x, drop_path, Purpose::Weights, &mut pass)?;
        let mut gradients = Gradients::new(&params);
        let mut back = Backward { params: &params, gradients: Some(&mut gradients) };
        net.backward(trace, &logits.main.ones_like()?, None, &mut back)?;
        Ok(logits.main.to_vec2()?)
    };
    assert_eq!(logits(0.0, 1)?, logits(0.0, 2)?, "without it nothing is drawn");
    assert_eq!(logits(0.5, 1)?, logits(0.5, 1)?, "the same step draws the same numbers");
    assert_ne!(logits(0.5, 1)?, logits(0.5, 2)?, "another step draws others");
    Ok(())
}

/// One channel of ones: a mean of ones is 1, and the identity beside it is never dropped, so that the features are
/// `1 + f` with the factor `f` of the edge that may be.
const DROPS: &str = "\
version: 1
name: drops
rank: image
cells:
  - name: cell
    nodes: 2
    edges:
      - {from: 0, to: 1, candidates: [avg_pool_3x3]}
      - {from: 0, to: 2, candidates: [skip_connect]}
      - {from: 1, to: 2, candidates: [skip_connect]}
network:
  channels: 1
  stages: [{cell: cell}]
";

/// A child of a space with one candidate an edge, in `f64`, on images of `side` × `side` × 1.
fn only_child(yaml: &str, side: usize, phase: Phase) -> Result<(Network, ops::ParamStore), Error> {
    let space = Space::parse(yaml, "space", &Catalog::standard()).expect("it is valid");
    let input = Shape { extent: Extent::Image { height: side, width: side }, channels: 1 };
    let request = LayoutRequest { input, classes: 2, phase, channels: None, cells: None };
    let layout = space.layout(&request, &Catalog::standard()).expect("it fits");
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    Network::new(layout, &Catalog::standard(), DType::F64, &Device::Cpu, &mut rng)
}

/// Liu et al., 2019, `utils.py`: `x.div_(keep_prob); x.mul_(mask)`, one draw an example, identities left out.
#[test]
fn what_drop_path_keeps_is_divided_by_the_chance_of_keeping() -> Result<(), Error> {
    let (net, mut params) = only_child(DROPS, 2, Phase::Train)?;
    params.load("head.fc.weight", &Tensor::new(&[[1.0, 10.0]], &Device::Cpu)?)?;
    params.load("head.fc.bias", &Tensor::zeros(2, DType::F64, &Device::Cpu)?)?;
    let (n, statistics) = (10_000, &mut Statistics::default());
    let x = Tensor::ones((n, 2, 2, 1), DType::F64, &Device::Cpu)?;
    let mut pass = Forward { params: &params, mode: Mode::Train, statistics, draw: draw() };
    let logits = net.forward(&x, 0.25, Purpose::Weights, &mut pass)?.0.main.to_vec2::<f64>()?;
    let is = |row: &[f64], feature: f64| {
        (row[0] - feature).abs() < 1e-12 && (row[1] - 10.0 * feature).abs() < 1e-12
    };
    let dropped = logits.iter().filter(|row| is(row, 1.0)).count();
    let kept = logits.iter().filter(|row| is(row, 1.0 + 4.0 / 3.0)).count();
    assert_eq!(dropped + kept, n, "nothing between");
    assert!((dropped as f64 / n as f64 - 0.25).abs() < 4.0 * (0.25 * 0.75 / n as f64).sqrt(), "{dropped}");
    Ok(())
}

/// A stem in front, so that gradients have to pass the cell, from both heads.
const WITH_STEM: &str = "\
version: 1
name: with-stem
rank: image
cells:
  - name: cell
    inputs: 2
    nodes: 1
    edges:
      - {from: 0, to: 2, candidates: [sep_conv_3x3]}
      - {from: 1, to: 2, candidates: [avg_pool_3x3]}
    output: all
    preprocess: nor_conv_1x1
network:
  channels: 2
  stem: {block: {op: conv_norm, kernel: 3}}
  stages: [{cell: cell}]
  auxiliary: {stage: 0, weight: 0.4}
";

#[test]
fn gradients_pass_what_was_kept_and_come_from_both_heads() -> Result<(), Error> {
    gradients_past_drop_path(6, 6)
}

/// So large that the stem's gradient is made where it is added up.
#[test]
fn gradients_pass_what_was_kept_of_maps_that_lie_in_memory() -> Result<(), Error> {
    gradients_past_drop_path(40, 64)
}

/// Finite differences of `Σ main + 0.4 Σ auxiliary` under a fixed draw of drop path, on `n` images.
fn gradients_past_drop_path(n: usize, side: usize) -> Result<(), Error> {
    let (net, params) = only_child(WITH_STEM, side, Phase::Train)?;
    let x: Vec<f64> = (0..n * side * side).map(|i| ((i * 37 % 101) as f64 / 17.0).sin()).collect();
    let x = Tensor::from_vec(x, (n, side, side, 1), &Device::Cpu)?;
    let run = |params: &ops::ParamStore| -> Result<_, Error> {
        let statistics = &mut Statistics::default();
        let mut pass = Forward { params, mode: Mode::Train, statistics, draw: draw() };
        let (logits, trace) = net.forward(&x, 0.5, Purpose::Weights, &mut pass)?;
        let side = logits.auxiliary.expect("a weight step runs it");
        // Squares, or batch norms would make the sums constant.
        let loss = |y: &Tensor| y.sqr()?.sum_all()?.to_scalar::<f64>();
        Ok((loss(&logits.main)? + 0.4 * loss(&side)?, logits.main, side, trace))
    };
    let (_, main, side, trace) = run(&params)?;
    let mut gradients = Gradients::new(&params);
    let mut back = Backward { params: &params, gradients: Some(&mut gradients) };
    net.backward(trace, &(main * 2.0)?, Some(&(side * 0.8)?), &mut back)?;
    for name in ["stem.conv.weight", "auxiliary.fc.bias", "head.fc.weight"] {
        let id = params.find(name).expect("it exists");
        let found = gradients.get(id).expect("it took part").flatten_all()?.to_vec1::<f64>()?[0];
        let at = |step: f64| -> Result<f64, Error> {
            let mut moved = params.clone();
            let mut values = moved.weight(id).flatten_all()?.to_vec1::<f64>()?;
            values[0] += step;
            moved.set_weight(id, Tensor::from_vec(values, moved.weight(id).shape(), &Device::Cpu)?)?;
            Ok(run(&moved)?.0)
        };
        let expected = (at(1e-5)? - at(-1e-5)?) / 2e-5;
        assert!(expected.abs() > 1e-3, "{name}: a gradient of {expected} says nothing");
        assert!((found - expected).abs() < 1e-6 * expected.abs().max(1.0), "{name}: {found}, not {expected}");
    }
    Ok(())
}
