//! Exported networks against independent runtimes, on real digits.

use std::io::Cursor;

use candle_core::{DType, Device, Tensor};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use strait::data::{DataOptions, DataSpec, Part};
use strait::export::{
    Format, ModelCard, Trained,
    onnx::{self, BatchNorms},
    pytorch, rust, write,
};
use strait::network::{Network, Purpose};
use strait::ops::{Draw, Forward, Mode, Statistics};
use strait::space::{Block, CellGenotype, Chosen, Extent, LayoutRequest, Phase, Shape};
use strait::trainer::Seed;
use strait::{Catalog, Genotype, Layout, ParamStore, Space, open};
use tract_onnx::prelude::{Framework, InferenceModelExt, IntoRunnable, IntoTValue, SymbolValues, tvec};
use tract_onnx::tract_core::ops::Cost;

/// Examples that are compared.
const N: usize = 16;

/// The child of a shipped space in which the candidates take turns, small, with running statistics that batches left.
pub(crate) struct Child {
    pub(crate) network: Network,
    pub(crate) params: ParamStore,
    pub(crate) genotype: Genotype,
}

/// The shape of a digit in `space`: an image, columns in time, or 64 numbers.
fn input(space: &Space) -> Shape {
    let extent = match space.sample_input().extent {
        Extent::Image { .. } => Extent::Image { height: 8, width: 8 },
        Extent::Series { .. } => return Shape { extent: Extent::Series { length: 8 }, channels: 8 },
        Extent::Flat => return Shape { extent: Extent::Flat, channels: 64 },
    };
    Shape { extent, channels: 1 }
}

/// The plan of a space's children, small.
fn laid_out(space: &Space, input: Shape) -> Layout {
    let cells = match space.name() {
        "nas-bench-201" => Some(1),                   // in each of three stages
        name if name.starts_with("darts") => Some(3), // two of which reduce
        _ => None,
    };
    let request = LayoutRequest { input, classes: 10, phase: Phase::Train, channels: Some(4), cells };
    space.layout(&request, &Catalog::standard()).expect("the space fits")
}

/// Every candidate once in turn, `skip` of them passed over at first; what draws at random cannot be compared.
fn turns(layout: &Layout, skip: usize) -> Genotype {
    let mut turn = skip;
    let cells = layout.blocks.iter().filter_map(|block| match block {
        Block::Cell(cell) => Some(cell),
        Block::Fixed { .. } => None,
    });
    let cells = cells.map(|cell| {
        let edges = cell.edges.iter().map(|edge| {
            let ops: Vec<_> =
                edge.candidates.iter().filter(|op| !op.is_none() && op.word != "noise").collect();
            turn += 1;
            Chosen { from: edge.from, to: edge.to, op: ops[turn % ops.len()].label.clone() }
        });
        CellGenotype {
            kind: cell.name.clone(),
            cell: None,
            edges: edges.collect(),
            output: cell.output.clone(),
        }
    });
    let mut cells: Vec<_> = cells.collect();
    if layout.groups.iter().any(|group| group.cell.is_some()) {
        for (index, cell) in cells.iter_mut().enumerate() {
            cell.cell = Some(index);
        }
    } else {
        let mut seen = Vec::new();
        cells.retain(|cell| {
            !seen.contains(&cell.kind) && {
                seen.push(cell.kind.clone());
                true
            }
        });
    }
    Genotype { version: Genotype::VERSION, space: layout.space.clone(), cells }
}

impl Child {
    pub(crate) fn new(name: &str, skip: usize) -> Self {
        let catalog = Catalog::standard();
        let space = Space::shipped(name, &catalog).expect("it is shipped").expect("it is valid");
        let layout = laid_out(&space, input(&space));
        let genotype = turns(&layout, skip);
        Self::of(&layout, genotype)
    }

    fn of(layout: &Layout, genotype: Genotype) -> Self {
        let child = layout.child(&genotype).expect("the genotype is of the space");
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let (network, params) = Network::new(child, &Catalog::standard(), DType::F32, &Device::Cpu, &mut rng)
            .expect("it can be built");
        let mut child = Self { network, params, genotype };
        for _ in 0..3 {
            let (_, statistics) = child.run(&child.digits(), Mode::Train);
            child.params.absorb(&statistics).expect("statistics of this network");
        }
        child
    }

