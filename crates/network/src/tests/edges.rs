//! One edge against PyTorch: all candidates weighted, and one alone.

use candle_core::{DType, Device, Tensor};
use controller::{Demand, Paths};
use ops::{Backward, Catalog, Forward, Gradients, Mode, ParamBuilder, ParamStore, Statistics};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use search_space::{
    Block, Cell, CellInput, ChoiceGroup, Edge, Extent, Head, Layout, Norm, Rank, Shape, Site, Vocabulary,
    Written,
};

use super::{
    reference::{Reference, assert_agrees},
    rig::draw,
};
use crate::{
    Error, Purpose,
    backward::{Frame, WalkBack},
    forward::{Output, Walk},
    graph::{Built, Graph},
    terms::Arriving,
};

/// A cell that is one edge of 4 channels on 8×8 maps.
fn one_edge(labels: &[&str], stride: usize, norm: Norm) -> Layout {
    let input = Shape { extent: Extent::Image { height: 8, width: 8 }, channels: 4 };
    let site = Site { extent: input.extent, c_in: 4, c_out: 4, stride, norm };
    let catalog = Catalog::standard();
    let candidates: Vec<_> = labels
        .iter()
        .map(|label| catalog.resolve(&Written::Label((*label).into()), Rank::Image).expect("a known word"))
        .collect();
    let cell = Cell {
        kind: 0,
        name: "cell".into(),
        index: 0,
        inputs: vec![CellInput { back: 1, preprocess: None, shape: input }],
        edges: vec![Edge {
            from: 0,
            to: 1,
            site,
            partial: 1,
            strength: 1.0,
            candidates: candidates.clone(),
            group: 0,
            row: 0,
        }],
        nodes: 1,
        output: vec![1],
        shape: site.output(),
        reduction: stride == 2,
    };
    Layout {
        space: "edge".into(),
        input,
        classes: 2,
        stem: None,
        blocks: vec![Block::Cell(cell)],
        head: Head { input: site.output(), before_pool: None, dropout: 0.0, features: 4 },
        auxiliary: None,
        groups: vec![ChoiceGroup {
            name: "cell".into(),
            kind: "cell".into(),
            cell: None,
            candidates,
            edges: vec![(0, 1)],
        }],
    }
}

/// Walks over the only cell, forward and back.
struct Walked {
    y: Tensor,
    gx: Option<Tensor>,
    gates: Vec<f64>,
    gradients: Gradients,
}

fn walk(
    graph: &Graph,
    params: &ParamStore,
    x: &Tensor,
    gy: &Tensor,
    paths: &Paths,
    purpose: Purpose,
) -> Result<Walked, Error> {
    let (Built::Cell { edges, .. }, Block::Cell(cell)) = (&graph.blocks[0], &graph.layout.blocks[0]) else {
        unreachable!("the only block is a cell");
    };
    let mut statistics = Statistics::default();
    let mut pass = Forward { params, mode: Mode::Train, statistics: &mut statistics, draw: draw() };
    let mut forward = Walk::new(&mut pass, purpose);
    let source = Output::of(vec![x.clone()]);
    let inputs = forward.inputs(graph, 0, [&source, &source])?;
    let (y, kept) = forward.cell(cell, inputs, edges, std::slice::from_ref(paths).into())?;
    let [y] = <[Tensor; 1]>::try_from(y).expect("one node makes the output");
    let mut gradients = Gradients::new(params);
    let weights = (purpose == Purpose::Weights).then_some(&mut gradients);
    let mut pass = Backward { params, gradients: weights };
    let mut arrived = Arriving::default();
    arrived.push(1.0, gy.clone(), &mut pass)?;
    let mut back = WalkBack::new(&mut pass);
    let frame = Frame { mode: Mode::Train, draw: draw(), purpose };
    let gx = back.cell(cell, edges, kept, vec![arrived], frame, &[true])?.remove(0);
    let gates = back.slopes().answers(&graph.layout)?.gates[0].get(0)?.to_vec1()?;
    Ok(Walked { y, gx, gates, gradients })
}

