//! Gates: what a step computes, and what it leaves alone.

use candle_core::{DType, Device, Tensor};
use controller::{Demand, Paths};

use super::rig::{Rig, layout, space};
use crate::{Error, Purpose};

fn rig(name: &str) -> Result<Rig, Error> {
    let cells = if name == "darts" { 3 } else { 1 };
    let x: Vec<f64> = (0..3 * 7 * 7 * 3).map(|i| ((i * 37 % 101) as f64 / 50.0 - 1.0).sin()).collect();
    let x = Tensor::from_vec(x, (3, 7, 7, 3), &Device::Cpu)?;
    Rig::new(layout(&space(name), 7, 4, cells), DType::F64, &x, vec![1, 4, 7])
}

/// Weights that rise with the column, and differ by row.
fn weighted(rig: &Rig) -> Vec<Paths> {
    let groups = &rig.net.layout().groups;
    let row = |e: usize, k: usize| (0..k).map(|i| 0.2 + 0.1 * i as f64 + 0.01 * e as f64).collect();
    groups
        .iter()
        .map(|g| Paths::Weighted((0..g.edges.len()).map(|e| row(e, g.candidates.len())).collect()))
        .collect()
}

fn single(rig: &Rig, pick: impl Fn(usize, usize) -> usize) -> Vec<Paths> {
    let groups = &rig.net.layout().groups;
    groups
        .iter()
        .map(|g| Paths::Single((0..g.edges.len()).map(|e| pick(e, g.candidates.len())).collect()))
        .collect()
}

fn nudged(paths: &[Paths], group: usize, row: usize, k: usize, by: f64) -> Vec<Paths> {
    let mut paths = paths.to_vec();
    if let Paths::Weighted(rows) = &mut paths[group] {
        rows[row][k] += by;
    }
    paths
}

/// One-hot gates as a mixture: they agree in the loss with the single path.
fn one_hot(rig: &Rig, paths: &[Paths]) -> Vec<Paths> {
    let columns = rig.net.layout().groups.iter().map(|g| g.candidates.len());
    let one = |chosen: usize, columns: usize| (0..columns).map(|k| f64::from(k == chosen)).collect();
    let rows = |paths: &Paths, columns: usize| match paths {
        Paths::Weighted(rows) => rows.clone(),
        Paths::Single(chosen) => chosen.iter().map(|&c| one(c, columns)).collect(),
        Paths::Pair(pairs) => pairs.iter().map(|&[c, _]| one(c, columns)).collect(),
    };
    paths.iter().zip(columns).map(|(p, k)| Paths::Weighted(rows(p, k))).collect()
}

#[test]
fn gradients_of_a_mixture_are_finite_differences() -> Result<(), Error> {
    for name in ["nas-bench-201", "darts"] {
        let rig = rig(name)?;
        let paths = weighted(&rig);
        let answer = rig.answer(&paths, Purpose::Architecture(Demand::Mixture))?;
        for (group, row, k) in [(0, 0, 1), (0, 2, 3), (0, 4, 2), (answer.gates.len() - 1, 5, 4)] {
            let at = |by| rig.loss(&nudged(&paths, group, row, k, by));
            let difference = (at(1e-7)? - at(-1e-7)?) / 2e-7;
            let found = answer.gates[group][row][k];
            assert!(
                (found - difference).abs() < 1e-6 * (1.0 + difference.abs()),
                "{name}: {found}, {difference}"
            );
        }
    }
    Ok(())
}

/// The derivative at the corner of the simplex, every candidate weighed: what `gumbel-st` sends back.
#[test]
fn unchosen_outputs_are_weighed_as_if_all_had_run() -> Result<(), Error> {
    for name in ["nas-bench-201", "darts"] {
        let rig = rig(name)?;
        let paths = single(&rig, |e, k| (e + 1) % k);
        let few = rig.answer(&paths, Purpose::Architecture(Demand::Outputs))?;
        let all = rig.answer(&one_hot(&rig, &paths), Purpose::Architecture(Demand::Mixture))?;
        assert!((few.loss - all.loss).abs() < 1e-12);
        for (few, all) in few.gates.iter().flatten().flatten().zip(all.gates.iter().flatten().flatten()) {
            assert!((few - all).abs() < 1e-12 * (1.0 + all.abs()), "{name}: {few} instead of {all}");
        }
    }
    Ok(())
}