    fn run(&self, x: &Tensor, mode: Mode) -> (Tensor, Statistics) {
        let mut statistics = Statistics::default();
        let draw = Draw { seed: Seed(0).0, step: 0 };
        let mut pass = Forward { params: &self.params, mode, statistics: &mut statistics, draw };
        let (logits, _) = self.network.forward(x, 0.0, Purpose::Evaluate, &mut pass).expect("shapes fit");
        (logits.main, statistics)
    }

    /// Test digits, channels last; where the network takes smaller ones, their upper left.
    fn digits(&self) -> Tensor {
        let digits = open(&DataSpec::Digits, &DataOptions::default()).expect("digits are embedded");
        let mut pixels = vec![0.0; 64 * N];
        for (index, image) in pixels.chunks_mut(64).enumerate() {
            digits.read(Part::Test, index * 50, image);
        }
        let dims = self.network.layout().input.batch_dims(N);
        let [_, height, width, 1] = dims[..] else {
            return Tensor::from_vec(pixels, dims, &Device::Cpu).expect("64 numbers a digit");
        };
        let whole = Tensor::from_vec(pixels, (N, 8, 8, 1), &Device::Cpu).expect("64 numbers a digit");
        let part =
            whole.narrow(1, 0, height).and_then(|x| x.narrow(2, 0, width)).and_then(|x| x.contiguous());
        part.expect("no larger than a digit")
    }

    pub(crate) fn trained(&self) -> Trained {
        let values = self.params.tensors().map(|(name, value)| (name, value.clone())).collect();
        let blueprint = self.network.blueprint(&self.params).expect("every operation sketches itself");
        Trained::new(blueprint, values).expect("names differ")
    }

    /// What tract makes of the ONNX model, for the first `n` digits.
    fn in_tract(&self, norms: BatchNorms, n: usize) -> Vec<f32> {
        let mut bytes = Vec::new();
        onnx::write(&self.genotype, &ModelCard::default(), &self.trained(), norms, &mut bytes)
            .expect("written");
        let model = tract_onnx::onnx().model_for_read(&mut Cursor::new(bytes)).expect("tract reads it");
        let model = model.into_optimized().expect("its types are known").into_runnable().expect("it runs");
        let x = channels_first(&self.digits().narrow(0, 0, n).expect("so many digits"));
        let values: Vec<f32> = x.flatten_all().and_then(|x| x.to_vec1()).expect("numbers");
        let x =
            tract_onnx::prelude::Tensor::from_shape(x.dims(), &values).expect("as many as the shape says");
        let logits = model.run(tvec!(x.into_tvalue())).expect("the shape fits");
        let logits = logits[0].try_as_plain_ram().expect("numbers in memory");
        logits.as_slice::<f32>().expect("of f32").to_vec()
    }
}

/// What others count in an ONNX model: the weights among its initializers, and the multiply-accumulates for one example
/// that tract finds in convolutions and products of matrices.
pub(crate) fn counted(onnx: &[u8]) -> (u64, u64) {
    let proto = tract_onnx::onnx().proto_model_for_read(&mut Cursor::new(onnx)).expect("a model");
    let initializers = proto.graph.expect("it has a graph").initializer.into_iter();
    let learned = initializers.filter(|one| one.name.ends_with(".weight") || one.name.ends_with(".bias"));
    let params = learned.map(|one| one.dims.iter().product::<i64>() as u64).sum();
    let model = tract_onnx::onnx().model_for_read(&mut Cursor::new(onnx)).expect("tract reads it");
    let model = model.into_typed().expect("its types are known");
    let single = SymbolValues::default().with(&model.symbols.sym("batch"), 1);
    let arithmetic = model.nodes.iter().filter(|node| ["Conv", "EinSum"].contains(&&*node.op.name()));
    let macs = arithmetic.flat_map(|node| {
        let inputs = model.node_input_facts(node.id).expect("facts");
        node.op.cost(&inputs).expect("a cost")
    });
    let macs = macs.filter(|(cost, _)| matches!(cost, Cost::FMA(_)));
    (params, macs.map(|(_, n)| n.eval_to_i64(&single).expect("a number") as u64).sum())
}

