//! A derived network computes what its supernet computes under one-hot gates.

use candle_core::{DType, Device, Tensor};
use controller::Paths;
use ops::{Backward, Catalog, Forward, Gradients, Mode, Statistics};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use search_space::{CellGenotype, Chosen, Genotype, Layout};

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
