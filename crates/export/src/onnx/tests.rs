use candle_core::{DType, Device};
use network::Network;
use ops::Catalog;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use search_space::{Cost, Extent, Genotype, LayoutRequest, Phase, Shape, Space};

use super::*;

/// `|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|` where `text` says so, in the shipped space.
fn trained(name: &str, text: &str, side: usize) -> (Trained, Genotype, Cost) {
    let catalog = Catalog::standard();
    let path = format!("{}/../../search_spaces/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    let space = Space::load(path.as_ref(), &catalog).expect("shipped spaces are valid");
    let genotype = Genotype::from_nb201(text, &space).expect("a genotype of the space");
    let request = LayoutRequest {
        input: Shape { extent: Extent::Image { height: side, width: side }, channels: 3 },
        classes: 10,
        phase: Phase::Train,
        channels: Some(4),
        cells: Some(1),
    };
    let supernet = space.layout(&request, &catalog).expect("the space fits");
    let layout = supernet.child(&genotype).expect("the genotype fits");
    let cost = layout.cost(&catalog).expect("it was laid out");
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (network, params) =
        Network::new(layout, &catalog, DType::F32, &Device::Cpu, &mut rng).expect("it can be built");
    let blueprint = network.blueprint(&params).expect("every operation sketches itself");
    let values = params.tensors().map(|(name, value)| (name, value.clone())).collect();
    (Trained::new(blueprint, values).expect("names differ"), genotype, cost)
}

const CELL: &str = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|";

fn graph(norms: BatchNorms) -> (Graph, Cost) {
    let (trained, genotype, cost) = trained("nas-bench-201", CELL, 9);
    let model = model(&genotype, &ModelCard::default(), &trained, norms).expect("a model");
    (model.graph.expect("a graph"), cost)
}

fn elements(graph: &Graph, name: &str) -> u64 {
    let constant = graph.initializer.iter().find(|constant| constant.name == name).expect("it is there");
    constant.dims.iter().product::<i64>() as u64
}

fn count(graph: &Graph, operator: &str) -> usize {
    graph.node.iter().filter(|node| node.op_type == operator).count()
}

#[test]
fn a_model_holds_as_many_weights_as_were_counted() {
    let (graph, cost) = graph(BatchNorms::Kept);
    let statistic = |name: &str| name.ends_with(".running_mean") || name.ends_with(".running_var");
    let numbers = graph.initializer.iter().filter(|one| one.data_type == 1 && !statistic(&one.name));
    let found: u64 = numbers.map(|one| one.dims.iter().product::<i64>() as u64).sum();
    assert_eq!(found, cost.params);
}

/// 9×9, 5×5 and 3×3 positions: a weight of a convolution works once at each of its outputs.
#[test]
fn a_model_multiplies_as_often_as_was_counted() {
    let (graph, cost) = graph(BatchNorms::Kept);
    let pixels = |name: &str| {
        let at = |block: &str| name.starts_with(block);
        // stem, cell 0 | block 1, cell 1 | block 3, cell 2
        if at("cells.1") || at("blocks.1") {
            25
        } else if at("cells.2") || at("blocks.3") {
            9
        } else {
            81
        }
    };
    let weighted = graph.node.iter().filter(|node| node.op_type == "Conv");
    let convolutions: u64 = weighted.map(|node| elements(&graph, &node.input[1]) * pixels(&node.name)).sum();
    let classifier = elements(&graph, "head.fc.weight");
    assert_eq!(convolutions + classifier, cost.macs);
}

#[test]
fn folding_leaves_the_batch_norms_that_no_convolution_precedes() {
    let (kept, folded) = (graph(BatchNorms::Kept).0, graph(BatchNorms::Folded).0);
    assert_eq!(count(&folded, "BatchNormalization"), 1); // in front of the head's ReLU
    assert_eq!(count(&kept, "Conv"), count(&folded, "Conv"));
    // Of a cell three convolutions, of a block two, and the stem.
    assert_eq!(count(&kept, "BatchNormalization"), 1 + 3 * 3 + 2 * 2 + 1);
}

#[test]
fn every_name_is_given_once_and_before_it_is_used() {
    let (graph, _) = graph(BatchNorms::Kept);
    let constants = graph.initializer.iter().map(|constant| constant.name.clone());
    let mut known: std::collections::BTreeSet<String> = constants.chain(["input".to_owned()]).collect();
    for node in &graph.node {
        assert!(node.input.iter().all(|name| known.contains(name)), "{node:?}");
        assert!(node.output.iter().all(|name| known.insert(name.clone())), "{node:?}");
    }
    assert!(known.contains("logits"));
}

#[test]
fn a_missing_value_is_named() {
    let (trained, genotype, _) = trained("nas-bench-201", CELL, 8);
    let values = trained.values().iter().filter(|(name, _)| name != "head.fc.bias").cloned().collect();
    let torn = Trained::new(trained.blueprint().expect("it is told").clone(), values).expect("names differ");
    let error =
        model(&genotype, &ModelCard::default(), &torn, BatchNorms::Kept).expect_err("a value is missing");
    assert_eq!(error.to_string(), "tensor `head.fc.bias`: missing; expected every value of the network");
}
