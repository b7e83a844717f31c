//! Partial channels and edge normalization, against finite differences and against what they must agree with.

use candle_core::{DType, Device, Tensor};
use controller::{Demand, Paths};
use ops::Catalog;
use search_space::{Block, Layout, Vocabulary};

use super::rig::{Rig, layout, space};
use crate::{Error, Purpose, Routes};

const NAMES: [&str; 2] = ["nas-bench-201", "darts"];

fn narrow(name: &str, parts: usize) -> Layout {
    let (channels, cells) = if name == "darts" { (4, 3) } else { (4, 1) };
    layout(&space(name), 7, channels, cells).partial(parts, &Catalog::standard()).expect("4 has these parts")
}

fn rig_of(layout: Layout) -> Result<Rig, Error> {
    rig_at(layout, 7, vec![1, 4, 7])
}

/// An image of `side` × `side` × 3 a label.
fn rig_at(layout: Layout, side: usize, labels: Vec<u32>) -> Result<Rig, Error> {
    let dims = (labels.len(), side, side, 3);
    // No two pixels alike, or many would cross the same kink at once.
    let x: Vec<f64> = (0..dims.0 * side * side * 3).map(|i| (1.3 * i as f64).sin()).collect();
    Rig::new(layout, DType::F64, &Tensor::from_vec(x, dims, &Device::Cpu)?, labels)
}

/// Strengths that rise with the row.
fn strengths(rig: &Rig) -> Vec<Vec<f64>> {
    let rows = |n: usize| (0..n).map(|row| 0.3 + 0.1 * row as f64).collect();
    rig.net.layout().groups.iter().map(|group| rows(group.edges.len())).collect()
}

fn weighted(rig: &Rig) -> Vec<Paths> {
    let row = |e: usize, k: usize| (0..k).map(|i| 0.2 + 0.1 * i as f64 + 0.01 * e as f64).collect();
    let group = |n: usize, k: usize| Paths::Weighted((0..n).map(|e| row(e, k)).collect());
    rig.net.layout().groups.iter().map(|g| group(g.edges.len(), g.candidates.len())).collect()
}

fn single(rig: &Rig) -> Vec<Paths> {
    let group = |n: usize, k: usize| Paths::Single((0..n).map(|e| (e + 1) % k).collect());
    rig.net.layout().groups.iter().map(|g| group(g.edges.len(), g.candidates.len())).collect()
}

fn one_hot(rig: &Rig, paths: &[Paths]) -> Vec<Paths> {
    let rows = |paths: &Paths, k: usize| match paths {
        Paths::Single(chosen) => {
            chosen.iter().map(|&c| (0..k).map(|i| f64::from(u8::from(i == c))).collect()).collect()
        }
        other => panic!("{other:?} are no single paths"),
    };
    let columns = rig.net.layout().groups.iter().map(|g| g.candidates.len());
    paths.iter().zip(columns).map(|(paths, k)| Paths::Weighted(rows(paths, k))).collect()
}

#[track_caller]
fn close(found: f64, expected: f64, within: f64, what: &str) {
    assert!(
        (found - expected).abs() < within * (1.0 + expected.abs()),
        "{what}: {found} instead of {expected}"
    );
}

/// At strides 1 and 2 and on odd maps, whose last windows are cut.
#[test]
fn gradients_are_finite_differences() -> Result<(), Error> {
    for name in NAMES {
        check_gradients(rig_of(narrow(name, 2))?, name, 7, 1e-6)?;
    }
    Ok(())
}

/// Where half of the channels are so many that what the candidates say of them is made where it is added up. Among so many pixels
/// some cross a kink within a millionth.
#[test]
fn gradients_of_maps_that_lie_in_memory_are_finite_differences() -> Result<(), Error> {
    let name = "nas-bench-201";
    let layout = layout(&space(name), 64, 16, 1).partial(2, &Catalog::standard()).expect("16 has two parts");
    check_gradients(rig_at(layout, 64, (0..10).collect())?, name, 13, 1e-8)
}