fn check(file: &str, labels: &[&str], norm: Norm) -> Result<(), Error> {
    check_in(DType::F64, 1e-9, file, labels, norm)?;
    check_in(DType::F32, 1e-4, file, labels, norm)
}

fn check_in(dtype: DType, within: f64, file: &str, labels: &[&str], norm: Norm) -> Result<(), Error> {
    let reference = Reference::read(file)?;
    for case in reference.cases() {
        let stride = if case == "s2" { 2 } else { 1 };
        let mut params = ParamStore::new(dtype, &Device::Cpu);
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let catalog = Catalog::standard();
        let layout = one_edge(labels, stride, norm);
        let graph = Graph::build(layout, &catalog, &mut ParamBuilder::new(&mut params, &mut rng))?;
        let ours = |theirs: &str| {
            let (k, rest) = theirs.strip_prefix("ops.")?.split_once('.')?;
            Some(format!("cells.0.edge_0_1.{}.{rest}", labels[k.parse::<usize>().ok()?]))
        };
        let names = reference.names(&format!("{case}/w."));
        for name in &names {
            let value = reference.weight(&format!("{case}/w.{name}"))?;
            params.load(&ours(name).expect("an operation's weight"), &value.to_dtype(dtype)?)?;
        }
        let read = |name: &str| Ok::<_, Error>(reference.map(&format!("{case}/{name}"))?.to_dtype(dtype)?);
        let (x, gy) = (read("x")?, read("gy")?);
        let weights = reference.raw(&format!("{case}/weights")).to_vec1::<f64>()?;
        let index = reference.raw(&format!("{case}/index")).to_scalar::<i64>()? as usize;
        let mix = Paths::Weighted(vec![weights.clone()]);
        for (mode, paths, demand) in
            [("mix", mix, Demand::Mixture), ("one", Paths::Single(vec![index]), Demand::Chosen)]
        {
            // The fixture scales the one by its weight, a gate of ours is 1: the gradient of what enters is scaled.
            let scale = if mode == "one" { weights[index] } else { 1.0 };
            let arrived = (&gy * scale)?;
            let what = |name: &str| format!("{case}/{mode}.{name}");
            let found = walk(&graph, &params, &x, &arrived, &paths, Purpose::Weights)?;
            assert_agrees(&what("y"), &(found.y * scale)?, &reference.map(&what("y"))?, within)?;
            let gx = found.gx.unwrap_or(x.zeros_like()?);
            assert_agrees(&what("gx"), &gx, &reference.map(&what("gx"))?, within)?;
            for name in reference.names(&format!("{case}/{mode}.g.")) {
                let id = params.find(&ours(&name).expect("an operation's weight")).expect("it exists");
                let gradient = found.gradients.get(id).expect("it took part");
                let theirs = what(&format!("g.{name}"));
                assert_agrees(&theirs, gradient, &reference.weight(&theirs)?, within)?;
            }
            let found = walk(&graph, &params, &x, &gy, &paths, Purpose::Architecture(demand))?;
            let gates = Tensor::new(found.gates, &Device::Cpu)?;
            assert_agrees(&what("g_weights"), &gates, reference.raw(&what("g_weights")), within)?;
        }
        // Straight-through: every output weighed, though one alone ran.
        let all = Purpose::Architecture(Demand::Outputs);
        let found = walk(&graph, &params, &x, &gy, &Paths::Single(vec![index]), all)?;
        let gates = Tensor::new(found.gates, &Device::Cpu)?;
        assert_agrees("outputs", &gates, reference.raw(&format!("{case}/mix.g_weights")), within)?;
    }
    Ok(())
}

#[test]
fn an_edge_of_nas_bench_201_is_that_of_pytorch() -> Result<(), Error> {
    let labels = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"];
    check("ops/edge_nb201", &labels, Norm { affine: false, ..Norm::default() })
}

#[test]
fn an_edge_of_darts_is_that_of_pytorch() -> Result<(), Error> {
    let labels = [
        "none",
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    ];
    check("ops/edge_darts", &labels, Norm { affine: false, pool_norm: true, ..Norm::default() })
}
