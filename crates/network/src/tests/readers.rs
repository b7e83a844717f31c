//! What prepares one output for several cells, forward and back at once.

use candle_core::{DType, Device, Tensor};
use controller::{Demand, Paths};
use ops::{Forward, Mode, Statistics};
use search_space::Block;

use super::rig::{Answer, Rig, draw, layout, space};
use crate::{
    Error, Purpose,
    forward::{Output, Walk},
    graph::Input,
};

/// The space of DARTS with as many channels as fill vectors: five cells, the second and the fourth of which reduce.
fn rig() -> Result<Rig, Error> {
    rig_with_bias(false)
}

/// Perhaps with a bias in all that prepares inputs, which then run one by one.
fn rig_with_bias(conv_bias: bool) -> Result<Rig, Error> {
    let x: Vec<f64> = (0..2 * 9 * 9 * 3).map(|i| ((i * 37 % 101) as f64 / 50.0 - 1.0).sin()).collect();
    let x = Tensor::from_vec(x, (2, 9, 9, 3), &Device::Cpu)?;
    let mut layout = layout(&space("darts"), 9, 16, 5);
    for block in &mut layout.blocks {
        let Block::Cell(cell) = block else { continue };
        for (_, site) in cell.inputs.iter_mut().filter_map(|input| input.preprocess.as_mut()) {
            site.norm.conv_bias = conv_bias;
        }
    }
    Rig::new(layout, DType::F64, &x, vec![1, 7])
}

fn paths(rig: &Rig) -> Vec<Paths> {
    let groups = &rig.net.layout().groups;
    groups.iter().map(|g| Paths::Single((0..g.edges.len()).map(|e| 1 + e % 7).collect())).collect()
}

/// The first cell that needs one makes it for all that read the output through a convolution of the same window; a factorized
/// reduce stays for itself.
#[test]
fn an_output_is_prepared_for_all_its_readers_at_once() -> Result<(), Error> {
    let rig = rig()?;
    let graph = &rig.net.0;
    let mut statistics = Statistics::default();
    let mut pass =
        Forward { params: &rig.params, mode: Mode::Train, statistics: &mut statistics, draw: draw() };
    let mut walk = Walk::new(&mut pass, Purpose::Weights);
    let map = |channels: usize| Tensor::ones((2, 9, 9, channels), DType::F64, &Device::Cpu);
    let stem = Output::of(vec![map(48)?]);
    walk.inputs(graph, 0, [&stem, &stem])?;
    assert_eq!(walk.ahead.keys().copied().collect::<Vec<_>>(), [Input { block: 1, index: 0 }]);
    let first = Output::of((0..4).map(|_| map(16)).collect::<Result<_, _>>()?);
    walk.inputs(graph, 1, [&first, &stem])?;
    assert!(walk.ahead.is_empty(), "the next cell reads the first one's output through a factorized reduce");
    Ok(())
}

/// As many batch norms report as where all run one by one, and gradients are finite differences: of the stem's weights and of what prepares inputs.
#[test]
fn gradients_through_shared_outputs_are_finite_differences() -> Result<(), Error> {
    let mut rig = rig()?;
    let paths = paths(&rig);
    let answer = rig.answer(&paths, Purpose::Weights)?;
    let norms = |answer: &Answer| {
        let mut reported: Vec<_> = answer.statistics.iter().map(|(id, _)| format!("{id:?}")).collect();
        reported.sort_unstable();
        reported
    };
    assert_eq!(norms(&answer), norms(&rig_with_bias(true)?.answer(&paths, Purpose::Weights)?));
    let named = |name: &str| name.contains("input_") || name.starts_with("stem");
    let weights: Vec<_> = (rig.params.weights())
        .filter(|(_, name, _)| named(name))
        .map(|(id, name, value)| (id, name.to_owned(), value.clone()))
        .collect();
    assert!(weights.len() > 10);
    for (id, name, value) in weights {
        let gradient = answer.gradients.get(id).expect("it took part").flatten_all()?.to_vec1::<f64>()?;
        let at = gradient.len() / 3;
        let mut loss = |by: f64| -> Result<f64, Error> {
            let mut values = value.flatten_all()?.to_vec1::<f64>()?;
            values[at] += by;
            rig.params.load(&name, &Tensor::from_vec(values, value.dims(), &Device::Cpu)?)?;
            rig.loss(&paths)
        };
        let difference = (loss(1e-6)? - loss(-1e-6)?) / 2e-6;
        loss(0.0)?;
        assert!(
            (gradient[at] - difference).abs() < 1e-5 * (1.0 + difference.abs()),
            "{name}: {} and {difference}",
            gradient[at]
        );
    }
    Ok(())
}

/// An architecture step, whose first cells' inputs need no gradient.
#[test]
fn gates_feel_what_is_read_twice() -> Result<(), Error> {
    let rig = rig()?;
    let groups = &rig.net.layout().groups;
    let weighted = |by: f64| -> Vec<Paths> {
        let row = |e: usize, k: usize| {
            (0..k).map(|i| 0.1 + 0.01 * i as f64 + if (e, i) == (0, 4) { by } else { 0.0 }).collect()
        };
        groups
            .iter()
            .enumerate()
            .map(|(g, group)| {
                let row = |e: usize| row(if g == 0 { e } else { e + 1 }, group.candidates.len());
                Paths::Weighted((0..group.edges.len()).map(row).collect())
            })
            .collect()
    };
    let answer = rig.answer(&weighted(0.0), Purpose::Architecture(Demand::Mixture))?;
    let difference = (rig.loss(&weighted(1e-6))? - rig.loss(&weighted(-1e-6))?) / 2e-6;
    let found = answer.gates[0][0][4];
    assert!((found - difference).abs() < 1e-5 * (1.0 + difference.abs()), "{found} and {difference}");
    Ok(())
}