#[test]
fn gdas_weighs_the_chosen_alone() -> Result<(), Error> {
    let rig = rig("nas-bench-201")?;
    let paths = single(&rig, |e, k| (e + 1) % k);
    let answer = rig.answer(&paths, Purpose::Architecture(Demand::Chosen))?;
    for (e, row) in answer.gates[0].iter().enumerate() {
        for (k, &gate) in row.iter().enumerate() {
            assert_eq!(gate == 0.0, k != (e + 1) % 5 || k == 0, "edge {e}, candidate {k}: {gate}");
        }
    }
    Ok(())
}

/// A pair runs its first and weighs its second; of the others nothing is known.
#[test]
fn a_pair_weighs_its_two_alone() -> Result<(), Error> {
    let rig = rig("nas-bench-201")?;
    let all = rig.answer(&single(&rig, |_, _| 3), Purpose::Architecture(Demand::Outputs))?;
    let pairs = [Paths::Pair(vec![[3, 1]; 6])];
    let two = rig.answer(&pairs, Purpose::Architecture(Demand::Outputs))?;
    assert_eq!(two.loss, all.loss);
    for (two, all) in two.gates[0].iter().zip(&all.gates[0]) {
        assert_eq!(two[..], [0.0, all[1], 0.0, all[3], 0.0]);
    }
    Ok(())
}

#[test]
fn a_joint_pass_is_both_passes_to_the_bit() -> Result<(), Error> {
    for name in ["nas-bench-201", "darts"] {
        let rig = rig(name)?;
        let paths = weighted(&rig);
        let joint = rig.answer(&paths, Purpose::Joint)?;
        assert_eq!(joint.gates, rig.answer(&paths, Purpose::Architecture(Demand::Mixture))?.gates, "{name}");
        let weights = rig.answer(&paths, Purpose::Weights)?.gradients;
        for (id, weight, _) in rig.params.weights() {
            let values =
                |of: &ops::Gradients| of.get(id).map(|g| g.flatten_all()?.to_vec1::<f64>()).transpose();
            assert_eq!(values(&joint.gradients)?, values(&weights)?, "{name}: {weight}");
        }
    }
    Ok(())
}

#[test]
fn weights_of_what_did_not_run_have_no_gradient() -> Result<(), Error> {
    let rig = rig("nas-bench-201")?;
    let answer = rig.answer(&single(&rig, |_, _| 3), Purpose::Weights)?;
    for (id, name, _) in rig.params.weights() {
        let ran = !name.contains("nor_conv_1x1");
        assert_eq!(answer.gradients.get(id).is_some(), ran, "{name}");
    }
    Ok(())
}

#[test]
fn probes_report_no_statistics() -> Result<(), Error> {
    let rig = rig("nas-bench-201")?;
    let paths = single(&rig, |_, _| 3);
    let weights = rig.answer(&paths, Purpose::Weights)?.statistics.iter().count();
    let outputs = rig.answer(&paths, Purpose::Architecture(Demand::Outputs))?.statistics.iter().count();
    assert_eq!(weights, outputs);
    Ok(())
}

#[test]
fn a_cell_without_any_operation_gives_zeros() -> Result<(), Error> {
    let rig = rig("nas-bench-201")?;
    let answer = rig.answer(&single(&rig, |_, _| 0), Purpose::Weights)?;
    assert!(answer.loss.is_finite());
    Ok(())
}

#[test]
fn what_is_not_finite_is_found_by_name() -> Result<(), Error> {
    let mut rig = rig("nas-bench-201")?;
    let name = "cells.1.edge_1_2.nor_conv_3x3.conv.weight";
    let id = rig.params.find(name).expect("the weight exists");
    let poisoned = (rig.params.weight(id) * f64::NAN)?;
    rig.params.set_weight(id, poisoned)?;
    let paths = single(&rig, |_, _| 3);
    let mut statistics = ops::Statistics::default();
    let mut pass = ops::Forward {
        params: &rig.params,
        mode: ops::Mode::Train,
        statistics: &mut statistics,
        draw: super::rig::draw(),
    };
    let place = rig.net.diagnose(&rig.x, &paths, &mut pass)?.expect("the culprit");
    assert_eq!(place.to_string(), "cell 1 (cell), edge 1→2, nor_conv_3x3");
    Ok(())
}

#[test]
fn a_wrong_number_of_groups_is_an_error() -> Result<(), Error> {
    let rig = rig("nas-bench-201")?;
    let error = rig.loss(&[] as &[Paths]).expect_err("no gates were accepted");
    assert_eq!(error.to_string(), "0 groups of gates; the layout has 1");
    Ok(())
}