/// Gates, strengths and every `stride`-th weight by central differences.
fn check_gradients(mut rig: Rig, space: &str, stride: usize, by: f64) -> Result<(), Error> {
    let (paths, mut strengths) = (weighted(&rig), strengths(&rig));
    let routes = Routes { paths: &paths, strengths: Some(&strengths) };
    let answer = rig.answer(routes, Purpose::Joint)?;
    let last = paths.len() - 1;
    for (group, row, k) in [(0, 0, 1), (0, 2, 3), (last, 0, 1), (last, 5, 4)] {
        let at = |by: f64| {
            let mut paths = paths.clone();
            let Paths::Weighted(rows) = &mut paths[group] else { unreachable!("they are weighted") };
            rows[row][k] += by;
            rig.loss(Routes { paths: &paths, strengths: Some(&strengths) })
        };
        let difference = (at(by)? - at(-by)?) / (2.0 * by);
        close(answer.gates[group][row][k], difference, 1e-6, &format!("{space}, gate {group} {row} {k}"));
    }
    for (group, row) in [(0, 0), (0, 3), (last, 0), (last, 5)] {
        let mut at = |by: f64| {
            strengths[group][row] += by;
            let loss = rig.loss(Routes { paths: &paths, strengths: Some(&strengths) });
            strengths[group][row] -= by;
            loss
        };
        let difference = (at(by)? - at(-by)?) / (2.0 * by);
        close(answer.strengths[group][row], difference, 1e-6, &format!("{space}, strength {group} {row}"));
    }
    let names: Vec<String> = rig.params.weights().map(|(_, name, _)| name.to_owned()).collect();
    for name in names.iter().step_by(stride) {
        let id = rig.params.find(name).expect("it is one of them");
        let weight = rig.params.weight(id).clone();
        let nudge = weight.ones_like()?;
        let mut at = |by: f64| -> Result<f64, Error> {
            rig.params.set_weight(id, (&weight + (&nudge * by)?)?)?;
            rig.loss(Routes { paths: &paths, strengths: Some(&strengths) })
        };
        let difference = (at(by)? - at(-by)?) / (2.0 * by);
        rig.params.set_weight(id, weight.clone())?;
        let found = answer.gradients.get(id).map_or(Ok(0.0), |g| g.sum_all()?.to_scalar::<f64>())?;
        close(found, difference, 2e-5, &format!("{space}, {name}"));
    }
    Ok(())
}

/// What `gumbel-st` sends back is what a mixture at the corner of the simplex would.
#[test]
fn unchosen_outputs_are_weighed_as_if_all_had_run() -> Result<(), Error> {
    for name in NAMES {
        let rig = rig_of(narrow(name, 4))?;
        let (paths, strengths) = (single(&rig), strengths(&rig));
        let corner = one_hot(&rig, &paths);
        let of = |paths, demand| {
            rig.answer(Routes { paths, strengths: Some(&strengths) }, Purpose::Architecture(demand))
        };
        let (few, all) = (of(&paths, Demand::Outputs)?, of(&corner, Demand::Mixture)?);
        close(few.loss, all.loss, 1e-12, name);
        let pairs = few.gates.concat().concat().into_iter().zip(all.gates.concat().concat());
        pairs.for_each(|(few, all)| close(few, all, 1e-11, name));
        let pairs = few.strengths.concat().into_iter().zip(all.strengths.concat());
        pairs.for_each(|(few, all)| close(few, all, 1e-11, name));
    }
    Ok(())
}

#[test]
fn strengths_of_one_change_nothing() -> Result<(), Error> {
    let rig = rig_of(narrow("darts", 1))?;
    let paths = weighted(&rig);
    let ones: Vec<Vec<f64>> = strengths(&rig).iter().map(|rows| vec![1.0; rows.len()]).collect();
    let purpose = Purpose::Architecture(Demand::Mixture);
    let (plain, told) = (
        rig.answer(&paths, purpose)?,
        rig.answer(Routes { paths: &paths, strengths: Some(&ones) }, purpose)?,
    );
    assert_eq!((plain.loss, plain.gates), (told.loss, told.gates));
    Ok(())
}