/// `(N, H, W, C)` as `(N, C, H, W)`, and its kin.
pub(crate) fn channels_first(x: &Tensor) -> Tensor {
    let last = x.rank() - 1;
    let order: Vec<usize> = std::iter::once(0).chain(std::iter::once(last)).chain(1..last).collect();
    if last == 1 { x.clone() } else { x.permute(order).and_then(|x| x.contiguous()).expect("axes") }
}

fn difference(ours: &Tensor, theirs: &[f32]) -> f32 {
    let ours: Vec<f32> = ours.flatten_all().and_then(|x| x.to_vec1()).expect("numbers");
    assert!(theirs.len() <= ours.len() && !theirs.is_empty());
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Whatever the candidates: tract's logits of 16 digits are ours, batch norms folded or not.
#[test]
fn every_shipped_space_runs_in_an_independent_runtime() {
    for name in Space::shipped_names() {
        for (skip, norms) in [(0, BatchNorms::Kept), (3, BatchNorms::Folded)] {
            let child = Child::new(name, skip);
            let (ours, _) = child.run(&child.digits(), Mode::Eval);
            let off = difference(&ours, &child.in_tract(norms, N));
            assert!(off < 1e-4, "{name}, {norms:?}: {off}");
        }
    }
}

/// What `strait check` adds up from words is what an independent runtime counts in the exported network.
#[test]
fn costs_are_what_an_independent_runtime_counts() {
    for name in Space::shipped_names() {
        let child = Child::new(name, 1);
        let mut bytes = Vec::new();
        onnx::write(&child.genotype, &ModelCard::default(), &child.trained(), BatchNorms::Kept, &mut bytes)
            .expect("written");
        let cost = child.network.layout().cost(&Catalog::standard()).expect("known words");
        assert_eq!((cost.params, cost.macs), counted(&bytes), "{name}");
    }
}

#[test]
fn an_exported_model_takes_any_number_of_examples() {
    let child = Child::new("digits", 1);
    let (ours, _) = child.run(&child.digits(), Mode::Eval);
    for n in [1, 5] {
        let theirs = child.in_tract(BatchNorms::Kept, n);
        assert_eq!(theirs.len(), n * 10);
        assert!(difference(&ours, &theirs) < 1e-4);
    }
}

/// What shipped spaces leave out, on maps of odd sizes: partial windows, thin kernels, a block of stride 2.
const LAYERS: &str = "\
version: 1
name: layers
rank: image
norm: {train: {conv_bias: true}}
cells:
  - name: wide
    inputs: 2
    nodes: 3
    edges:
      - {from: 0, to: 2, candidates: [sep_conv_3x3]}
      - {from: 1, to: 2, candidates: [dil_conv_5x5]}
      - {from: 0, to: 3, candidates: [max_pool_3x3]}
      - {from: 2, to: 3, candidates: [conv_7x1_1x7]}
      - {from: 1, to: 4, candidates: [mbconv_3x3_e3]}
      - {from: 3, to: 4, candidates: [avg_pool_5x5]}
    output: all
    preprocess: nor_conv_1x1
  - name: half
    inputs: 2
    nodes: 2
    edges:
      - {from: 0, to: 2, candidates: [skip_connect]}
      - {from: 1, to: 2, candidates: [max_pool_3x3]}
      - {from: 1, to: 3, candidates: [conv_7x1_1x7]}
    output: all
    preprocess: nor_conv_1x1
network:
  channels: 4
  stem: {block: {op: conv_norm, kernel: 3, activation: 2}}
  stages:
    - {cell: wide}
    - {entry: {cell: half}, cell: wide, growth: 2}
    - {entry: {block: residual_block}, growth: 2}
  head: {block: norm_relu}
";

fn layers() -> Child {
    let space = Space::parse(LAYERS, "layers", &Catalog::standard()).expect("it is valid");
    let input = Shape { extent: Extent::Image { height: 7, width: 7 }, channels: 1 };
    let layout = laid_out(&space, input);
    let genotype = turns(&layout, 0);
    Child::of(&layout, genotype)
}

/// Node 2 is reached by nothing, and read.
fn unreached() -> Child {
    let space =
        Space::shipped("nas-bench-201", &Catalog::standard()).expect("it is shipped").expect("it is valid");
    let text = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_3x3~2|";
    let genotype = Genotype::from_nb201(text, &space).expect("a genotype of the space");
    Child::of(&laid_out(&space, input(&space)), genotype)
}

#[test]
fn odd_sizes_and_unreached_nodes_run_in_an_independent_runtime() {
    for child in [layers(), unreached()] {
        let (ours, _) = child.run(&child.digits(), Mode::Eval);
        for norms in [BatchNorms::Kept, BatchNorms::Folded] {
            let off = difference(&ours, &child.in_tract(norms, N));
            assert!(off < 1e-4, "{norms:?}: {off}");
        }
    }
}

/// What `strait export --format rust` writes for [`layers`], compiled.
#[allow(
    clippy::all,
    clippy::pedantic,
    dead_code,
    unreachable_pub,
    reason = "a file for programs that need not follow our style"
)]
mod exported {
    include!("fixtures/exported.rs");
}

/// S4's `noise` draws anew in every pass: nothing else can be told what it computes, but its weights can leave.
#[test]
fn noise_is_refused_with_its_place_and_its_reason() {
    let catalog = Catalog::standard();
    let space = Space::shipped("darts-s4", &catalog).expect("it is shipped").expect("it is valid");
    let layout = laid_out(&space, input(&space));
    let mut genotype = turns(&layout, 0);
    genotype.cells[0].edges[0].op = "noise".into();
    let layout = layout.child(&genotype).expect("the genotype is of the space");
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let (network, params) =
        Network::new(layout, &catalog, DType::F32, &Device::Cpu, &mut rng).expect("it can be built");
    let why = network.blueprint(&params).expect_err("noise was sketched").to_string();
    let values = params.tensors().map(|(name, value)| (name, value.clone())).collect();
    let trained = Trained::untold(network.layout().clone(), why, values).expect("names differ");
    let card = ModelCard::default();
    for format in [Format::Onnx, Format::Pytorch, Format::Rust] {
        let refused = write(format, &genotype, &card, Some(&trained), &mut Vec::new());
        let said = refused.expect_err("noise was exported").to_string();
        assert!(said.starts_with("cell 0 (normal), edge 0→2, noise: "), "{said}");
        assert!(said.contains("draws anew in every pass") && said.contains("safetensors"), "{said}");
    }
    write(Format::Safetensors, &genotype, &card, Some(&trained), &mut Vec::new()).expect("weights can leave");
}

#[test]
fn an_exported_rust_module_runs_on_candle_alone() {
    let (child, mut module) = (layers(), Vec::new());
    rust::write(&child.genotype, &ModelCard::default(), &child.trained(), &mut module).expect("written");
    assert_eq!(String::from_utf8(module).expect("text"), include_str!("fixtures/exported.rs"));
    let weights = pytorch::weights(&child.trained()).expect("every value is there");
    let model = exported::Model::new(weights.into_iter().collect());
    let theirs = model.forward(&channels_first(&child.digits())).expect("shapes fit");
    let theirs: Vec<f32> = theirs.flatten_all().and_then(|x| x.to_vec1()).expect("numbers");
    let (ours, _) = child.run(&child.digits(), Mode::Eval);
    assert!(difference(&ours, &theirs) < 1e-5);
}

/// Text that people read, and that `tests/python/exports.py` runs.
#[test]
fn an_exported_pytorch_module_is_the_one_that_was_read() {
    let (child, mut module) = (layers(), Vec::new());
    pytorch::write(&child.genotype, &ModelCard::default(), &child.trained(), &mut module).expect("written");
    insta::assert_snapshot!(String::from_utf8(module).expect("text"));
}