/// The child keeps what passes by an edge of `none`, and its edges' strengths.
#[test]
fn an_inherited_child_is_its_supernet_to_the_bit() -> Result<(), Error> {
    use crate::{Network, inherit};
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    let rig = rig_of(narrow("nas-bench-201", 2))?;
    let strengths = strengths(&rig);
    let paths = [Paths::Single(vec![0, 1, 3, 4, 2, 0])];
    let layout = rig.net.layout().clone().with_strengths(&strengths);
    let labels = ["none", "skip_connect", "nor_conv_3x3", "avg_pool_3x3", "nor_conv_1x1", "none"];
    let cell = layout.cells().next().expect("a cell");
    let edges = cell.edges.iter().zip(labels).map(|(edge, op)| search_space::Chosen {
        from: edge.from,
        to: edge.to,
        op: op.to_owned(),
    });
    let entry = search_space::CellGenotype {
        kind: "cell".into(),
        cell: None,
        edges: edges.collect(),
        output: cell.output.clone(),
    };
    let genotype = search_space::Genotype { version: 1, space: "nas-bench-201".into(), cells: vec![entry] };
    let child = layout.child(&genotype).expect("a genotype of the space");
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let (net, mut params) = Network::new(child, &Catalog::standard(), DType::F64, &Device::Cpu, &mut rng)?;
    assert_eq!(inherit(&mut params, &rig.params)?, params.n_weights());
    let mut statistics = ops::Statistics::default();
    let mut pass = ops::Forward {
        params: &params,
        mode: ops::Mode::Train,
        statistics: &mut statistics,
        draw: super::rig::draw(),
    };
    let (logits, _) = net.forward(&rig.x, 0.0, Purpose::Evaluate, &mut pass)?;
    let loss = ops::kernels::loss::cross_entropy(&logits.main, &rig.labels, 0.0)?.loss;
    assert_eq!(loss, rig.loss(Routes { paths: &paths, strengths: Some(&strengths) })?);
    let error = net.blueprint(&params).expect_err("it was told of").to_string();
    assert!(error.starts_with("cell 0 (cell), edge 0→1, none: has partial channels"), "{error}");
    Ok(())
}

#[test]
fn weights_are_as_many_as_the_layout_counts() -> Result<(), Error> {
    for (name, parts) in [("nas-bench-201", 2), ("darts", 4), ("darts", 2)] {
        let rig = rig_of(narrow(name, parts))?;
        let counted = rig.net.layout().cost(&Catalog::standard()).expect("known words").params;
        let built: usize = rig.params.weights().map(|(_, _, weight)| weight.elem_count()).sum();
        assert_eq!(built as u64, counted, "{name}, {parts}");
    }
    Ok(())
}

/// Of a quarter of the channels a dense 3×3 convolution has a sixteenth of the weights.
#[test]
fn a_quarter_of_the_channels_is_a_sixteenth_of_a_convolution() {
    let (whole, part) = (narrow("nas-bench-201", 1), narrow("nas-bench-201", 4));
    let macs = |layout: &Layout| -> u64 {
        let Some(Block::Cell(cell)) = layout.blocks.first() else { return 0 };
        Catalog::standard()
            .cost(&cell.edges[0].candidates[3], &cell.edges[0].site)
            .expect("a known word")
            .macs
    };
    assert_eq!(macs(&whole), 16 * macs(&part));
}

#[test]
fn parts_that_do_not_fit_are_refused_with_the_edge() {
    let refused = |name: &str, parts| {
        let layout = layout(&space(name), 8, 4, 1);
        layout.partial(parts, &Catalog::standard()).expect_err("they fit").to_string()
    };
    assert_eq!(
        refused("nas-bench-201", 3),
        "partial_channels 3, cell 0 (cell), edge 0→1 from 8×8×4 to 8×8×4; expected a divisor of every edge's width, \
         which are those of 4"
    );
    let mobile = refused("mobile", 2);
    assert!(
        mobile.ends_with("expected 1: the edge changes its width, and what passes by cannot"),
        "{mobile}"
    );
}
